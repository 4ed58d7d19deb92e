//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// site is machines on the fake QEMU, and the commands about them.
type site struct {
	t     *testing.T
	bench conformance.Bench
}

// newSite makes machines. The test holds that nothing of them is left at its
// end.
func newSite(t *testing.T, machines ...conformance.MachineSpec) *site {
	t.Helper()
	lab, err := qemulab.New(t.Context(), qemulab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lab.Close() })
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bench, err := lab.NewBench(t.Context(), dir, machines)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bench.Close(context.Background()) })
	return &site{t, bench}
}

// args are the arguments of a command about the machines.
func (s *site) args(name string, args ...string) []string {
	return append([]string{"vm", name, "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir()}, args...)
}

// vm runs a command about the machines.
func (s *site) vm(name string, args ...string) result {
	s.t.Helper()
	return runCLI(s.t, s.args(name, args...)...)
}

// state fails the test unless the machine is in that state, by the command and
// in truth.
func (s *site) state(name, want string) {
	s.t.Helper()
	r := s.vm("state", name)
	r.want(s.t, 0, "stderr")
	if first, _, _ := strings.Cut(r.out, "\n"); first != name+": "+want {
		s.t.Errorf("state says:\n%s\nwant %s", r.out, want)
	}
	power, err := s.bench.Power(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	if off := want == "poweroff" || strings.HasPrefix(want, "error"); power.On == off {
		s.t.Errorf("%s is said to be %s, and in truth: %+v", name, want, power)
	}
}

func (s *site) nothingLeft() {
	s.t.Helper()
	left, err := s.bench.Leftovers(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(left) > 0 {
		s.t.Errorf("this is left:\n%s", strings.Join(left, "\n"))
	}
}

// says fails the test unless the text has all of these.
func says(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("it should say %q:\n%s", want, text)
		}
	}
}

func TestAMachineRunsOnFromOneCommandToTheNext(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10"})
	s.state("win10", "poweroff")
	r := s.vm("restore", "win10")
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: running\n")
	s.state("win10", "running")
	g, err := s.bench.Guest(t.Context(), "win10")
	if err != nil {
		t.Fatal(err)
	}
	if mark, err := g.Memory(t.Context(), 0); err != nil || mark != s.bench.Saved("win10").Memory {
		t.Errorf("the guest has the mark %#x in its memory (%v), its snapshot %#x", mark, err, s.bench.Saved("win10").Memory)
	}

	again := s.vm("start", "win10")
	again.want(t, exitFailed, "stdout")
	says(t, again.err, `machinery: start "win10": `, "running")
	s.state("win10", "running")

	r = s.vm("stop", "win10")
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: poweroff\n")
	s.state("win10", "poweroff")
	r = s.vm("stop", "win10")
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: was off already\n")
	s.nothingLeft()
}

func TestRestoreLeavesAPausedMachinePausedAndStartDoesNot(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a", SavedPaused: true})
	s.vm("restore", "a").want(t, 0, "stderr")
	s.state("a", "paused (from snapshot)")
	s.vm("resume", "a").want(t, 0, "stderr")
	s.state("a", "running")
	r := s.vm("resume", "a")
	r.want(t, 0, "stderr")
	says(t, r.out, "a: was running already")
	s.vm("stop", "a").want(t, 0, "stderr")
	r = s.vm("resume", "a")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: resume "a": `)
	s.vm("start", "a").want(t, 0, "stderr")
	s.state("a", "running")
	s.vm("stop", "a").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestSeveralMachinesAtOnceAndAllOfThem(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b b"}, conformance.MachineSpec{Name: "c"})
	r := s.vm("list")
	r.want(t, 0, "stderr")
	says(t, r.out, "NAME", "b b ", "192.0.2.3", "windows 10 amd64", "suite machine1")
	names := machinery.Names(decode[[]machinery.Machine](t, s.vm("list", "--json").out))
	if fmt.Sprint(names) != "[a b b c]" {
		t.Errorf("machines: %q", names)
	}
	s.vm("start", "a", "b b", "a").want(t, 0, "stderr")
	s.state("b b", "running")
	s.state("c", "poweroff")
	states := decode[[]vmResult](t, s.vm("state", "--json").out)
	if len(states) != 3 || states[0].Status.State != machinery.StateRunning || states[2].Status.State != machinery.StatePoweroff {
		t.Errorf("states: %+v", states)
	}

	stopped := s.vm("stop", "--all", "--json")
	stopped.want(t, 0, "stderr")
	results := decode[[]vmResult](t, stopped.out)
	if len(results) != 3 || !results[0].OK || results[0].Already || !results[2].OK || !results[2].Already {
		t.Errorf("results: %+v", results)
	}
	none := s.vm("stop")
	none.want(t, exitUsage, "stdout")
	says(t, none.err, "--all", `"a", "b b", "c"`)
	both := s.vm("stop", "--all", "a")
	both.want(t, exitUsage, "stdout")
	s.nothingLeft()
}

func TestAFailedOperationIsOneErrorAndTheOthersGoOn(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "good"},
		conformance.MachineSpec{Name: "bad", Faults: []conformance.Fault{{Kind: conformance.FaultRefuseStart, Text: "the frobnicator is on fire"}}})
	for _, op := range []string{"start", "restore", "boot", "stop", "acpi-stop", "resume", "state"} {
		r := s.vm(op, "good", "ugly", "--json")
		r.want(t, exitUsage, "stdout")
		says(t, r.err, `there is no machine "ugly"; the configuration has "good", "bad"`)
		s.state("good", "poweroff")
	}
	r := s.vm("start", "bad", "good", "--json")
	r.want(t, exitFailed, "")
	says(t, r.err, `machinery: start "bad": `, "the frobnicator is on fire")
	results := decode[[]vmResult](t, r.out)
	if len(results) != 2 || results[0].OK || results[0].Operation != machinery.OpRestoreStart || results[0].Error.Kind != "hypervisor" || !results[1].OK {
		t.Errorf("results: %s", r.out)
	}
	s.state("good", "running")
	s.vm("stop", "good").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestWarningsAndErrorsOfTheConfigurationAreOnStderr(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	text, err := os.ReadFile(s.bench.ConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "odd.yaml")
	if err := os.WriteFile(odd, append([]byte("interfaze: lo\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"vm", "list", "-c", odd, "--runtime-dir", s.bench.RuntimeDir()}
	unnamed := runCLI(t, args...)
	unnamed.want(t, exitUsage, "stdout")
	args = append(args, "--driver", "qemu")
	r := runCLI(t, args...)
	r.want(t, 0, "")
	says(t, r.err, "machinery: "+odd+":1:1: warning: interfaze: ", `did you mean "interface"?`)
	says(t, r.out, "NAME")
	r = runCLI(t, append(args, "--strict")...)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: the configuration of driver "qemu" cannot be used: `, odd+":1:1: ")

	missing := runCLI(t, "vm", "list", "-c", "/nowhere/qemu.yaml")
	missing.want(t, exitFailed, "stdout")
	says(t, missing.err, "/nowhere/qemu.yaml")
}

// startSlowly begins a start that takes a minute and returns once its
// emulator is there.
func startSlowly(t *testing.T, s *site, name string) (interrupt func() result) {
	t.Helper()
	cmd := command(t, s.args("start", name)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		power, err := s.bench.Power(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if power.On {
			break
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("no emulator was started: %s", errs.String())
		}
		time.Sleep(5 * time.Millisecond) // a process that someone else starts gives no event
	}
	return func() result {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	}
}

func TestCtrlCEndsAStartAndLeavesNothing(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "slow", Faults: []conformance.Fault{{Kind: conformance.FaultSlowStart, Delay: time.Minute}}})
	interrupt := startSlowly(t, s, "slow")
	r := interrupt()
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: start "slow": `)
	s.state("slow", "poweroff")
	s.nothingLeft()
}

func TestASecondCommandAtTheSameTimeGetsBusy(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "slow", Faults: []conformance.Fault{{Kind: conformance.FaultSlowStart, Delay: time.Minute}}})
	interrupt := startSlowly(t, s, "slow")
	for _, op := range []string{"stop", "restore", "start"} {
		r := s.vm(op, "slow", "--json")
		r.want(t, exitFailed, "")
		if results := decode[[]vmResult](t, r.out); results[0].Error.Kind != "busy" {
			t.Errorf("%s should be busy: %s", op, r.out)
		}
		says(t, r.err, op+` "slow": the machine is busy: process `, " vm start -c "+s.bench.ConfigPath(), "wait until that lets go of it, or end it")
	}
	r := s.vm("state", "slow")
	r.want(t, 0, "stderr")
	says(t, r.out, "slow: starting")
	interrupt().want(t, exitFailed, "stdout")
	s.nothingLeft()
}

func TestATimeoutEndsAStart(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "slow", Faults: []conformance.Fault{{Kind: conformance.FaultSlowStart, Delay: time.Minute}}})
	r := s.vm("restore", "slow", "--timeout", "300ms", "--json")
	r.want(t, exitFailed, "")
	if results := decode[[]vmResult](t, r.out); results[0].Error.Kind != "interrupted" {
		t.Errorf("it should be interrupted: %s", r.out)
	}
	s.nothingLeft()
}

func TestTheExampleWorksOnARealGuest(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64", "qemu-img")
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	try := filepath.Join(dir, "it's a try")
	r := runCLI(t, "vm", "example", try, "--paused")
	r.want(t, 0, "stderr")
	says(t, r.out, `machinery vm restore -c '`)
	at := []string{"-c", filepath.Join(try, "qemu.yaml"), "--runtime-dir", filepath.Join(dir, "run")}
	for _, step := range []struct {
		args []string
		says string
	}{
		{[]string{"restore", "example1"}, "example1: paused (from snapshot)\n"},
		{[]string{"state"}, "example1: paused (from snapshot)\n"},
		{[]string{"resume", "example1"}, "example1: running\n"},
		{[]string{"state", "example1"}, "example1: running\n"},
		{[]string{"stop", "example1"}, "example1: poweroff\n"},
		{[]string{"state"}, "example1: poweroff\n"},
	} {
		r := runCLI(t, append(append([]string{"vm"}, step.args...), at...)...)
		r.want(t, 0, "stderr")
		says(t, r.out, step.says)
	}
	twice := runCLI(t, "vm", "example", try)
	twice.want(t, exitFailed, "stdout")
	says(t, twice.err, "is not empty")
	none := runCLI(t, "vm", "example", filepath.Join(dir, "none"), "--emulator", "/nowhere/qemu")
	none.want(t, exitFailed, "stdout")
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a failed example leaves its directory")
	}
}

func TestAMachineIsToldOfAndStoppedThoughSomethingOfTheHostIsGone(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"})
	s.vm("restore", "a").want(t, 0, "stderr")
	path := s.bench.ConfigPath()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "interface: lo", "interface: nope0", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.vm("state", "a")
	r.want(t, 0, "")
	says(t, r.out, "running")
	says(t, r.err, "warning: interface: there is no network interface")
	refused := s.vm("resume", "a")
	refused.want(t, exitFailed, "stdout")
	says(t, refused.err, "cannot be used", "there is no network interface")
	s.vm("list").want(t, 0, "")
	s.vm("stop", "a").want(t, 0, "")
	s.nothingLeft()
}
