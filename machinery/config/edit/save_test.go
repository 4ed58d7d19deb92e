//go:build unix

package edit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const smallFile = "# mine\nmachines:\n  a:\n    ip: 10.0.0.1\ninterface: br0\n"

// write makes a file in a new directory.
func write(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func openFile(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, testSchema())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// withMachine is a file that has one machine more, not saved yet.
func withMachine(t *testing.T, path string) *File {
	t.Helper()
	f := openFile(t, path)
	if err := f.AddMachine("x", simple); err != nil {
		t.Fatal(err)
	}
	return f
}

// alone fails the test if there are other files beside those named.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	slices.Sort(names)
	if !slices.Equal(have, names) {
		t.Errorf("the directory has %q, want %q", have, names)
	}
}

// refused fails the test unless the error has the words, the file is as it was and nothing is beside it.
func refused(t *testing.T, path, was string, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("there was no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
	if have := read(t, path); have != was {
		t.Errorf("the file is not as it was:\n%s", have)
	}
	alone(t, filepath.Dir(path), filepath.Base(path))
}

func TestSaveWritesTheFileAndCanBeRepeated(t *testing.T) {
	path := write(t, smallFile)
	f := withMachine(t, path)
	if read(t, path) != smallFile {
		t.Error("the file has changed before Save")
	}
	for range 2 {
		if err := f.Save(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != string(f.Bytes()) || !strings.Contains(got, "x:") {
			t.Errorf("the file is:\n%s", got)
		}
	}
	if err := f.RemoveMachine("x"); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != smallFile {
		t.Errorf("added, saved, removed and saved it is:\n%s", got)
	}
	alone(t, filepath.Dir(path), "test.yaml")
}

func TestSaveWithoutAnEditLeavesTheFileAlone(t *testing.T) {
	path := write(t, smallFile)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := openFile(t, path).Save(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !sameFile(before, after) {
		t.Errorf("it was written all the same: %v, %v, %v", before, after, err)
	}
}

func TestSaveKeepsOwnerAndMode(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o666, 0o644 | fs.ModeSetgid} {
		path := write(t, smallFile)
		if os.Geteuid() == 0 {
			if err := os.Chown(path, 12345, 23456); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Stat(path)
		if err := withMachine(t, path).Save(); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		b, a := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
		if before.Mode() != after.Mode() || b.Uid != a.Uid || b.Gid != a.Gid {
			t.Errorf("it was %v of %d:%d and is %v of %d:%d", before.Mode(), b.Uid, b.Gid, after.Mode(), a.Uid, a.Gid)
		}
	}
}

func TestSaveFollowsASymbolicLinkWhichStaysOne(t *testing.T) {
	path := write(t, smallFile)
	links := t.TempDir()
	link := filepath.Join(links, "link.yaml")
	if err := os.Symlink(path, filepath.Join(links, "middle")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("middle", link); err != nil {
		t.Fatal(err)
	}
	if err := withMachine(t, link).Save(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	if !strings.Contains(read(t, path), "x:") {
		t.Error("the file behind the link is as it was")
	}
	alone(t, filepath.Dir(path), "test.yaml")
	alone(t, links, "link.yaml", "middle")
}

func TestAFileThatChangedMeanwhileIsNotOverwritten(t *testing.T) {
	const theirs = "# theirs\n" + smallFile
	for _, tt := range []struct {
		name   string
		change func(path string) error
		now    string
	}{
		{"written", func(path string) error { return os.WriteFile(path, []byte(theirs), 0o644) }, theirs},
		{"written with the same size and time", func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(strings.Replace(smallFile, "mine", "your", 1)), 0o644); err != nil {
				return err
			}
			return os.Chtimes(path, info.ModTime(), info.ModTime())
		}, strings.Replace(smallFile, "mine", "your", 1)},
		{"replaced by one with the same text", func(path string) error {
			if err := os.WriteFile(path+"~", []byte(smallFile), 0o644); err != nil {
				return err
			}
			return os.Rename(path+"~", path)
		}, smallFile},
		{"touched", func(path string) error { return os.Chtimes(path, time.Now(), time.Now().Add(time.Hour)) }, smallFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, smallFile)
			f := withMachine(t, path)
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			err := f.Save()
			refused(t, path, tt.now, err, "test.yaml", "changed meanwhile", "run the command again")
			if !errors.Is(err, ErrChanged) {
				t.Errorf("it is not ErrChanged: %v", err)
			}
		})
	}
	path := write(t, smallFile)
	f := withMachine(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(); !errors.Is(err, ErrChanged) {
		t.Errorf("for a file that is gone: %v", err)
	}
	alone(t, filepath.Dir(path))
}

// asNobody runs a function as a user without rights, if this is root.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	if err := syscall.Setreuid(-1, 65534); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setreuid(-1, 0); err != nil {
			panic(err) // no other test could be trusted
		}
	}()
	f()
}

// reachable opens the directories above a path for everybody.
func reachable(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); strings.HasPrefix(dir, filepath.Clean(os.TempDir())+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileThatThisUserMayNotReplaceIsLeftAlone(t *testing.T) {
	t.Run("no right to the directory", func(t *testing.T) {
		path := write(t, smallFile)
		reachable(t, path)
		if err := errors.Join(os.Chmod(path, 0o666), os.Chmod(filepath.Dir(path), 0o555)); err != nil {
			t.Fatal(err)
		}
		var err error
		asNobody(t, func() { err = withMachine(t, path).Save() })
		refused(t, path, smallFile, err, "is as it was", "no file can be made in "+filepath.Dir(path), "permission denied", "the right to write to the directory")
	})
	t.Run("no right to the file", func(t *testing.T) {
		path := write(t, smallFile)
		reachable(t, path)
		if err := errors.Join(os.Chmod(path, 0o444), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
			t.Fatal(err)
		}
		var err error
		asNobody(t, func() { err = withMachine(t, path).Save() })
		refused(t, path, smallFile, err, "is as it was", "has no right to write to it", "-r--r--r--")
	})
	t.Run("the file of somebody else", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can make a file of somebody else")
		}
		path := write(t, smallFile)
		reachable(t, path)
		if err := errors.Join(os.Chmod(path, 0o666), os.Chmod(filepath.Dir(path), 0o777)); err != nil {
			t.Fatal(err)
		}
		var err error
		asNobody(t, func() { err = withMachine(t, path).Save() })
		refused(t, path, smallFile, err, "is as it was", "belongs to user 0", "run the command as the file's owner or as root")
	})
	t.Run("two names", func(t *testing.T) {
		path := write(t, smallFile)
		other := filepath.Join(t.TempDir(), "other")
		if err := os.Link(path, other); err != nil {
			t.Fatal(err)
		}
		refused(t, path, smallFile, withMachine(t, path).Save(), "is as it was", "2 names (hard links)")
	})
}

func TestOnlyARegularFileIsOpened(t *testing.T) {
	dir := t.TempDir()
	fifo, loop := filepath.Join(dir, "fifo"), filepath.Join(dir, "loop")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.Symlink(loop, loop)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "not a regular file", fifo: "not a regular file", loop: "too many", filepath.Join(dir, "none"): "no such file",
	} {
		_, err := Open(path, testSchema())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		called := false
		if err := Update(path, testSchema(), func(*File) error { called = true; return nil }); err == nil || called {
			t.Errorf("Update of %s: %v", path, err)
		}
	}
}

func TestWhatIsNotFromAFileCannotBeSaved(t *testing.T) {
	if err := open(t, smallFile).Save(); err == nil || !strings.Contains(err.Error(), "test.yaml") {
		t.Error(err)
	}
}

func TestTemporariesOfKilledProgramsAreRemovedAndNoOtherFile(t *testing.T) {
	path := write(t, smallFile)
	dir := filepath.Dir(path)
	stay := []string{
		".test.yaml.machineries-0123456789abcde", ".test.yaml.machineries-0123456789abcdeg", ".test.yaml.machineries-0123456789abcdef.bak",
		".other.yaml.machineries-0123456789abcdef", "test.yaml.machineries-0123456789abcdef", ".test.yaml.swp",
	}
	for _, name := range append(stay, ".test.yaml.machineries-0123456789abcdef", ".test.yaml.machineries-fedcba9876543210") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	directory := ".test.yaml.machineries-0000000000000000"
	if err := os.Mkdir(filepath.Join(dir, directory), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := withMachine(t, path).Save(); err != nil {
		t.Fatal(err)
	}
	alone(t, dir, append(stay, directory, "test.yaml")...)
}

func TestUpdatesAtOnceLoseNothing(t *testing.T) {
	path := write(t, smallFile)
	const workers, each = 6, 5
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				err := Update(path, testSchema(), func(f *File) error {
					return f.AddMachine(fmt.Sprintf("m%d-%d", w, i), []Setting{{"ip", fmt.Sprintf("10.1.%d.%d", w, i)}})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f := openFile(t, path)
	if n := len(f.now.doc.Machines()); n != 1+workers*each || f.now.doc.Err() != nil {
		t.Errorf("there are %d machines, %v:\n%s", n, f.now.doc.Err(), f.Bytes())
	}
	alone(t, filepath.Dir(path), "test.yaml")
}

func TestAnUpdateThatFailsWritesNothing(t *testing.T) {
	path := write(t, smallFile)
	failed := errors.New("failed")
	err := Update(path, testSchema(), func(f *File) error {
		if err := f.RemoveMachine("a"); err != nil {
			t.Error(err)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Error(err)
	}
	refused(t, path, smallFile, err)
}

func TestALockThatIsHeldIsWaitedForAndThenNamed(t *testing.T) {
	dir := t.TempDir()
	held, err := lockDirectory(dir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDirectory(dir, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "another program has been editing files in "+dir) {
		t.Errorf("the second lock: %v", err)
	}
	got := make(chan error)
	go func() {
		l, err := lockDirectory(dir, time.Minute)
		if err == nil {
			l.release()
		}
		got <- err
	}()
	held.release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestANameOfAnyLengthHasItsTemporaryBesideIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 250)+".yaml")
	if err := os.WriteFile(path, []byte(smallFile), 0o600); err != nil {
		t.Fatal(err)
	}
	f := withMachine(t, path)
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(read(t, path)), f.Bytes()) {
		t.Error("it was not written")
	}
}
