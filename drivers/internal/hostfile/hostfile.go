//go:build linux

// Package hostfile looks at files that a configuration names: whether they are what they are to be, and whether they are still the same. What it
// opens it never waits for, as a pipe that nobody writes to would make it.
package hostfile

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a file for reading that must be a regular one: a directory, a device or a pipe without a writer would
// keep a driver waiting, or feed it without end.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: path, Err: fmt.Errorf("not a regular file but %s", kindOf(info.Mode()))}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// CheckProgram is whether this process may execute a file. Whether it is the right program shows when it is started.
func CheckProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is %s, not a program", path, kindOf(info.Mode()))
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "execute", Path: path, Err: err}
	}
	return nil
}

// IsThere is whether there is anything at a path, a symbolic link to nowhere too.
func IsThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// kindOf is what a file is, in words.
func kindOf(mode os.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&os.ModeDevice != 0:
		return "a device"
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	}
	return "something else"
}

// Identity tells one content of a file from another, as far as a file system says without the file being read. Who writes to a
// file and sets its time back is not noticed by it.
type Identity struct {
	dev, ino uint64
	// Size is in bytes.
	Size int64
	// Modified is when it was written to last, in UTC.
	Modified time.Time
}

// IdentityOf is the identity of a file of which Stat says this.
func IdentityOf(info os.FileInfo) Identity {
	id := Identity{Size: info.Size(), Modified: info.ModTime().UTC()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(s.Dev), s.Ino
	}
	return id
}

// Identify is the identity of the file at a path.
func Identify(path string) (Identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Identity{}, err
	}
	return IdentityOf(info), nil
}

// ChangeTo is what is different about a file that is now something else, as "it had 5 bytes and has 6".
func (before Identity) ChangeTo(now Identity) string {
	const layout = "2006-01-02 15:04:05.000"
	switch {
	case before.Size != now.Size:
		return fmt.Sprintf("it had %d bytes and has %d", before.Size, now.Size)
	case !before.Modified.Equal(now.Modified):
		return fmt.Sprintf("it was written to at %s, and before that at %s", now.Modified.Local().Format(layout), before.Modified.Local().Format(layout))
	}
	return "it was replaced by another file"
}
