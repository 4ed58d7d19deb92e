//go:build linux

package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// nobody is a user and a group without rights.
const nobody = 65534

// asNobody runs f with nobody's rights, in a thread of its own that ends with it; only root can.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for _, call := range [][]uintptr{{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				failed <- errno
				return
			}
		}
		f()
		failed <- nil
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// place is a directory that every user may enter.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustDo(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// only is the one finding of a list.
func only(t *testing.T, l *List) machinery.Finding {
	t.Helper()
	if len(l.Found) != 1 {
		t.Fatalf("found: %+v, want one", l.Found)
	}
	return l.Found[0]
}

// says fails the test unless the finding is of that level and has all of the words.
func says(t *testing.T, f machinery.Finding, level machinery.Level, words ...string) {
	t.Helper()
	if f.Level != level {
		t.Errorf("it is %s, want %s: %+v", f.Level, level, f)
	}
	for _, word := range words {
		if !strings.Contains(f.What+"\n"+f.Do, word) {
			t.Errorf("it lacks %q: %+v", word, f)
		}
	}
}

func TestWhatKeepsAUserFromAFileIsNamedWithWhatToDo(t *testing.T) {
	dir := place(t)
	closed, shared := filepath.Join(dir, "closed"), filepath.Join(dir, "shared")
	mustDo(t, os.Mkdir(closed, 0o700), os.Mkdir(shared, 0o755), os.WriteFile(filepath.Join(closed, "disk"), nil, 0o644), os.WriteFile(filepath.Join(shared, "disk"), nil, 0o600))
	asNobody(t, func() {
		for path, barrier := range map[string]string{filepath.Join(closed, "disk"): closed, filepath.Join(shared, "disk"): filepath.Join(shared, "disk")} {
			_, err := os.Open(path)
			var l List
			l.Failed(About("a", "s", "k"), fmt.Errorf("the disk cannot be used: %w", err), "nothing")
			f := only(t, &l)
			says(t, f, machinery.LevelProblem, "the disk cannot be used", barrier+" belongs to root, group root, mode", "this program runs as the user nobody", "run this as root")
		}
	})
	if err := os.Chown(shared, 0, 7); err != nil {
		t.Skip(err)
	}
	mustDo(t, os.Chmod(shared, 0o770))
	asNobody(t, func() {
		var l List
		l.Directory(About("a", shared, "k"), "nothing")
		says(t, only(t, &l), machinery.LevelProblem, "mode 0770", "to the group "+groupName(7), "usermod -aG")
	})
}

func TestAFileThatIsNotThereIsSaidInAFewWords(t *testing.T) {
	var l List
	path := filepath.Join(t.TempDir(), "qemu")
	if l.Program(About("a", path, "k"), "install it") {
		t.Error("it can be executed")
	}
	if f := only(t, &l); f.What != "it is not there" || f.Do != "install it" || f.Level != machinery.LevelProblem || f.Key != "k" {
		t.Errorf("%+v", f)
	}
	l = List{}
	mustDo(t, os.WriteFile(path, nil, 0o600))
	if l.Program(About("a", path, "k"), "install it") {
		t.Error("it can be executed")
	}
	says(t, only(t, &l), machinery.LevelProblem, "permission denied")
	if os.Geteuid() == 0 {
		says(t, only(t, &l), machinery.LevelProblem, "may be executed by nobody (mode 0600)", "chmod +x "+path)
	}
	l = List{}
	mustDo(t, os.Chmod(path, 0o700))
	if !l.Program(About("a", path, "k"), "install it") || len(l.Found) != 0 {
		t.Errorf("of a program that can be executed: %+v", l.Found)
	}
}

func TestWhoElseCouldReplaceAFileIsSaid(t *testing.T) {
	dir := place(t)
	path := filepath.Join(dir, "machineinfo.json")
	mustDo(t, os.WriteFile(path, nil, 0o600))
	check := func(want string) {
		t.Helper()
		if why, do := OpenToOthers(path); why != want || (do == "") != (want == "") {
			t.Errorf("%q, %q; want %q", why, do, want)
		}
	}
	check("")
	mustDo(t, os.Chmod(path, 0o666))
	check(path + " may be written to by everybody (mode 0666)")
	mustDo(t, os.Chmod(path, 0o600), os.Chmod(dir, 0o777))
	check(dir + ", in which machineinfo.json is, may be written to by everybody (mode 0777)")
	mustDo(t, os.Chmod(dir, fs.ModeSticky|0o777))
	check("")
}

func TestADirectoryThatAnotherUserMayNotEnterIsFound(t *testing.T) {
	dir := place(t)
	closed := filepath.Join(dir, "closed")
	mustDo(t, os.Mkdir(closed, 0o750))
	uid, gid := os.Geteuid(), os.Getegid()
	for _, c := range []struct {
		uid, gid int
		want     string
	}{{0, 0, ""}, {uid, gid, ""}, {nobody, gid, ""}, {nobody, nobody, closed}} {
		if got := Barred(filepath.Join(closed, "disk"), c.uid, c.gid); got != c.want {
			t.Errorf("%d:%d: %q, want %q", c.uid, c.gid, got, c.want)
		}
	}
}

func TestTheRoomForDisposableDisksIsJudgedByWhatMachinesMayWrite(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		free int64
		most []int64
		want machinery.Level
	}{
		{100 * gib, []int64{40 * gib, 40 * gib}, machinery.LevelOK},
		{2 * gib, []int64{40 * gib, 40 * gib}, machinery.LevelOK},
		{2*gib - 1, []int64{40 * gib, 40 * gib}, machinery.LevelWarning},
		{64 << 20, []int64{40 * gib}, machinery.LevelWarning},
		{64<<20 - 1, []int64{40 * gib}, machinery.LevelProblem},
		{1 << 20, []int64{1 << 20}, machinery.LevelOK},
		{1<<20 - 1, []int64{1 << 20}, machinery.LevelProblem},
		{3 << 20, []int64{2 << 20, 2 << 20}, machinery.LevelWarning},
		{0, []int64{1}, machinery.LevelProblem},
	} {
		var l List
		l.room(About("a", "/d", "k"), c.free, c.most)
		if f := only(t, &l); f.Level != c.want || !strings.Contains(f.What, Bytes(c.free)+" are free") {
			t.Errorf("%d free, %v: %+v, want %s", c.free, c.most, f, c.want)
		}
	}
	dir := place(t)
	mustDo(t, os.Mkdir(dir+"/a", 0o700), os.Mkdir(dir+"/b", 0o700))
	var l List
	l.Overlays("k", []Overlay{{dir + "/a", 1}, {dir + "/b", 1}, {dir + "/a", 1}, {dir + "/none", 1}})
	f := only(t, &l)
	says(t, f, machinery.LevelOK, "3 machines", "3 bytes at most")
	if f.Subject != dir+"/a and 1 more" {
		t.Errorf("it is about %q", f.Subject)
	}
}

func TestTheRoomForMemoryDumpsIsJudgedByTheMachinesMemory(t *testing.T) {
	for free, want := range map[int64]machinery.Level{9: machinery.LevelProblem, 10: machinery.LevelWarning, 14: machinery.LevelWarning, 15: machinery.LevelOK} {
		var l List
		l.dumpRoom(About("a", "/d", "k"), free, []int64{5, 10, 0})
		says(t, only(t, &l), want, "are free")
	}
	var l List
	l.Dumps("/nowhere/dumps", []int64{1})
	says(t, only(t, &l), machinery.LevelProblem, "it is not there")
	l = List{}
	l.Dumps(place(t), []int64{1})
	says(t, only(t, &l), machinery.LevelOK, "1 bytes together")
}

func TestBytesAreSaidAsPeopleSayThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 10 << 10: "10 KiB", 1<<20 - 1: "1.0 MiB", 1536 << 20: "1.5 GiB", 1 << 62: "4.0 EiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestARuntimeDirectoryIsLookedAtAndNotMade(t *testing.T) {
	dir := place(t)
	path := filepath.Join(dir, "a", "run")
	var l List
	if got := l.RuntimeDir(path, "s"); got != path {
		t.Errorf("it is %q", got)
	}
	says(t, only(t, &l), machinery.LevelOK, "it is made when it is needed")
	if _, err := os.Lstat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was made")
	}
	mustDo(t, os.MkdirAll(path, 0o755))
	l = List{}
	if got := l.RuntimeDir(path, "s"); got != "" {
		t.Errorf("it is %q", got)
	}
	says(t, only(t, &l), machinery.LevelProblem, "chmod 700", "runtime_dir")
	// Who followed that advice for /tmp would lock everybody else out of it.
	mustDo(t, os.Chmod(path, 0o777|os.ModeSticky))
	l = List{}
	if got := l.RuntimeDir(path, "s"); got != "" {
		t.Errorf("it is %q", got)
	}
	says(t, only(t, &l), machinery.LevelProblem, "is for all users (mode 0777); use a directory of its own, such as "+path+"/machineries")
	if strings.Contains(l.Found[0].What+l.Found[0].Do, "chmod") {
		t.Errorf("%+v", l.Found[0])
	}
	mustDo(t, os.Chmod(path, 0o700))
	l = List{}
	if got := l.RuntimeDir(path, "s"); got != path {
		t.Errorf("it is %q", got)
	}
	says(t, only(t, &l), machinery.LevelOK, "closed to others")
	asNobody(t, func() {
		l = List{}
		if got := l.RuntimeDir(filepath.Join(dir, "b"), "s"); got != "" {
			t.Errorf("one that cannot be made is %q", got)
		}
		says(t, only(t, &l), machinery.LevelProblem, dir+" belongs to root")
	})
}

func TestNetworkInterfacesAreThereAndUpAndTheWayToTheMachines(t *testing.T) {
	none := func(string) string { return "interface" }
	var l List
	usable := l.Interfaces([]machinery.Machine{{Name: "a", Interface: "lo", IP: "192.0.2.1"}, {Name: "b", Interface: "lo"}, {Name: "c", Interface: "nosuch0"}, {Name: "d"}}, none,
		func(iface string) string {
			if iface == "nosuch0" {
				return "start the network"
			}
			return ""
		})
	if len(usable) != 1 || usable[0] != "lo" || len(l.Found) != 2 {
		t.Fatalf("usable: %v; %+v", usable, l.Found)
	}
	says(t, l.Found[0], machinery.LevelOK, "up")
	says(t, l.Found[1], machinery.LevelProblem, "no such network interface", "start the network")
	l = List{}
	l.Interfaces([]machinery.Machine{{Name: "c", Interface: "nosuch0"}}, none, nil)
	says(t, only(t, &l), machinery.LevelProblem, "this host has", "lo")
	if by, is := wayTo("127.0.0.1"); !is || by != "lo" {
		t.Errorf("the way to this host is %q, %v", by, is)
	}
	if _, is := wayTo("a name"); is {
		t.Error("a name has a way")
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	// An interface that is up and not the way there, for which this one stands in.
	lo.Flags &^= net.FlagLoopback
	lo.Name = "br0"
	l = List{}
	l.ways(About("a", "br0", "k"), lo, []machinery.Machine{{Interface: "br0", IP: "127.0.0.1"}})
	says(t, only(t, &l), machinery.LevelWarning, "would reach 127.0.0.1 by lo", "ip addr add")
}

func TestTheRightToRecordIsTried(t *testing.T) {
	require.Tool(t, "tcpdump")
	try := func(iface string) machinery.Finding {
		var l List
		l.Tcpdump(t.Context(), About("a", "/usr/bin/tcpdump", "k"), []string{iface})
		return only(t, &l)
	}
	asNobody(t, func() {
		// tcpdump is started by this thread, with its rights.
		says(t, try("lo"), machinery.LevelProblem, "the user nobody may not record on lo", "setcap cap_net_raw,cap_net_admin+ep /usr/bin/tcpdump")
	})
	says(t, try("lo"), machinery.LevelOK, "it may record on lo")
	says(t, try("nosuch0"), machinery.LevelProblem, "nosuch0")
	var l List
	l.Tcpdump(t.Context(), About("a", "/nowhere/tcpdump", "k"), []string{"lo"})
	says(t, only(t, &l), machinery.LevelProblem, "apt-get install tcpdump", "filter-dump")
}

func TestATcpdumpThatHangsIsGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tcpdump")
	mustDo(t, os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700), outfile.WritableDir(filepath.Dir(path)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var l List
	began := time.Now()
	l.Tcpdump(ctx, About("a", path, "k"), []string{"lo"})
	if took := time.Since(began); took > 10*time.Second || len(l.Found) != 0 {
		t.Errorf("after %v: %+v", took, l.Found)
	}
}
