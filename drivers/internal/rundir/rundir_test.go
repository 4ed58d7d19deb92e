//go:build linux

package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func fileExists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func realPath(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOnlyOneHoldsAMachineHoweverManyTakeItAndRemoveIt(t *testing.T) {
	path := filepath.Join(scratch(t), "key")
	var holders, had atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				h, err := Acquire(path)
				if busy := (*HeldError)(nil); errors.As(err, &busy) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the machine", n)
				}
				had.Add(1)
				if err := h.Dir.WriteFile("file", nil, 0o600); err != nil {
					t.Error(err)
				}
				holders.Add(-1)
				if had.Load()%3 == 0 {
					h.Unlock()
				} else if err := h.Remove("file"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if had.Load() == 0 {
		t.Error("nobody ever held it")
	}
	h, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove("file"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestTheHolderIsNamedAndSeen(t *testing.T) {
	path := filepath.Join(scratch(t), "key")
	if _, is := Held(path); is {
		t.Error("a machine without a directory is held")
	}
	h, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(path)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("the second hold: %v", err)
	}
	if pid, is := Held(path); !is || pid != os.Getpid() {
		t.Errorf("held says %d, %v", pid, is)
	}
	h.Unlock()
	if _, is := Held(path); is {
		t.Error("the machine is held after it was let go of")
	}
	h, err = Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Remove("file"); err != nil {
		t.Fatal(err)
	}
}

func TestAMachinesDirectoryThatIsNotItsOwnIsRefused(t *testing.T) {
	dir := scratch(t)
	elsewhere := filepath.Join(dir, "elsewhere")
	path := filepath.Join(dir, "key")
	for what, make := range map[string]func() error{
		"a link":      func() error { return errors.Join(os.Mkdir(elsewhere, 0o700), os.Symlink(elsewhere, path)) },
		"a file":      func() error { return os.WriteFile(path, nil, 0o600) },
		"open to all": func() error { return errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, 0o777)) },
		"with a lock that is a link": func() error {
			return errors.Join(os.Mkdir(path, 0o700), os.Symlink(filepath.Join(dir, "victim"), filepath.Join(path, lockFile)))
		},
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if h, err := Acquire(path); err == nil {
			h.Unlock()
			t.Errorf("%s is taken", what)
		}
		if fileExists(filepath.Join(dir, "victim")) || fileExists(filepath.Join(elsewhere, lockFile)) {
			t.Errorf("%s was followed", what)
		}
		os.RemoveAll(path)
		os.RemoveAll(elsewhere)
	}
}

func TestMachinesThatDifferInAnythingHaveDifferentKeys(t *testing.T) {
	seen := map[string][]string{}
	for _, names := range [][]string{
		{"a", "b"}, {"ab", ""}, {"a", "bc"}, {"", "ab"}, {"a\x00b", ""}, {"a", "b,c"}, {"a/b", ""}, {"1:a", "b"},
	} {
		key := Key(names[0], names[1])
		if len(key) != KeyLength || seen[key] != nil {
			t.Errorf("%q and %q have the key %s", names, seen[key], key)
		}
		seen[key] = names
	}
}

func TestTheDefaultRuntimeDirectoryIsTheSameInEverySessionOfAUser(t *testing.T) {
	run, uid := scratch(t), os.Geteuid()
	before := Default()
	t.Setenv("XDG_RUNTIME_DIR", run)
	if got := Default(); got != before {
		t.Errorf("with XDG_RUNTIME_DIR it is %s, without %s", got, before)
	}
	if got := defaultOf(0, run); got != run+"/machineries" {
		t.Errorf("root's is %s", got)
	}
	const user = 4711
	mine := fmt.Sprintf("%s/user/%d", run, user)
	if got := defaultOf(user, run); got != "/tmp/machineries-4711" {
		t.Errorf("without %s it is %s", mine, got)
	}
	if err := os.MkdirAll(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := defaultOf(user, run); got != "/tmp/machineries-4711" {
		t.Errorf("with somebody else's %s it is %s", mine, got)
	}
	if uid == 0 {
		if err := os.Chown(mine, user, user); err != nil {
			t.Fatal(err)
		}
		if got := defaultOf(user, run); got != mine+"/machineries" {
			t.Errorf("with %s it is %s", mine, got)
		}
	}
}

func TestARuntimeDirectoryThatIsRefusedIsNotMade(t *testing.T) {
	dir := scratch(t)
	open := filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		filepath.Join(dir, strings.Repeat("x", 60), strings.Repeat("y", 40)): "107 bytes",
		filepath.Join(open, "a", "b"):                                        "everybody",
		"relative/run":                                                       "absolute",
	}
	foreign := filepath.Join(dir, "foreign")
	if os.Geteuid() == 0 { // only root can make another's directory
		if err := errors.Join(os.Mkdir(foreign, 0o755), os.Chown(foreign, 4711, 4711)); err != nil {
			t.Fatal(err)
		}
		cases[filepath.Join(foreign, "run")] = "belongs to user 4711"
	}
	for path, want := range cases {
		if _, err := Make(path, "read.sock"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	for _, d := range []string{open, foreign} {
		if entries, _ := os.ReadDir(d); len(entries) > 0 {
			t.Errorf("%s was made in %s", entries[0].Name(), d)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 2 {
		t.Errorf("something was made in %s: %v", dir, entries)
	}
	if fileExists("relative") {
		t.Error("the relative directory was made")
	}
	deep := filepath.Join(dir, "a", "b", "run")
	if got, err := Make(deep, "read.sock"); err != nil || got != realPath(t, deep) || !fileExists(deep) {
		t.Errorf("%s: %s, %v", deep, got, err)
	}
}

func TestALockThatADeadDriverLeftToWhatItStartedIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	first, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.lock.WriteAt([]byte(strconv.Itoa(dead.Process.Pid)+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, first.Unlock)
	second, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	second.Unlock()
}
