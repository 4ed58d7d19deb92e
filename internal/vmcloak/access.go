package vmcloak

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// openRegular opens a regular file for reading. Whatever else is there is not waited for, as a pipe would make it.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, denied(path, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such file", path)
	case err != nil:
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// denied is err for people, with who owns what keeps this user from the path: the file, or a directory above it.
func denied(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s cannot be opened: %w", path, reason(err))
	}
	barrier, info := path, os.FileInfo(nil)
	for at := path; ; at = filepath.Dir(at) {
		found, err := os.Stat(at)
		if err == nil {
			// The deepest that can be looked at: it cannot be read, or what is in it cannot be reached.
			barrier, info = at, found
			break
		}
		if at == filepath.Dir(at) {
			return fmt.Errorf("%s cannot be read by %s: %w", path, me(), reason(err))
		}
	}
	s, is := info.Sys().(*syscall.Stat_t)
	if !is {
		return fmt.Errorf("%s cannot be read by %s: %w", path, me(), reason(err))
	}
	return fmt.Errorf("%s cannot be read: %s belongs to %s, mode %04o, and this runs as %s; run it as %[3]s, or let %[5]s read it (chown, chgrp or chmod): %w",
		path, barrier, userName(int(s.Uid)), info.Mode().Perm(), me(), reason(err))
}

// strangers are those of the paths that belong to another user than this one. Root's are left out: root can do all that an
// owner can, anyway.
func strangers(paths ...string) (owners map[string][]string) {
	owners = map[string][]string{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			continue // which is said where it is read
		}
		if s, is := info.Sys().(*syscall.Stat_t); is && s.Uid != 0 && int(s.Uid) != os.Geteuid() {
			name := userName(int(s.Uid))
			owners[name] = append(owners[name], path)
		}
	}
	return owners
}

// me is the effective user, whose rights count.
func me() string { return userName(os.Geteuid()) }

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (uid %d)", u.Username, uid)
	}
	return fmt.Sprintf("uid %d", uid)
}

// reason is the operating system's reason without the path, which the message has already.
func reason(err error) error {
	if e, is := errors.AsType[*fs.PathError](err); is {
		return e.Err
	}
	return err
}
