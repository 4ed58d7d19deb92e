package edit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/internal/require"
)

// mounted puts a small file system over a new directory.
func mounted(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestWhereNothingCanBeWrittenTheOldFileStaysAndNothingBesideIt(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	place := func(t *testing.T, dir string, size int) (path string, f *File) {
		path = filepath.Join(dir, "test.yaml")
		if err := os.WriteFile(path, []byte(smallFile), 0o600); err != nil {
			t.Fatal(err)
		}
		f = openFile(t, path)
		settings := []Setting{{"ip", "10.0.0.9"}, {"version", strings.Repeat("x", size)}}
		if err := f.AddMachine("x", settings); err != nil {
			t.Fatal(err)
		}
		return path, f
	}
	page := os.Getpagesize()
	t.Run("full disk", func(t *testing.T) {
		for pages := 2; pages < 6; pages++ { // one is the old file's
			dir := mounted(t, fmt.Sprintf("size=%d", pages*page))
			path, f := place(t, dir, 5*page)
			refused(t, path, smallFile, f.Save(), "is as it was", "no space left on device")
		}
	})
	t.Run("no more files", func(t *testing.T) {
		path, f := place(t, mounted(t, "size=1m,nr_inodes=2"), 10)
		refused(t, path, smallFile, f.Save(), "is as it was", "no space left on device")
	})
	t.Run("once there is room", func(t *testing.T) {
		dir := mounted(t, fmt.Sprintf("size=%d", 8*page))
		path, f := place(t, dir, 5*page)
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 4*page), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err == nil {
			t.Error("it was saved on a full disk")
		}
		alone(t, dir, "ballast", "test.yaml")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if err := f.Save(); err != nil || read(t, path) != string(f.Bytes()) {
			t.Errorf("with room: %v", err)
		}
	})
	t.Run("read-only file system", func(t *testing.T) {
		dir := mounted(t, "")
		path, f := place(t, dir, 10)
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		refused(t, path, smallFile, f.Save(), "is as it was", "read-only file system")
	})
	t.Run("the file itself is mounted", func(t *testing.T) {
		path, f := place(t, mounted(t, ""), 10)
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		refused(t, path, smallFile, f.Save(), "is as it was", "mount point")
	})
}

func TestSaveKeepsExtendedAttributesAndAccessControlLists(t *testing.T) {
	path := write(t, smallFile)
	// An access control list as the kernel takes it: user::rw-, user:12345:r--, group::r--, mask::r--, other::---.
	acl := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0x39, 0x30, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		0x10, 0, 4, 0, 255, 255, 255, 255, 0x20, 0, 0, 0, 255, 255, 255, 255}
	attributes := map[string][]byte{"user.note": []byte("mine"), accessList: acl}
	for name, value := range attributes {
		if err := unix.Setxattr(path, name, value, 0); errors.Is(err, unix.ENOTSUP) {
			require.Missing(t, "xattr", "the file system of the temporary directory has no extended attributes")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := withMachine(t, path).Save(); err != nil {
		t.Fatal(err)
	}
	for name, want := range attributes {
		got, err := extended(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is %x, %v", name, got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}

func TestSaveTakesNoAccessControlListFromTheDirectory(t *testing.T) {
	path := write(t, smallFile)
	acl := []byte{2, 0, 0, 0,
		1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0x39, 0x30, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255,
		0x10, 0, 7, 0, 255, 255, 255, 255, 0x20, 0, 5, 0, 255, 255, 255, 255}
	if err := unix.Setxattr(filepath.Dir(path), "system.posix_acl_default", acl, 0); errors.Is(err, unix.ENOTSUP) {
		require.Missing(t, "xattr", "the file system of the temporary directory has no access control lists")
	} else if err != nil {
		t.Fatal(err)
	}
	if err := withMachine(t, path).Save(); err != nil {
		t.Fatal(err)
	}
	if got, err := extended(func(b []byte) (int, error) { return unix.Getxattr(path, accessList, b) }); !errors.Is(err, unix.ENODATA) {
		t.Errorf("the file has a list: %x, %v", got, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
}
