//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// account lists what a new driver on the site accounts for.
func account(t *testing.T, m *Machinery) []machinery.Run {
	t.Helper()
	runs, err := machinery.Account(limit(t), m)
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// one is the only run that is accounted for.
func one(t *testing.T, m *Machinery) machinery.Run {
	t.Helper()
	runs := account(t, m)
	if len(runs) != 1 {
		t.Fatalf("accounted for: %+v, want one run", runs)
	}
	return runs[0]
}

func TestWhatRunsIsAccountedForAndEndedOnRequestAlone(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m, other := s.open(machinery.Options{}), s.open(machinery.Options{})
	if runs := account(t, m); len(runs) != 0 {
		t.Errorf("before anything ran: %+v", runs)
	}
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	pid := m.pid("vm")
	for _, d := range []*Machinery{m, other} {
		run := one(t, d)
		if run.Machine != "vm" || !run.Configured || run.PID != pid || !run.Held || run.Owner != os.Getpid() || run.Left != "" || run.Status.State != machinery.StatePaused {
			t.Errorf("while it is held: %+v", run)
		}
		if age := time.Since(run.Since); age < -time.Second || age > 10*time.Second {
			t.Errorf("it is said to run since %v, %v ago", run.Since, age)
		}
		mustKind(t, d.Sweep(limit(t), run.ID, true), machinery.ErrBusy)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	run := one(t, other)
	if run.Held || run.Owner != os.Getpid() || run.Left != "" || run.PID != pid {
		t.Errorf("after it was let go of: %+v", run)
	}
	mustKind(t, other.Sweep(limit(t), run.ID, false), machinery.ErrUnexpectedState)
	mustState(t, other, "vm", machinery.StatePaused, reasonFromSnapshot)
	if err := machinery.Sweep(limit(t), other, run.ID, true); err != nil {
		t.Fatal(err)
	}
	mustState(t, other, "vm", machinery.StatePoweroff, "")
	mustKind(t, other.Sweep(limit(t), run.ID, true), machinery.ErrNotFound)
	s.clean()
}

func TestARunThatNoMachineOfTheConfigurationHasIsAccountedForAndSwept(t *testing.T) {
	snaps := realSnapshots(t)
	for _, died := range []bool{false, true} {
		s := newSite(t)
		s.add("vm", snaps.disk, snaps.running)
		m := s.open(machinery.Options{})
		if err := m.RestoreStart(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		pid, overlay := m.pid("vm"), m.frame.Named("vm").overlays[0]
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		s.config.Machines[0].Name = "renamed"
		m = s.open(machinery.Options{})
		if run := one(t, m); run.Configured || run.Machine != "vm" || run.PID != pid || run.Status.State != machinery.StateRunning {
			t.Errorf("%+v", run)
		}
		if died {
			endProcess(t, pid)
			run := one(t, m)
			if run.Left == "" || run.PID != 0 || run.Problem != "" || len(run.Files) != 2 || run.Files[0] != overlay {
				t.Errorf("%+v", run)
			}
		}
		if err := m.Sweep(limit(t), one(t, m).ID, !died); err != nil {
			t.Fatal(err)
		}
		if fileExists(overlay) {
			t.Errorf("%s is left", overlay)
		}
		s.clean()
	}
}

func TestLeftoversAreSweptAndNothingElseIs(t *testing.T) {
	snaps := realSnapshots(t)
	for what, c := range map[string]struct {
		leave func(t *testing.T, m *Machinery, pid int)
		kind  error // of Sweep; nil if it succeeds
	}{
		"a ledger of another boot": {func(t *testing.T, m *Machinery, pid int) {
			endProcess(t, pid)
			changeLedger(t, m, "vm", func(l *ledger) { l.Boot = "another" })
		}, nil},
		"a ledger with a stranger's id": {func(t *testing.T, m *Machinery, pid int) {
			endProcess(t, pid)
			changeLedger(t, m, "vm", func(l *ledger) { l.PID, l.Start = os.Getpid(), mustStart(t) })
		}, nil},
		"a garbled ledger": {func(t *testing.T, m *Machinery, pid int) {
			endProcess(t, pid)
			garble(t, m)
		}, nil},
		"a garbled ledger of what runs": {func(t *testing.T, m *Machinery, pid int) { garble(t, m) }, machinery.ErrUnexpectedState},
		"no ledger": {func(t *testing.T, m *Machinery, pid int) {
			endProcess(t, pid)
			if err := os.Remove(filepath.Join(m.frame.Named("vm").dir, stateFile)); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"a disposable disk alone": {func(t *testing.T, m *Machinery, pid int) {
			endProcess(t, pid)
			if err := os.RemoveAll(m.frame.Named("vm").dir); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"a disposable disk that is in use": {func(t *testing.T, m *Machinery, pid int) {
			if err := os.RemoveAll(m.frame.Named("vm").dir); err != nil {
				t.Fatal(err)
			}
		}, machinery.ErrBusy},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, snaps.running)
			m := s.open(machinery.Options{})
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			pid := m.pid("vm")
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			overlay := m.frame.Named("vm").overlays[0]
			other := filepath.Join(s.runtime, "notes")
			if err := os.Mkdir(other, 0o700); err != nil {
				t.Fatal(err)
			}
			c.leave(t, m, pid)
			m = s.open(machinery.Options{})
			run := one(t, m)
			if run.Left == "" || run.Held || (run.Problem == "") != (c.kind == nil) {
				t.Errorf("accounted for as %+v", run)
			}
			err := m.Sweep(limit(t), run.ID, true)
			if c.kind != nil {
				mustKind(t, err, c.kind)
				if _, err := attachNow(pid); err != nil || !fileExists(overlay) {
					t.Errorf("what runs was touched: %v", err)
				}
				endProcess(t, pid)
				err = m.Sweep(limit(t), run.ID, false)
			}
			if err != nil {
				t.Fatal(err)
			}
			// The disk of a run whose ledger told nothing is found on its own.
			for _, run := range account(t, m) {
				if err := m.Sweep(limit(t), run.ID, false); err != nil {
					t.Fatal(err)
				}
			}
			if runs := account(t, m); len(runs) != 0 {
				t.Errorf("still left: %+v", runs)
			}
			if err := os.Remove(other); err != nil {
				t.Errorf("what is not the driver's was touched: %v", err)
			}
			s.clean()
		})
	}
}

// garble makes the machine's ledger one that nobody can read.
func garble(t *testing.T, m *Machinery) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.frame.Named("vm").dir, stateFile), []byte(`{"version": 1, "mach`), 0o600); err != nil {
		t.Fatal(err)
	}
}
