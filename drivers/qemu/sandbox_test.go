//go:build linux

package qemu

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/machineries/machineries/machinery"
)

// seccomp is the mode in the status of a process: "2" with a filter.
func seccomp(t testing.TB, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if mode, is := strings.CutPrefix(line, "Seccomp:"); is {
			return strings.TrimSpace(mode)
		}
	}
	t.Fatal("the kernel does not say")
	return ""
}

func TestQEMURunsInItsSandboxUnlessItIsToldNotTo(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	if mode := seccomp(t, m.pid("vm")); mode != "2" {
		t.Errorf("QEMU's mode is %s, want 2 (filter)", mode)
	}
	_, m = restored(t, realSnapshots(t).running, func(s *site) { s.config.NoSandbox = true })
	if mode := seccomp(t, m.pid("vm")); mode != "0" {
		t.Errorf("without the sandbox QEMU's mode is %s, want 0", mode)
	}
}

func TestTheSandboxLeavesRoomForWhatIsAllowed(t *testing.T) {
	for args, want := range map[string]string{
		"-m 16":                        sandboxFull,
		"-netdev user,id=n":            sandboxFull,
		"-netdev tap,id=n":             sandboxSpawn,
		"-netdev user,id=n,smb=/srv":   sandboxSpawn,
		"-netdev bridge,id=n,br=br0":   "",
		"-netdev bridge,id=n -nic tap": "",
		"-sandbox on":                  "",
	} {
		got := ""
		if list := sandboxFor(strings.Fields(args), false); list != nil {
			got = list[1]
		}
		if got != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
		if list := sandboxFor(strings.Fields(args), true); list != nil {
			t.Errorf("%s: %q though there is to be none", args, list)
		}
	}
}

func TestATapWithAScriptIsStartedInTheSandbox(t *testing.T) {
	if os.Getuid() != 0 || !fileThere("/dev/net/tun") {
		t.Skip("a tap needs root and /dev/net/tun")
	}
	snaps := realSnapshots(t)
	s := newSite(t)
	s.write("up", []byte("#!/bin/sh\necho $1 >"+s.dir+"/ran\n"))
	if err := os.Chmod(s.dir+"/up", 0o700); err != nil {
		t.Fatal(err)
	}
	s.add("vm", snaps.disk, snaps.running, machineArgs("-netdev", "tap,id=n,downscript=no,script="+s.dir+"/up")...).AllowArguments = []string{"-netdev tap"}
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if !fileThere(s.dir + "/ran") {
		t.Error("the script did not run")
	}
	if mode := seccomp(t, m.pid("vm")); mode != "2" {
		t.Errorf("QEMU's mode is %s, want 2 (filter)", mode)
	}
}

func TestAQEMUThatTheSandboxKillsSaysSo(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running).Args = machineArgs("-netdev", "tap,id=n,script=/bin/true,downscript=no")
	m := s.open(machinery.Options{})
	m.frame.Named("vm").sandbox = []string{"-sandbox", sandboxFull}
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), "its sandbox denies") {
		t.Errorf("the error is %v", err)
	}
	s.clean()
}

func TestAQEMUWithoutASandboxSaysWhatToDo(t *testing.T) {
	for _, words := range []string{
		"qemu-system-x86_64: -sandbox on,obsolete=deny: -sandbox support is not enabled in this QEMU binary",
		"qemu-system-x86_64: There is no option group 'sandbox'",
		"failed to install seccomp syscall filter in the kernel",
	} {
		s := newSite(t)
		s.add("vm", append(bootSector(), make([]byte, 1<<20-512)...), []byte(stateBegin))
		s.script("echo " + `"` + words + `"` + " >&2; exit 1")
		m := s.open(machinery.Options{})
		err := m.RestoreStart(limit(t), "vm")
		mustKind(t, err, machinery.ErrHypervisor)
		if !strings.Contains(err.Error(), "sandbox: false") || !strings.Contains(err.Error(), words) {
			t.Errorf("the error is %v", err)
		}
		s.clean()
	}
}

func BenchmarkRestoreInTheSandbox(b *testing.B) {
	snaps := realSnapshots(b)
	for _, none := range []bool{false, true} {
		b.Run(fmt.Sprintf("NoSandbox=%v", none), func(b *testing.B) {
			s := newSite(b)
			s.config.NoSandbox = none
			s.add("vm", snaps.disk, snaps.running)
			m := s.open(machinery.Options{})
			for b.Loop() {
				if err := m.RestoreStart(limit(b), "vm"); err != nil {
					b.Fatal(err)
				}
				if err := m.Stop(limit(b), "vm"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
