package vmcloak

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Machine is a machine in its directory.
type Machine struct {
	Info
	// Dir is its directory, InfoPath, DiskPath and SnapshotPath are its files: absolute, with symbolic links as they were named.
	Dir, InfoPath, DiskPath, SnapshotPath string
}

// Find is the directories of machines at a path, absolute and sorted: the path itself if it is one, and those in it that are. It is an
// error if there is none.
func Find(path string) ([]string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, denied(abs, err)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be opened: %w", path, reason(err))
	case !info.IsDir():
		if filepath.Base(abs) == InfoName {
			return []string{filepath.Dir(abs)}, nil
		}
		return nil, fmt.Errorf("%s is not a directory; name that of a machine, with its %s, or one of such directories", path, InfoName)
	}
	var dirs []string
	if hasInfo(abs) {
		dirs = append(dirs, abs)
	}
	entries, err := os.ReadDir(abs)
	if err != nil && len(dirs) == 0 {
		return nil, denied(abs, err)
	}
	for _, e := range entries { // sorted
		if dir := filepath.Join(abs, e.Name()); hasInfo(dir) {
			dirs = append(dirs, dir)
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("there is no %s in %s, nor in a directory in it; VMCloak's machines are in ~/.vmcloak/vms/qemu (of libvirt and VirtualBox it writes none, and such machines cannot be imported)", InfoName, path)
	}
	return dirs, nil
}

// hasInfo is whether a directory is a machine's, or may be and cannot be looked into.
func hasInfo(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, InfoName))
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// Read reads the machineinfo.json of a machine's directory. The errors are those of Parse, and of the operating system, with owner and
// user where a right is missing.
func Read(dir string) (*Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, InfoName)
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, reason(err))
	}
	info, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	return &Machine{
		Info: *info,
		Dir:  dir, InfoPath: path, DiskPath: filepath.Join(dir, info.Disk), SnapshotPath: filepath.Join(dir, info.Snapshot),
	}, nil
}
