//go:build linux

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/qcow2"
	"golang.org/x/sys/unix"
)

// QEMU says by locks on single bytes of an image what it does with it: byte lockFirst+n is locked by who uses permission n, and
// byte lockFirst+100+n by who does not let others use it. (Seen on QEMU 7.2.22, and the same in all since 2.10.)
const (
	// writeByte is that of the permission to write.
	writeByte = lockFirst + 1
	// ownByte is locked by a driver from making a disposable disk until QEMU has its locks on it, which is when the snapshot is
	// loaded. It is behind all of QEMU's.
	ownByte = lockFirst + 300
)

// errImageInUse says that a QEMU, or another driver, has an image.
var errImageInUse = errors.New("something uses it")

// lockSeen finds a lock of somebody else on some bytes of a file, without changing anything. The error is the file system's,
// which may have no such locks.
func lockSeen(f *os.File, first, length int64) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: first, Len: length}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK, err
}

// releaseImage ends takeImage; nil is nothing. The lock is taken off before the file is closed, because a process that is being
// started beside this has a copy of the descriptor until it becomes another program.
func releaseImage(f *os.File) {
	if f == nil {
		return
	}
	lock := unix.Flock_t{Type: unix.F_UNLCK, Start: ownByte, Len: 1}
	_ = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	f.Close()
}

// takeImage takes a disposable disk for this driver, until releaseImage. The error is errImageInUse if somebody else has
// it. On a file system without locks nobody can tell, and it is taken.
func takeImage(path string) (*os.File, error) {
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
		return nil, errImageInUse
	}
	return f, nil
}

// refuseWritten refuses a base disk that somebody has open for writing, it or what it is based on: QEMU would load the snapshot
// and then fail to take the disk into use. It waits for nothing and takes no lock.
func refuseWritten(base string) error {
	chain, _ := qcow2.Chain(base) // what cannot be read of it QEMU says better
	for _, image := range chain {
		f, err := openRegular(image.Path)
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

// inactive says why a QEMU whose machine stands still after the load did not take its disks into use, or nothing. It then stands
// still because of that, however the machine was saved (seen on QEMU 7.2.22: no event, no error on the monitor, a line on its
// standard error).
func (v *vm) inactive(overlays []string, said string) string {
	for line := range strings.Lines(said) {
		if strings.Contains(line, "Failed to get ") && strings.Contains(line, " lock") {
			return "another process uses one of them"
		}
	}
	if v.args == nil {
		return ""
	}
	for _, arg := range v.args.args {
		if strings.Contains(arg, "locking") {
			return "" // QEMU may have been told to take no locks
		}
	}
	for _, overlay := range overlays {
		if unlocked(overlay) {
			return "it has no lock on the disposable disk " + overlay
		}
	}
	return ""
}

// unlocked is whether no QEMU has an image open, on a file system that could tell.
func unlocked(overlay string) bool {
	f, err := openRegular(overlay)
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
	b, err := openRegular(path)
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
