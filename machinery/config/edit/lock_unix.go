//go:build unix

package edit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lock keeps other programs of this project from editing files of a directory. It is on the directory itself: a lock on
// the file would be lost when another takes its place, and a lock file would have to stay behind.
type lock struct {
	dir       *os.File
	exclusive bool // not on file systems that have no locks, such as some that are on a network
}

// lockDirectory waits so long for others.
func lockDirectory(path string, patience time.Duration) (*lock, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the directory %s cannot be opened, which locking needs: %w", path, reason(err))
	}
	for deadline := time.Now().Add(patience); ; {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return &lock{dir, true}, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return &lock{dir, false}, nil // Save still finds a file that has changed
		case time.Now().After(deadline):
			dir.Close()
			return nil, fmt.Errorf("another program has been editing files in %s for %v; try again when it has ended", path, patience)
		}
		time.Sleep(lockPause) // the kernel tells nobody when a lock is released, but who waits in it, and that wait has no deadline
	}
}

func (l *lock) release() { l.dir.Close() }

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // which is "not on this file system"
		return err
	}
	return nil
}

// mayReplace is an error if the file should rather not be replaced by another of the same name.
func (f *File) mayReplace() error {
	if err := unix.Faccessat(unix.AT_FDCWD, f.disk.path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s cannot be written, and is as it was: this user (uid %d) has no right to write to it: %w; its mode is %v",
			f.name, os.Geteuid(), err, f.disk.info.Mode())
	}
	if s, is := f.disk.info.Sys().(*syscall.Stat_t); is && s.Nlink > 1 {
		return fmt.Errorf("%s cannot be written, and is as it was: the file has %d names (hard links), and only this one would get the new text; "+
			"make it a file of its own, with cp and mv, and make the others symbolic links to it", f.name, s.Nlink)
	}
	return nil
}

// keepAttributes gives a new file the owner, mode and attributes of the old.
func (f *File) keepAttributes(file *os.File) error {
	old, is := f.disk.info.Sys().(*syscall.Stat_t)
	info, err := file.Stat()
	if err != nil {
		return reason(err)
	}
	made, also := info.Sys().(*syscall.Stat_t)
	if !is || !also {
		return errors.New("its owner cannot be found out")
	}
	if old.Uid != made.Uid || old.Gid != made.Gid {
		if err := file.Chown(int(old.Uid), int(old.Gid)); err != nil {
			return fmt.Errorf("it belongs to user %d and group %d, and this user (uid %d) cannot keep it so: %w; run the command as the file's owner or as root",
				old.Uid, old.Gid, os.Geteuid(), reason(err))
		}
	}
	const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	if err := file.Chmod(f.disk.info.Mode() & (fs.ModePerm | special)); err != nil {
		return reason(err)
	}
	if err := copyExtended(f.disk.path, file); err != nil {
		return fmt.Errorf("its access control list or other attributes cannot be kept: %w", err)
	}
	return nil
}
