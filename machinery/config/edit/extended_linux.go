package edit

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// accessList is the attribute that holds a file's access control list.
const accessList = "system.posix_acl_access"

// copyExtended gives a new file the extended attributes of the old. Those that only the system itself may set are left out
// where it does not let this user; that does not go for the access control list, nor for attributes of users.
func copyExtended(old string, file *os.File) error {
	names, err := extended(func(b []byte) (int, error) { return unix.Listxattr(old, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	listed := false
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		name := string(name)
		if name == "" {
			continue
		}
		listed = listed || name == accessList
		value, err := extended(func(b []byte) (int, error) { return unix.Getxattr(old, name, b) })
		if err == nil {
			err = unix.Fsetxattr(int(file.Fd()), name, value, 0)
		}
		if err != nil && (name == accessList || strings.HasPrefix(name, "user.")) {
			return err
		}
	}
	if !listed {
		// The directory may have given the new file a list that the old does not have.
		err := unix.Fremovexattr(int(file.Fd()), accessList)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
	}
	return nil
}

// extended reads what may have grown between asking for its size and for itself.
func extended(read func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := read(nil)
		if err != nil || size == 0 {
			return nil, err
		}
		buffer := make([]byte, size)
		n, err := read(buffer)
		if errors.Is(err, unix.ERANGE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buffer[:n], nil
	}
}
