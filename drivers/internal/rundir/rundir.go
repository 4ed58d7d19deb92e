//go:build linux

// Package rundir is where drivers keep what belongs to running machines: a directory for each, below one that is closed to other
// users, held by a lock. Who has the lock may change the machine; who has not may read what is there.
package rundir

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a unix socket, in bytes.
const maxSocketPath = 107

// lockFile is the name of the lock in a machine's directory.
const lockFile = "lock"

// Default is where the machines' runtime directories are if nobody says otherwise.
func Default() string {
	return defaultOf(os.Geteuid(), "/run")
}

// defaultOf is the default for a user. It is the same in every session of theirs, so it depends on no variable of the
// environment. run is /run.
func defaultOf(uid int, run string) string {
	if uid == 0 {
		return filepath.Join(run, "machineries")
	}
	dir := filepath.Join(run, "user", strconv.Itoa(uid))
	if info, err := os.Lstat(dir); err == nil && info.IsDir() && Owner(info) == uid {
		return filepath.Join(dir, "machineries")
	}
	return fmt.Sprintf("/tmp/machineries-%d", uid)
}

// Make makes the directory, if need be, and returns its path without symbolic links. It refuses one that others
// could use to give this driver sockets and locks of their own. What it refuses it has not made.
// socket is the longest name of a socket that the driver has in a machine's directory, empty if it has none: a path may be too long for
// one.
func Make(path, socket string) (string, error) {
	path, err := Check(path, socket)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	if err := CheckPrivate(path); err != nil {
		return "", err
	}
	return path, nil
}

// Check is Make without making anything: it says whether the directory, or what it is to be made in, is fit for it. What it takes may
// still fail to be made.
func Check(path, socket string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("it has to be an absolute path; a relative one is another directory in each working directory, and programs in two of them would not see each other's machines")
	}
	path = filepath.Clean(path)
	switch err := CheckPrivate(path); {
	case err == nil:
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return "", &os.PathError{Op: "write to", Path: path, Err: err}
		}
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	above, missing := filepath.Dir(path), ""
	for {
		there, err := filepath.EvalSymlinks(above)
		if err == nil {
			above = there
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		above, missing = filepath.Dir(above), filepath.Join(filepath.Base(above), missing)
	}
	for dir := above; ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			return "", err
		}
		if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
			return "", fmt.Errorf("%s, in which it is, may be written to by everybody, so that it could be replaced", dir)
		}
		if uid := Owner(info); uid != 0 && uid != os.Geteuid() {
			return "", fmt.Errorf("%s, in which it is, belongs to user %d, who could replace it; use a directory below those of root and of this user (%d) alone", dir, uid, os.Geteuid())
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	path = filepath.Join(above, missing, filepath.Base(path))
	if sample := filepath.Join(path, strings.Repeat("0", KeyLength), socket); socket != "" && len(sample) > maxSocketPath {
		return "", fmt.Errorf("its path is %d bytes too long: sockets like %s may have %d bytes; use a shorter one", len(sample)-maxSocketPath, sample, maxSocketPath)
	}
	return path, nil
}

// CheckPrivate refuses what is not a directory of this user alone.
func CheckPrivate(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link, which could lead elsewhere at any time; name the directory itself", path)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case Owner(info) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to this one (%d)", path, Owner(info), os.Geteuid())
	case info.Mode()&os.ModeSticky != 0 || path == "/":
		return fmt.Errorf("%s is for all users (mode %04o); use a directory of its own, such as %s", path, info.Mode().Perm(), filepath.Join(path, "machineries"))
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %#o); close it with chmod 700", path, info.Mode().Perm())
	}
	return nil
}

// Owner is the user that a file belongs to; -1 if that is not known.
func Owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// KeyLength is the number of hex digits of a machine's key.
const KeyLength = 16

// Key names a machine's files by its name and by where its configuration is: two programs with the same configuration
// mean the same machine, whatever has become of the files that it names, and no two machines' names become one, whatever
// characters they have.
func Key(name, where string) string {
	h := sha256.New()
	for _, s := range []string{name, where} {
		fmt.Fprintf(h, "%d:%s,", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))[:KeyLength]
}

// Hold is the right to change a machine: its directory, locked.
type Hold struct {
	// Path is the directory's path.
	Path string
	// Dir is the directory itself.
	Dir *os.Root

	lock *os.File
}

// HeldError says that another driver holds the machine.
type HeldError struct {
	// PID is its process; 0 if that is not known.
	PID int
}

func (e *HeldError) Error() string {
	switch e.PID {
	case 0:
		return "the machine is busy: another driver holds it"
	case os.Getpid():
		return fmt.Sprintf("the machine is busy: another driver in this process (%d) holds it", e.PID)
	}
	return fmt.Sprintf("the machine is busy: process %d holds it", e.PID)
}

// orphanTime is how long a lock is waited for whose holder has died. What it was just starting has the lock too, between fork and exec, which takes less than a
// millisecond on a host that is not busy.
const orphanTime = time.Second

// Acquire takes the lock of the machine whose runtime directory is path, and makes the directory if it is not there. The
// error is a *HeldError if another driver has it. One that was killed while it started a program may have it for a moment still; that is waited for.
func Acquire(path string) (*Hold, error) {
	began := time.Now()
	for {
		h, err := tryAcquire(path)
		held, is := errors.AsType[*HeldError](err)
		switch {
		case errors.Is(err, errVanished):
			// Whoever lets go of a machine that is off removes lock and directory while it still has the lock. What was opened
			// just before that is not in the file system any more, and is tried again.
		case is && hasDied(held.PID) && time.Since(began) < orphanTime:
			time.Sleep(time.Millisecond) // flock has no deadline, and nothing else tells that a lock is free
		default:
			return h, err
		}
	}
}

// hasDied is whether there is no such process. One in another namespace looks the same.
func hasDied(pid int) bool { return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

var errVanished = errors.New("the directory was removed meanwhile")

func tryAcquire(path string) (_ *Hold, err error) {
	made := os.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	if err := CheckPrivate(path); err != nil {
		return nil, vanished(err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, vanished(err)
	}
	h := &Hold{Path: path, Dir: dir}
	defer func() {
		if err != nil {
			h.Unlock()
		}
	}()
	h.lock, err = dir.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		if made == nil {
			_ = os.Remove(path) // as on a full disk; it is not empty if another driver was quicker with its lock
		}
		return nil, vanished(err)
	}
	if err := unix.Flock(int(h.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &HeldError{PID: holder(h.lock)}
		}
		return nil, fmt.Errorf("%s cannot be locked: %w", h.lock.Name(), err)
	}
	if !h.inPlace() {
		return nil, errVanished
	}
	// For others to see. On a full disk they do not, and the machine can still be stopped.
	_ = h.lock.Truncate(0)
	_, _ = h.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return h, nil
}

// vanished is err, or errVanished if something was removed that was there a moment ago.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errVanished
	}
	return err
}

// inPlace is whether the locked file and the directory are still the ones that their paths lead to.
func (h *Hold) inPlace() bool {
	same := func(a, b fs.FileInfo, errA, errB error) bool {
		return errA == nil && errB == nil && os.SameFile(a, b)
	}
	mine, err := h.lock.Stat()
	there, err2 := h.Dir.Lstat(lockFile)
	if !same(mine, there, err, err2) {
		return false
	}
	mine, err = h.Dir.Stat(".")
	there, err2 = os.Lstat(h.Path)
	return same(mine, there, err, err2)
}

// holder reads from a lock file who holds it; 0 if that is not known.
func holder(f *os.File) int {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	return pid
}

// Held is who holds the machine whose runtime directory is path: a process id, 0 for one not known; false if nobody does. It
// changes nothing.
func Held(path string) (pid int, is bool) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	// To try the lock would make a driver that wants it in this very moment find it held; the kernel's table does not.
	if !flocked(f) {
		return 0, false
	}
	return holder(f), true
}

// flocked is whether anybody holds a lock on the file, by the kernel's table of locks.
func flocked(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	table, err := os.ReadFile("/proc/locks")
	if err != nil {
		return false
	}
	// 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(s.Dev), unix.Minor(s.Dev), s.Ino)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) >= 6 && fields[1] == "FLOCK" && fields[5] == want {
			return true
		}
	}
	return false
}

// Remove takes the directory away with these files in it, as far as they are there, the lock last, and lets go of it.
func (h *Hold) Remove(files ...string) error {
	var failed []error
	for _, name := range append(files, lockFile) {
		if err := h.Dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	// Not empty if the next one has made its lock already; then it is the next one's.
	if err := os.Remove(h.Path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		failed = append(failed, err)
	}
	h.Unlock()
	return errors.Join(failed...)
}

// Unlock lets go of the lock and leaves everything in place.
func (h *Hold) Unlock() {
	if h.lock != nil {
		// A process that is being started beside this has a copy of the descriptor until it becomes another program, and would
		// keep the lock for that long.
		_ = unix.Flock(int(h.lock.Fd()), unix.LOCK_UN)
		h.lock.Close()
	}
	h.Dir.Close()
}
