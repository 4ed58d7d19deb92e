//go:build linux

package qemu

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// leak opens a file in the way of C code, which does not mark it, and returns its path.
func leak(t testing.TB, s *site) string {
	t.Helper()
	path := s.write("leaked", nil)
	fd, err := unix.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			t.Errorf("the program's own descriptor was changed: flags %#x, %v", flags, err)
		}
		unix.Close(fd)
	})
	return path
}

// descriptors is what a process has open, by number.
func descriptors(t testing.TB, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]string{}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[e.Name()] = target
		}
	}
	return open
}

func TestADescriptorThatTheProgramHasNotMarkedDoesNotReachQEMU(t *testing.T) {
	for _, end := range []bool{false, true} {
		t.Run(fmt.Sprintf("EndMachines %v", end), func(t *testing.T) {
			snaps := realSnapshots(t)
			s := newSite(t)
			s.add("vm", snaps.disk, snaps.running)
			path := leak(t, s)
			m := s.open(machinery.Options{EndMachines: end})
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			for fd, target := range descriptors(t, m.pid("vm")) {
				if target == path {
					t.Errorf("QEMU has %s as its descriptor %s", path, fd)
				}
			}
		})
	}
}

// The two ways are for kernels with and without a call for it.
func TestEachWayToADescriptorTableKeepsDescriptorsBack(t *testing.T) {
	for name, own := range map[string]func() error{"by one call": process.OwnDescriptors, "by hand": process.OwnDescriptorsByHand} {
		t.Run(name, func(t *testing.T) {
			path := leak(t, newSite(t))
			marked := make(chan []string)
			process.OnOwnThread(func() {
				var found []string
				if err := own(); err != nil {
					found = append(found, err.Error())
				}
				fds, err := process.ThreadDescriptors()
				if err != nil {
					found = append(found, err.Error())
				}
				for _, fd := range fds {
					flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
					if target, _ := os.Readlink(fmt.Sprintf("%s/%d", process.ThreadFDs, fd)); err == nil && flags&unix.FD_CLOEXEC == 0 || target == path && err != nil {
						found = append(found, fmt.Sprintf("descriptor %d (%s) is passed on", fd, target))
					}
				}
				marked <- found
			})
			for _, problem := range <-marked {
				t.Error(problem)
			}
		})
	}
}

// What a program closes has to be closed, though a thread with descriptors of its own stays for as long as QEMU runs.
func TestAThreadThatStaysKeepsNothingOpen(t *testing.T) {
	dir := scratch(t)
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	by := process.NewStarter()
	p, err := process.Spawn("/bin/sleep", []string{"60"}, nil, by)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	near.Close()
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("the peer of a closed connection reads %v, want the end", err)
	}
	// Goroutines and timers work as before beside such a thread.
	<-time.After(time.Millisecond)
	by.Stop()
	select {
	case <-p.Gone:
		if p.Ending.Signal != syscall.SIGKILL {
			t.Errorf("it ended with %v", p.Ending)
		}
	case <-time.After(5 * time.Second):
		t.Error("the process outlives its starter")
		p.Kill()
	}
}

func TestTheEnvironmentHasNoSecrets(t *testing.T) {
	t.Setenv("MISP_API_KEY", "secret")
	t.Setenv("LC_ALL", "C")
	env := process.Environment()
	if slices.Contains(env, "MISP_API_KEY=secret") {
		t.Error("a key is passed on")
	}
	if !slices.Contains(env, "LC_ALL=C") || !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		t.Errorf("the language or the search path is not passed on: %q", env)
	}
	_, m := restored(t, realSnapshots(t).running)
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", m.pid("vm")))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "secret") || !strings.Contains(string(got), "LC_ALL=C") {
		t.Errorf("QEMU's environment is %q", got)
	}
}

func TestAQEMUThatCrashesLeavesNoCoreFile(t *testing.T) {
	// What this process has for a limit would be QEMU's too. The soft limit alone is raised, and put back.
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &was); err != nil {
		t.Fatal(err)
	}
	if was.Max == 0 {
		t.Skip("this process may have no core files itself")
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: was.Max, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &was)
	for _, signal := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT} {
		_, m := restored(t, realSnapshots(t).running)
		v := m.frame.Named("vm")
		v.mu.Lock()
		p := v.run.proc
		v.mu.Unlock()
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0 bytes") {
			t.Errorf("QEMU's limits are\n%s", limits)
		}
		// A child that dumped core says so to its parent.
		if err := syscall.Kill(p.PID, signal); err != nil {
			t.Fatal(err)
		}
		<-p.Gone
		if p.Ending.Signal != signal || p.Ending.Core {
			t.Errorf("it ended with %v, core file %v", p.Ending, p.Ending.Core)
		}
	}
}
