package monitor

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// errNoFile marks a failure that is the file's and not the connection's.
var errNoFile = errors.New("its file cannot be sent")

// sendFile writes buf, or the beginning of it, with a descriptor of file beside the first byte.
func sendFile(conn net.Conn, buf []byte, file *os.File) (n int, err error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%w: the monitor connection is a %T and not a unix socket", errNoFile, conn)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoFile, err)
	}
	// Control keeps the descriptor open while it is in use, and unlike Fd leaves its mode alone.
	controlErr := raw.Control(func(fd uintptr) {
		n, _, err = uc.WriteMsgUnix(buf, unix.UnixRights(int(fd)), nil)
	})
	if controlErr != nil {
		return 0, fmt.Errorf("%w: %w", errNoFile, controlErr)
	}
	if n <= 0 && errors.Is(err, unix.ETOOMANYREFS) {
		return 0, fmt.Errorf("%w: too many descriptors are on their way: %w", errNoFile, err)
	}
	return n, err
}
