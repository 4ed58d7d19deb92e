package monitor

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// pendingBytes is how much the peer has written to conn that was not read.
func pendingBytes(t testing.TB, conn *net.UnixConn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Error(err)
		return 0
	}
	n := 0
	if cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil || err != nil {
		t.Error(cerr, err)
	}
	return n
}
