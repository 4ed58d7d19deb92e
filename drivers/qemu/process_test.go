//go:build linux

package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/machineries/machineries/drivers/internal/process"
	"golang.org/x/sys/unix"
)

func TestQEMUInheritsTheIntendedDescriptorsAndNothingElse(t *testing.T) {
	snaps := realSnapshots(t)
	secret, err := os.Open("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	_, m := restored(t, snaps.running)
	pid := m.pid("vm")
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	ours := m.frame.Named("vm").dir
	for _, fd := range fds {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if strings.HasPrefix(target, ours) || strings.Contains(target, "/proc/version") {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
	if target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", pid)); target != os.DevNull {
		t.Errorf("standard input is %s", target)
	}
	if group, err := unix.Getpgid(pid); err != nil || group != pid {
		t.Errorf("QEMU's process group is %d, %v; want its own", group, err)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("the limit for core files is %+v, %v", limit, err)
	}
}

// After Close nobody reads what QEMU prints. It must not die of that.
func TestQEMUOutlivesTheReaderOfItsOutput(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.pid("vm")))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if mask, is := strings.CutPrefix(line, "SigIgn:"); is {
			ignored, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err != nil || ignored&(1<<(syscall.SIGPIPE-1)) == 0 {
				t.Errorf("QEMU does not ignore SIGPIPE: %s %v", mask, err)
			}
		}
	}
}

func TestWhatAProgramInheritsIsListedFrom3On(t *testing.T) {
	s := newSite(t)
	s.script("for f in /proc/self/fd/*; do readlink $f; done; exit 4")
	var files []*os.File
	for _, name := range []string{"a", "b"} {
		f, err := os.Open(s.write(name, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	p, err := process.Spawn(s.config.QEMU, nil, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Gone
	defer p.Release()
	if p.Ending.String() != "exit status 4" {
		t.Errorf("it ended with %v", p.Ending)
	}
	var opened []string
	for line := range strings.Lines(p.Tail()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, s.dir) && line != s.config.QEMU {
			opened = append(opened, filepath.Base(line))
		}
	}
	if strings.Join(opened, " ") != "a b" {
		t.Errorf("it has %q open, said %q", opened, p.Tail())
	}
}

func TestAProcessIsFoundAgainByItsIDAndStartTimeAlone(t *testing.T) {
	p, err := process.Spawn("/bin/sleep", []string{"60"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if _, err := process.Attach(p.PID, p.Start+1); err != os.ErrProcessDone {
		t.Errorf("with another start time: %v", err)
	}
	again, err := process.Attach(p.PID, p.Start)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if again.Over() {
		t.Error("a living process is over")
	}
	again.Kill()
	<-p.Gone
	<-again.Gone
	for _, end := range []process.Ending{p.Ending, again.Ending} {
		// Whichever saw it first has the exit status.
		if end.Known && end.Signal != syscall.SIGKILL {
			t.Errorf("it ended with %v", end)
		}
	}
	if _, err := process.Attach(p.PID, p.Start); err != os.ErrProcessDone {
		t.Errorf("after its end: %v", err)
	}
	if _, err := process.Attach(1<<30, 1); err != os.ErrProcessDone {
		t.Errorf("a process that cannot be: %v", err)
	}
}

func TestTheStartTimeIsReadWhateverTheProgramIsCalled(t *testing.T) {
	dir := scratch(t)
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ") Z 1 (x")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := process.Spawn(path, []string{"60"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	mine := mustStart(t)
	if p.Start < mine || p.Start > mine+100*60*60 {
		t.Errorf("it started at tick %d, this process at %d", p.Start, mine)
	}
	p.Kill()
	<-p.Gone
}
