//go:build linux

package disposable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/qcow2"
	"golang.org/x/sys/unix"
)

// QEMU says by locks on single bytes of an image what it does with it, by open file description locks: byte lockFirst+n is locked by who uses
// permission n, and byte lockFirst+100+n by who does not let others use it. (Seen on QEMU 7.2.22, and the same in all since 2.10.)
const (
	lockFirst, lockLength = 100, 165
	// writeByte is that of the permission to write, number 1.
	writeByte = lockFirst + 1
	// ownByte is locked by a driver from making a disposable disk until QEMU has its locks on it, which is when the snapshot is
	// loaded. It is behind all of QEMU's.
	ownByte = lockFirst + 300
)

// ErrInUse says that a QEMU, or another driver, has an image.
var ErrInUse = errors.New("something uses it")

// InUse is whether a QEMU has the image open, or a driver has just made it.
func InUse(path string) bool { return lockedAt(path, lockFirst, ownByte-lockFirst+1) }

// lockedAt is whether anybody has a lock on those bytes of a file.
func lockedAt(path string, start, length int64) bool {
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	used, _ := lockSeen(f, start, length)
	return used
}

// Written is whether a QEMU has the image open for writing. Readers do not count: machines elsewhere may have the same
// disk as their base.
func Written(path string) bool { return lockedAt(path, writeByte, 1) }

// lockSeen finds a lock of somebody else on some bytes of a file, without changing anything. The error is the file system's,
// which may have no such locks.
func lockSeen(f *os.File, first, length int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: first, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK, err
}

// Release ends Take; nil is nothing. The lock is taken off before the file is closed, because a process that is being
// started beside this has a copy of the descriptor until it becomes another program.
func Release(f *os.File) {
	if f == nil {
		return
	}
	lock := unix.Flock_t{Type: unix.F_UNLCK, Start: ownByte, Len: 1}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	f.Close()
}

// Take takes a disposable disk for this driver, until Release. The error is ErrInUse if somebody else has
// it. On a file system without locks nobody can tell, and it is taken.
func Take(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: ownByte, Len: 1}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	inUse := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)
	if !inUse {
		inUse, _ = lockSeen(f, lockFirst, lockLength)
	}
	// Whoever had it may have removed it just before it was locked here.
	mine, err := f.Stat()
	there, err2 := os.Lstat(path)
	if inUse || err != nil || err2 != nil || !os.SameFile(mine, there) {
		f.Close()
		return nil, ErrInUse
	}
	return f, nil
}

// RefuseWritten refuses a base disk that somebody has open for writing, it or what it is based on: QEMU would load the snapshot
// and then fail to take the disk into use. It waits for nothing and takes no lock.
func RefuseWritten(base string) error {
	chain, _ := qcow2.Chain(base) // what cannot be read of it QEMU says better
	for _, image := range chain {
		f, err := hostfile.OpenRegular(image.Path)
		if err != nil {
			continue
		}
		written, _ := lockSeen(f, writeByte, 1)
		pids := ""
		if written {
			pids = writers(f)
		}
		f.Close()
		if written {
			return fmt.Errorf("%s is open for writing in another QEMU or one of its tools%s; a machine's disk must not change while it runs", image.Path, pids)
		}
	}
	return nil
}

// writers names the processes that can be seen to have a file open for writing, with locks on it, as " (process 12)". The kernel
// does not say whose a lock of this kind is.
func writers(f *os.File) string {
	mine, err := f.Stat()
	if err != nil {
		return ""
	}
	var found []string
	for _, pid := range process.Processes() {
		dir := fmt.Sprintf("/proc/%d/", pid)
		open, _ := os.ReadDir(dir + "fd")
		for _, fd := range open {
			info, err := os.Stat(filepath.Join(dir, "fd", fd.Name()))
			if err != nil || !os.SameFile(info, mine) {
				continue
			}
			link, err := os.Lstat(filepath.Join(dir, "fd", fd.Name())) // its permissions are what the file is open for
			if err != nil || link.Mode().Perm()&0o200 == 0 {
				continue
			}
			if data, _ := os.ReadFile(filepath.Join(dir, "fdinfo", fd.Name())); bytes.Contains(data, []byte("lock:")) {
				found = append(found, fmt.Sprintf("process %d", pid))
				break
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found, ", ") + ")"
}

// Unlocked is whether no QEMU has an image open, on a file system that could tell.
func Unlocked(overlay string) bool {
	f, err := hostfile.OpenRegular(overlay)
	if err != nil {
		return false
	}
	defer f.Close()
	held, err := lockSeen(f, lockFirst, 2*100)
	return !held && err == nil && locksWork(overlay)
}

// locksWork is whether a file system shows one opener of a file the locks of another.
func locksWork(path string) bool {
	a, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer a.Close()
	b, err := hostfile.OpenRegular(path)
	if err != nil {
		return false
	}
	defer b.Close()
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: ownByte + 1, Len: 1}
	if err := unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		return false
	}
	seen, err := lockSeen(b, ownByte+1, 1)
	return seen && err == nil
}
