package edit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// ErrChanged is what Save's error wraps if the file is no longer what was opened.
var ErrChanged = errors.New("the file was changed meanwhile")

// disk is the file that a File was read from.
type disk struct {
	given, path string // as it was given, and where symbolic links lead to
	info        fs.FileInfo
	data        []byte
	held        *lock // by Update; nil if Save has to lock
}

// Open reads the file at path, which must be a regular file of at most config.MaxSize bytes; a symbolic link is followed.
// The errors are the operating system's, and those of Parse.
func Open(path string, s *config.Schema) (*File, error) {
	d, err := readDisk(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(path, d.data, s)
	if err != nil {
		return nil, err
	}
	f.disk = d
	return f, nil
}

// Update opens the file at path, lets edit change it, and saves it, with the directory locked all the while: of several
// updates at once each sees what the one before it has written. An error of edit is returned as it is, and nothing is
// written. It waits up to ten seconds for others.
func Update(path string, s *config.Schema, edit func(*File) error) error {
	real, err := realPath(path)
	if err != nil {
		return err
	}
	held, err := lockDirectory(filepath.Dir(real), lockPatience)
	if err != nil {
		return err
	}
	defer held.release()
	f, err := Open(path, s)
	if err != nil {
		return err
	}
	if filepath.Dir(f.disk.path) != filepath.Dir(real) {
		return f.changed("the symbolic link leads somewhere else now")
	}
	f.disk.held = held
	defer func() { f.disk.held = nil }()
	if err := edit(f); err != nil {
		return err
	}
	return f.Save()
}

// Save writes the file, if there was an edit: to a temporary file in the same directory, which then takes its place, so that
// there is always either the old file or the new one, whole, whatever happens. Owner, group, mode and, where the system
// lets it, access control lists and extended attributes are kept. A symbolic link stays one.
//
// The error wraps ErrChanged if the file is no longer what was opened, or what Save last wrote. After an error the
// old file is there as it was, unless the error says otherwise. Temporary files of programs that were killed are removed.
func (f *File) Save() error {
	if f.disk == nil {
		return fmt.Errorf("%s was not read from a file, so it cannot be saved to one", f.name)
	}
	if bytes.Equal(f.now.data, f.disk.data) {
		return nil
	}
	dir := filepath.Dir(f.disk.path)
	if f.disk.held == nil {
		held, err := lockDirectory(dir, lockPatience)
		if err != nil {
			return err
		}
		defer held.release()
		f.disk.held = held
		defer func() { f.disk.held = nil }()
	}
	if err := f.unchanged(); err != nil {
		return err
	}
	if err := f.mayReplace(); err != nil {
		return err
	}
	f.removeLeftOvers()
	temporary, err := f.writeBeside()
	if err != nil {
		return err
	}
	if err := f.replace(temporary); err != nil {
		os.Remove(temporary)
		return err
	}
	if err := syncDirectory(dir); err != nil {
		return fmt.Errorf("%s is written, but may be lost if the power fails now: %w", f.name, reason(err))
	}
	written, err := readDisk(f.disk.given)
	if err != nil {
		return fmt.Errorf("%s is written, but cannot be read again: %w", f.name, err)
	}
	written.held = f.disk.held
	f.disk = written
	return nil
}

func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return "", fmt.Errorf("the configuration file %s cannot be opened: %w", path, reason(err))
	}
	return real, nil
}

// readDisk reads a regular file of bounded size.
func readDisk(path string) (*disk, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, err
	}
	// Opening a named pipe would wait for somebody who writes to it.
	file, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("the configuration file %s cannot be opened: %w", path, reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file, so there is no configuration in it that could be edited", path)
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(file, config.MaxSize+1))
	}
	if err != nil {
		return nil, fmt.Errorf("the configuration file %s cannot be read: %w", path, reason(err))
	}
	return &disk{given: path, path: real, info: info, data: data}, nil
}

// unchanged is an error if the file is not what was read.
func (f *File) unchanged() error {
	now, err := readDisk(f.disk.given)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f.changed("it is gone")
	case err != nil:
		return err
	case now.path != f.disk.path:
		return f.changed("the symbolic link leads somewhere else now")
	case !sameFile(now.info, f.disk.info) || !bytes.Equal(now.data, f.disk.data):
		return f.changed("another program has written it")
	}
	return nil
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (f *File) changed(how string) error {
	return fmt.Errorf("%s: %w (%s); nothing was written: run the command again", f.name, ErrChanged, how)
}

// temporaryMark is in the names of temporary files, between the name of the file and a random number.
const temporaryMark = ".machineries-"

// temporaryPrefix is what the names of this file's temporary files begin with.
func (f *File) temporaryPrefix() string {
	const longest = 200 // names have at most 255 bytes
	base := filepath.Base(f.disk.path)
	return "." + base[:min(len(base), longest)] + temporaryMark
}

// removeLeftOvers removes temporary files of programs that were killed. Whoever else edits this file waits for the lock, so
// none is in use. One that cannot be removed does no harm.
func (f *File) removeLeftOvers() {
	if !f.disk.held.exclusive {
		return
	}
	dir := filepath.Dir(f.disk.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		number, is := strings.CutPrefix(e.Name(), f.temporaryPrefix())
		if _, err := hex.DecodeString(number); is && err == nil && len(number) == 2*randomBytes && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// randomBytes is how long the random number in a temporary file's name is.
const randomBytes = 8

// writeBeside writes the new text, with the old file's owner, mode and attributes, to a temporary file beside it.
func (f *File) writeBeside() (temporary string, err error) {
	number := make([]byte, randomBytes)
	rand.Read(number)
	dir := filepath.Dir(f.disk.path)
	path := filepath.Join(dir, f.temporaryPrefix()+hex.EncodeToString(number))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		hint := ""
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			hint = "; the new text is written beside the old file before it takes its place, which needs the right to write to the directory"
		}
		return "", fmt.Errorf("%s cannot be written, and is as it was: no file can be made in %s: %w%s", f.name, dir, reason(err), hint)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(path)
			err = fmt.Errorf("%s cannot be written, and is as it was: %w", f.name, err)
		}
	}()
	if _, err := file.Write(f.now.data); err != nil {
		return "", reason(err)
	}
	if err := f.keepAttributes(file); err != nil {
		return "", err
	}
	if err := file.Sync(); err != nil {
		return "", reason(err)
	}
	if err := file.Close(); err != nil {
		return "", reason(err)
	}
	return path, nil
}

// replace puts the temporary file where the old one is, unless that has changed at the last moment.
func (f *File) replace(temporary string) error {
	if now, err := os.Lstat(f.disk.path); err != nil || !sameFile(now, f.disk.info) {
		return f.changed("another program has written it")
	}
	err := os.Rename(temporary, f.disk.path)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%s cannot be written, and is as it was: it is a mount point, which no other file can take the place of; edit it where it is mounted from", f.name)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written, and is as it was: %w", f.name, reason(err))
	}
	return nil
}

// reason is an error without the path, which the message has already.
func reason(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

// How long a lock is waited for, and how long until the next try.
const (
	lockPatience = 10 * time.Second
	lockPause    = 10 * time.Millisecond
)
