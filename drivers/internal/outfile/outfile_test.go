//go:build linux

package outfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// targets begins a file at path in each of the two ways.
func targets(t *testing.T, test func(t *testing.T, dir string, begin func(path string) *Target)) {
	t.Helper()
	t.Run("without a name", func(t *testing.T) {
		test(t, scratch(t), func(path string) *Target {
			f, err := New(path)
			if err != nil {
				t.Fatal(err)
			}
			return f
		})
	})
	t.Run("with a hidden name", func(t *testing.T) {
		test(t, scratch(t), func(path string) *Target {
			f := &Target{path: path}
			if err := f.hide(); err != nil {
				t.Fatal(err)
			}
			return f
		})
	})
}

// scratch is an empty directory.
func scratch(t *testing.T) string { return t.TempDir() }

// names is what is in a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestAFileIsThereWholeAndPrivateOrNotAtAll(t *testing.T) {
	targets(t, func(t *testing.T, dir string, begin func(string) *Target) {
		defer unix.Umask(unix.Umask(0))
		path := filepath.Join(dir, strings.Repeat("n", 250))
		f := begin(path)
		if _, err := f.File.WriteString("whole"); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is there before it was published: %v", err)
		}
		if err := f.Publish(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "whole" {
			t.Errorf("%q, %v", data, err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("beside the file there is something: %q", got)
		}
		begin(filepath.Join(dir, "dropped")).Drop()
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("a file that was dropped left %q", got)
		}
	})
}

func TestAFileThatCameMeanwhileIsNotReplaced(t *testing.T) {
	targets(t, func(t *testing.T, dir string, begin func(string) *Target) {
		path := filepath.Join(dir, "file")
		f := begin(path)
		if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Publish(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("publish: %v", err)
		}
		f.Drop()
		if data, err := os.ReadFile(path); err != nil || string(data) != "theirs" {
			t.Errorf("%q, %v", data, err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("left: %q", got)
		}
	})
}

func TestWhateverIsAtAPathIsRefused(t *testing.T) {
	dir := scratch(t)
	for name, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a dangling link": func(path string) error { return os.Symlink("/nowhere", path) },
		"a pipe":          func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := New(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(filepath.Join(dir, "no directory/file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if _, err := New(filepath.Join(dir, "a file/file")); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a directory that is a file: %v", err)
	}
}

func TestWhoHasASpoiledFileCannotWriteToItAnyMore(t *testing.T) {
	targets(t, func(t *testing.T, dir string, begin func(string) *Target) {
		f := begin(filepath.Join(dir, "file"))
		defer f.Drop()
		fd, err := unix.Dup(int(f.File.Fd())) // as QEMU's is
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, []byte("part")); err != nil {
			t.Fatal(err)
		}
		f.Spoil()
		// Most file systems say EFBIG; tmpfs, whose files reach as far as offsets do, EINVAL.
		if n, err := unix.Write(fd, []byte("part")); !errors.Is(err, unix.EFBIG) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("a write after it gives %d, %v", n, err)
		}
	})
}

func TestWritingToDiskEndsWithItsContext(t *testing.T) {
	f, err := New(filepath.Join(scratch(t), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Drop()
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Sync(dead); !errors.Is(err, context.Canceled) {
		t.Errorf("sync: %v", err)
	}
}
