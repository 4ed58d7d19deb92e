//go:build linux

// Package outfile makes files that are there whole or not at all, for what drivers write on a caller's behalf, and says beforehand whether
// they can be made.
package outfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Target is a file that is to be there whole or not at all. Until it is published it has no name, or, on file systems where every
// file needs one, a hidden one beside its own.
type Target struct {
	path string
	// File is open for reading and writing until Publish or Drop.
	File *os.File
	temp string // the hidden name; empty for none
}

// New begins a file at path, at which there must be nothing. Only its owner can read it.
func New(path string) (*Target, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: unix.EEXIST}
	}
	t := &Target{path: path}
	dir := filepath.Dir(path)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch {
	case err == nil:
		t.File = os.NewFile(uintptr(fd), path)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EINVAL): // says open(2)
		if err := t.hide(); err != nil {
			return nil, err
		}
	default:
		return nil, &os.PathError{Op: "create a file in", Path: dir, Err: err}
	}
	if err := t.File.Chmod(0o600); err != nil { // whatever the umask leaves
		t.Drop()
		return nil, err
	}
	return t, nil
}

// Of is a file that is there already under a hidden name, and is to be path once it is published.
func Of(path string, file *os.File) *Target {
	return &Target{path: path, File: file, temp: file.Name()}
}

// hide begins the file under a hidden name.
func (t *Target) hide() (err error) {
	dir, name := filepath.Split(t.path)
	if t.File, err = os.CreateTemp(dir, "."+Shortened(name)+".*.part"); err == nil {
		t.temp = t.File.Name()
		return nil
	}
	if e, is := errors.AsType[*os.PathError](err); is {
		return &os.PathError{Op: "create a file in", Path: filepath.Clean(dir), Err: e.Err} // nobody has named the hidden one
	}
	return err
}

// Shortened leaves room in a file's name for what is put around it.
func Shortened(name string) string { return name[:min(len(name), 200)] }

// lateFileSystems take what is written and say only later, when it is synced, that it could not be stored.
var lateFileSystems = []int64{
	unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC,
	unix.CODA_SUPER_MAGIC, unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC,
}

// Late is whether the file has to be synced for it to be known that all of it was stored.
func (t *Target) Late() bool {
	var system unix.Statfs_t
	err := unix.Fstatfs(int(t.File.Fd()), &system)
	return err != nil || slices.Contains(lateFileSystems, system.Type)
}

// syncPart is how much is written to disk at once. Between two parts a context is looked at: at 100 MB/s, every second.
const syncPart = 64 << 20

// Sync writes the file to disk, for as long as ctx lets it.
func (t *Target) Sync(ctx context.Context) error {
	info, err := t.File.Stat()
	if err != nil {
		return err
	}
	const begin = unix.SYNC_FILE_RANGE_WRITE
	const finish = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	fd := int(t.File.Fd())
	for at := int64(0); at < info.Size() && ctx.Err() == nil; at += syncPart {
		// The disk has the next part already when this one is waited for.
		err := unix.SyncFileRange(fd, at, 2*syncPart, begin)
		if err == nil {
			err = unix.SyncFileRange(fd, at, syncPart, finish)
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) || errors.Is(err, unix.ENOSYS) {
			break // not on this file system; what follows does it
		}
		if err != nil {
			return &os.PathError{Op: "sync", Path: t.path, Err: err}
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.File.Sync()
}

// Publish gives the file its name, unless something has it. Its content is durable if it was synced before.
func (t *Target) Publish() error {
	var err error
	if t.temp == "" {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", t.File.Fd()), unix.AT_FDCWD, t.path, unix.AT_SYMLINK_FOLLOW)
	} else {
		err = unix.Renameat2(unix.AT_FDCWD, t.temp, unix.AT_FDCWD, t.path, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			if err = unix.Link(t.temp, t.path); err == nil {
				err = unix.Unlink(t.temp)
			}
		}
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: t.path, Err: err}
	}
	t.temp = ""
	return t.File.Close()
}

// Drop lets go of a file that was not published; nothing is left of it once nobody has it open any more.
func (t *Target) Drop() {
	if t.temp != "" {
		_ = os.Remove(t.temp)
	}
	t.File.Close()
}

// Spoil makes the next write fail of whoever got the file's descriptor from here: both share one offset, which is moved to where no
// file of this file system can reach. (QEMU 7.2.22, that was writing a memory dump, ended it with "File too large" at once.)
func (t *Target) Spoil() {
	// There is no way to ask for the last offset, but the kernel refuses those beyond it.
	first, last := int64(0), int64(math.MaxInt64)
	for first < last {
		middle := last - (last-first)/2
		if _, err := t.File.Seek(middle, 0); err == nil {
			first = middle
		} else {
			last = middle - 1
		}
	}
	_, _ = t.File.Seek(first, 0)
}

// FreePath is nil if a file can be made at path, at which there is nothing. It makes none that has a name.
func FreePath(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = &os.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
		return err
	}
	return WritableDir(filepath.Dir(path))
}

// WritableDir is whether files can be made in a directory, or why not.
func WritableDir(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = &os.PathError{Op: "use", Path: dir, Err: unix.ENOTDIR}
	}
	if err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// RealPath is a path without symbolic links, as far as the file is there.
func RealPath(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}
