package labkit

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unread is how much of what was written to a socket the other side has not read.
func Unread(c net.Conn) (n int, err error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	if control := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); control != nil {
		return 0, control
	}
	return n, err
}
