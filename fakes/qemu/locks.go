//go:build linux

package qemu

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Image locking as QEMU does it, so that the fake, the real emulator and the real
// qemu-img keep out of each other's images: open-file-description locks on single bytes. Byte 100+n
// is locked, for reading, by who uses permission n; byte 200+n by who does not
// let others use it. Seen in /proc/locks of QEMU 7.2.22.
const (
	lockUsed   = 100
	lockDenied = 200
)

// permissions by their bit, as QEMU's texts name them.
var permissionNames = []string{"consistent read", "write", "write unchanged", "resize"}

const (
	permRead   = 1 << 0
	permWrite  = 1 << 1
	permResize = 1 << 3
)

// locking is which permissions an image is opened with.
type locking struct {
	used, denied int
}

// How QEMU 7.2 locks: images with a format keep others from changing their size.
func lockingOf(format string, readOnly, attached bool) locking {
	l := locking{used: permRead}
	if format != "raw" {
		l.denied = permWrite | permResize
		if !readOnly {
			l.used |= permWrite | permResize
		}
		return l
	}
	if attached {
		l.denied = permWrite
		if !readOnly {
			l.used |= permWrite
		}
	}
	return l
}

// lockFile locks f and says who is in the way with QEMU's text.
func lockFile(f *os.File, name string, l locking) error {
	set := func(kind int16, at int64) error {
		lk := unix.Flock_t{Type: kind, Whence: 0, Start: at, Len: 1}
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	}
	held := func(at int64) bool {
		lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0, Start: at, Len: 1}
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk) == nil && lk.Type != unix.F_UNLCK
	}
	for i, perm := range permissionNames {
		for _, b := range []struct {
			mask   int
			base   int64
			shared string
		}{{l.used, lockUsed, ""}, {l.denied, lockDenied, "shared "}} {
			if b.mask&(1<<i) == 0 {
				continue
			}
			if err := set(unix.F_RDLCK, b.base+int64(i)); err != nil {
				return fmt.Errorf("Failed to get %s\"%s\" lock\nIs another process using the image [%s]?", b.shared, perm, name)
			}
		}
	}
	for i, perm := range permissionNames {
		if l.used&(1<<i) != 0 && held(lockDenied+int64(i)) {
			return fmt.Errorf("Failed to get \"%s\" lock\nIs another process using the image [%s]?", perm, name)
		}
	}
	for i, perm := range permissionNames {
		if l.denied&(1<<i) != 0 && held(lockUsed+int64(i)) {
			return fmt.Errorf("Failed to get shared \"%s\" lock\nIs another process using the image [%s]?", perm, name)
		}
	}
	return nil
}
