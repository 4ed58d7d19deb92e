//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
)

// runOf is the run of a machine as the list has it; it fails the test if there
// is none.
func (s *site) runOf(name string) listedMachine {
	s.t.Helper()
	r := s.vm("list", "--json")
	r.want(s.t, 0, "stderr")
	for _, m := range decode[[]listedMachine](s.t, r.out) {
		if m.Name == name && m.Run != nil {
			return m
		}
	}
	s.t.Fatalf("no run of %s is listed:\n%s", name, r.out)
	return listedMachine{}
}

// killEmulator ends a machine's emulator from outside.
func (s *site) killEmulator(name string) {
	s.t.Helper()
	if err := syscall.Kill(s.runOf(name).Run.PID, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); s.runOf(name).Run.Left == ""; time.Sleep(5 * time.Millisecond) { // nothing tells of the end of another's child
		if time.Now().After(deadline) {
			s.t.Fatal("the emulator does not end")
		}
	}
}

func TestTheListTellsOwnerAgeAndLeftovers(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"}, conformance.MachineSpec{Name: "c"})
	s.vm("start", "a", "b").want(t, 0, "stderr")
	s.killEmulator("b")
	r := s.vm("list")
	r.want(t, 0, "stderr")
	for _, line := range []string{`(?m)^NAME +OWNER +AGE `, `(?m)^a +- +[0-9]+s `, `(?m)^b +- +- `, `(?m)^c +- +- `, `(?m)^b: left over for [0-9]+s: its QEMU \(process [0-9]+\) has ended$`} {
		if !regexp.MustCompile(line).MatchString(r.out) {
			t.Errorf("no line is like %s:\n%s", line, r.out)
		}
	}
	if run := s.runOf("a").Run; run.Held || run.Owner == 0 || run.PID == 0 {
		t.Errorf("a: %+v", run)
	}
	s.vm("stop", "--all").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestSweepShowsAndAsksAndClearsUpWhatNobodyOwns(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "dead"}, conformance.MachineSpec{Name: "alive"}, conformance.MachineSpec{Name: "never"})
	nothing := s.vm("sweep")
	nothing.want(t, 0, "stderr")
	says(t, nothing.out, "Nothing is to be cleared up.")
	s.vm("start", "dead", "alive").want(t, 0, "stderr")
	s.killEmulator("dead")
	files := s.runOf("dead").Run.Files

	shown := s.vm("sweep", "--dry-run")
	shown.want(t, 0, "stderr")
	says(t, shown.out, append(files, "remove dead: left over", "leave  alive: running", "held by nobody", "1 machine runs on, held by nobody; --running would end it.")...)
	unasked := s.vm("sweep")
	unasked.want(t, exitUsage, "")
	says(t, unasked.err, "--yes", "no terminal")
	says(t, unasked.out, "remove dead")
	json := s.vm("sweep", "--json")
	json.want(t, exitUsage, "stdout")
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			t.Errorf("removed without asking: %v", err)
		}
	}
	unknown := s.vm("sweep", "--yes", "deed")
	unknown.want(t, exitUsage, "stdout")
	says(t, unknown.err, `"deed"`)
	other := s.vm("sweep", "--yes", "never")
	other.want(t, 0, "stderr")
	says(t, other.out, "Nothing is to be cleared up.")

	swept := s.vm("sweep", "--yes", "--json")
	swept.want(t, 0, "stderr")
	if results := decode[[]sweptRun](t, swept.out); len(results) != 1 || results[0].Machine != "dead" || !results[0].Swept {
		t.Errorf("results: %+v", results)
	}
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is left", file)
		}
	}
	s.state("alive", "running")
	ended := s.vm("sweep", "--yes", "--running", "alive")
	ended.want(t, 0, "stderr")
	says(t, ended.out, "end    alive: running", "Cleared away: 1 of 1.")
	s.state("alive", "poweroff")
	s.nothingLeft()
}

func TestSweepFindsWhatIsLeftOfAConfigurationThatIsGone(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b b"})
	s.vm("start", "a", "b b").want(t, 0, "stderr")
	pid := s.runOf("a").Run.PID
	s.killEmulator("a")
	// A name as no configuration may have it.
	ledger := filepath.Join(s.bench.RuntimeDir(), s.runOf("a").Run.ID, "state.json")
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ledger, bytes.Replace(text, []byte(`"machine": "a"`), []byte(`"machine": "a\u001b[2J"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	bare := func(args ...string) result {
		return runCLI(t, append([]string{"vm", "sweep", "--runtime-dir", s.bench.RuntimeDir()}, args...)...)
	}
	shown := bare("--dry-run")
	shown.want(t, 0, "stderr")
	says(t, shown.out, fmt.Sprintf("remove a\\x1b[2J: left over for 0s: its QEMU (process %d) has ended\n", pid), `leave  b b: running`)
	if strings.Contains(shown.out, "\x1b") {
		t.Error("a name reaches the terminal as it is")
	}
	bare("--yes").want(t, 0, "stderr")
	s.state("b b", "running")
	bare("--yes", "--running").want(t, 0, "stderr")
	wrong := bare("--driver", "kmu")
	wrong.want(t, exitUsage, "stdout")
	s.nothingLeft()
}

func TestSweepLeavesAloneWhatALivingProgramHolds(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a", Faults: []conformance.Fault{{Kind: conformance.FaultSlowStart, Delay: time.Minute}}})
	interrupt := startSlowly(t, s, "a")
	if run := s.runOf("a").Run; !run.Held || run.Owner == 0 || run.Owner == os.Getpid() {
		t.Errorf("while it starts: %+v", run)
	}
	r := s.vm("sweep", "--yes", "--running")
	r.want(t, 0, "stderr")
	says(t, r.out, "leave  a: starting", "held by process", "Nothing is to be cleared up.")
	if left, _ := filepath.Glob(filepath.Join(s.bench.RuntimeDir(), "*", "state.json")); len(left) != 1 {
		t.Errorf("ledgers: %q", left)
	}
	interrupt()
	s.nothingLeft()
}

func TestAMachineWhoseProgramWasKilledInADumpIsInAKnownStateAndCanBeDumpedAgain(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a", Faults: []conformance.Fault{{Kind: conformance.FaultSlowDump, Delay: 3 * time.Second}}})
	s.vm("start", "a").want(t, 0, "stderr")
	path := filepath.Join(t.TempDir(), "dump")
	cmd := command(t, s.args("dump", "a", "--write", path)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dumping := func() bool { return strings.Contains(s.vm("state", "a").out, "paused (memory dump)") }
	deadline := time.Now().Add(10 * time.Second)
	for !dumping() {
		if time.Now().After(deadline) {
			t.Error("the dump does not begin")
			break
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// Whether the emulator had begun, only it knows.
	if r := s.vm("state", "a"); r.out != "a: running\n" && r.out != "a: paused (memory dump)\n" {
		t.Errorf("after the program's death: %s%s", r.out, r.err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file of half a dump")
	}
	s.vm("dump", "a", "--write", path).want(t, 0, "")
	s.state("a", "running")
	s.vm("stop", "a").want(t, 0, "stderr")
	s.nothingLeft()
}
