//go:build linux

package qemu

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

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a unix socket, in bytes.
const maxSocketPath = 107

// The files in a machine's runtime directory.
const (
	lockFile   = "lock"
	qmpSocket  = "qmp.sock"
	readSocket = "read.sock"
	stateFile  = "state.json"
	screenFile = "screen" // a picture, for as long as it takes to read it
)

// defaultRuntimeDir is where the machines' runtime directories are if nobody says otherwise.
func defaultRuntimeDir() string {
	return runtimeDirOf(os.Geteuid(), "/run")
}

// runtimeDirOf is the default for a user. It is the same in every session of theirs, so it depends on no variable of the
// environment. run is /run.
func runtimeDirOf(uid int, run string) string {
	if uid == 0 {
		return filepath.Join(run, "machineries")
	}
	dir := filepath.Join(run, "user", strconv.Itoa(uid))
	if info, err := os.Lstat(dir); err == nil && info.IsDir() && owner(info) == uid {
		return filepath.Join(dir, "machineries")
	}
	return fmt.Sprintf("/tmp/machineries-%d", uid)
}

// makeRuntimeDir makes the directory, if need be, and returns its path without symbolic links. It refuses one that others
// could use to give this driver sockets and locks of their own. What it refuses it has not made.
func makeRuntimeDir(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("it has to be an absolute path; a relative one is another directory in each working directory, and programs in two of them would not see each other's machines")
	}
	path = filepath.Clean(path)
	switch err := checkPrivate(path); {
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
		if uid := owner(info); uid != 0 && uid != os.Geteuid() {
			return "", fmt.Errorf("%s, in which it is, belongs to user %d, who could replace it; use a directory below those of root and of this user (%d) alone", dir, uid, os.Geteuid())
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	path = filepath.Join(above, missing, filepath.Base(path))
	if sample := filepath.Join(path, strings.Repeat("0", keyLength), readSocket); len(sample) > maxSocketPath {
		return "", fmt.Errorf("its path is %d bytes too long: sockets like %s may have %d bytes; use a shorter one", len(sample)-maxSocketPath, sample, maxSocketPath)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	if err := checkPrivate(path); err != nil {
		return "", err
	}
	return path, nil
}

// checkPrivate refuses what is not a directory of this user alone.
func checkPrivate(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link, which could lead elsewhere at any time; name the directory itself", path)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case owner(info) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, not to this one (%d)", path, owner(info), os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %#o); close it with chmod 700", path, info.Mode().Perm())
	}
	return nil
}

func owner(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}

// keyLength is the number of hex digits of a machine's key.
const keyLength = 16

// machineKey names a machine's files by its name and by where its configuration is: two programs with the same configuration
// mean the same machine, whatever has become of the files that it names, and no two machines' names become one, whatever
// characters they have.
func machineKey(name, where string) string {
	h := sha256.New()
	for _, s := range []string{name, where} {
		fmt.Fprintf(h, "%d:%s,", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil))[:keyLength]
}

// hold is the right to change a machine: its runtime directory, locked.
type hold struct {
	path string
	dir  *os.Root
	lock *os.File
}

// heldError says that another driver holds the machine.
type heldError struct{ pid int }

func (e *heldError) Error() string {
	switch e.pid {
	case 0:
		return "the machine is busy: another driver holds it"
	case os.Getpid():
		return fmt.Sprintf("the machine is busy: another driver in this process (%d) holds it", e.pid)
	}
	return fmt.Sprintf("the machine is busy: process %d%s holds it", e.pid, whatIs(e.pid))
}

// whatIs is the command line of a process in brackets, if it is the user's own: what others run is not told to everybody.
func whatIs(pid int) string {
	const most = 100
	if !ours(pid) {
		return ""
	}
	text := []rune(strings.Join(commandLine(pid), " "))
	switch {
	case len(text) == 0:
		return ""
	case len(text) > most:
		text = append(text[:most], '…')
	}
	return fmt.Sprintf(" (%s)", string(text))
}

// acquire takes the lock of the machine whose runtime directory is path, and makes the directory if it is not there. The
// error is a *heldError if another driver has it.
func acquire(path string) (*hold, error) {
	// Whoever lets go of a machine that is off removes lock and directory while it still has the lock. What was opened
	// just before that is not in the file system any more, and is tried again.
	for {
		h, err := tryAcquire(path)
		if errors.Is(err, errVanished) {
			continue
		}
		return h, err
	}
}

var errVanished = errors.New("the directory was removed meanwhile")

func tryAcquire(path string) (_ *hold, err error) {
	made := os.Mkdir(path, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	if err := checkPrivate(path); err != nil {
		return nil, vanished(err)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, vanished(err)
	}
	h := &hold{path: path, dir: dir}
	defer func() {
		if err != nil {
			h.unlock()
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
			return nil, &heldError{pid: holder(h.lock)}
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
func (h *hold) inPlace() bool {
	same := func(a, b fs.FileInfo, errA, errB error) bool {
		return errA == nil && errB == nil && os.SameFile(a, b)
	}
	mine, err := h.lock.Stat()
	there, err2 := h.dir.Lstat(lockFile)
	if !same(mine, there, err, err2) {
		return false
	}
	mine, err = h.dir.Stat(".")
	there, err2 = os.Lstat(h.path)
	return same(mine, there, err, err2)
}

// holder reads from a lock file who holds it; 0 if that is not known.
func holder(f *os.File) int {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	return pid
}

// held is who holds the machine whose runtime directory is path: a process id, 0 for one not known; false if nobody does. It
// changes nothing.
func held(path string) (pid int, is bool) {
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

// socket makes a listening socket in the directory. The caller hands it to QEMU and closes it; the file stays.
func (h *hold) socket(name string) (*os.File, error) {
	path := filepath.Join(h.path, name)
	if err := h.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("no socket can be made: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, fmt.Errorf("no socket can be made at %s: %w", path, err)
	}
	// Readers wait in the queue while another one is served.
	if err := unix.Listen(fd, 16); err != nil {
		f.Close()
		return nil, fmt.Errorf("no socket can be made at %s: %w", path, err)
	}
	return f, nil
}

// qmp is the path of the first monitor's socket.
func (h *hold) qmp() string { return filepath.Join(h.path, qmpSocket) }

// remove takes the directory and all that is in it away, the lock last, and lets go of it.
func (h *hold) remove() error {
	var failed []error
	for _, name := range []string{stateFile, stateFile + ".new", screenFile, qmpSocket, readSocket, lockFile} {
		if err := h.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	// Not empty if the next one has made its lock already; then it is the next one's.
	if err := os.Remove(h.path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		failed = append(failed, err)
	}
	h.unlock()
	return errors.Join(failed...)
}

// unlock lets go of the lock and leaves everything in place.
func (h *hold) unlock() {
	if h.lock != nil {
		// A process that is being started beside this has a copy of the descriptor until it becomes another program, and would
		// keep the lock for that long.
		_ = unix.Flock(int(h.lock.Fd()), unix.LOCK_UN)
		h.lock.Close()
	}
	h.dir.Close()
}
