//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/machinery"
)

func TestAKilledMachineWithTwoOverlaysIsClearedUpByTheNextDriver(t *testing.T) {
	s, _, _ := mediumSite(t, mediumCases["drive, raw, ide"])
	first := s.open(machinery.Options{})
	if err := first.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	pid := first.frame.Named("vm").run.proc.PID
	overlays := first.frame.Named("vm").overlays
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, overlay := range overlays {
		if !disposable.Written(overlay) {
			t.Fatalf("QEMU does not write to %s after its driver let go of it", overlay)
		}
	}
	// What a driver leaves whose machine is killed with it: the ledger and both overlays.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := s.open(machinery.Options{})
	if err := second.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	q, err := second.frame.Named("vm").run.master(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	qemuIO(t, q, "second", "read -P 0x22 0 512")
	if err := second.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAStartThatFailsAtTheSecondOverlayLeavesNeither(t *testing.T) {
	s, _, _ := mediumSite(t, mediumCases["drive, raw, ide"])
	m := s.open(machinery.Options{})
	// A directory with something in it is nothing that a driver takes for its own left-over.
	inTheWay := m.frame.Named("vm").overlays[1]
	if err := os.MkdirAll(filepath.Join(inTheWay, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), inTheWay) {
		t.Errorf("%v does not name %s", err, inTheWay)
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAMediumThatSomebodyWritesToFailsTheStart(t *testing.T) {
	s, vm, file := mediumSite(t, mediumCase{args: mediumCases["drive, raw, ide"].args, device: "second", size: 1 << 20})
	plain := filepath.Join(s.dir, "medium") // the other has a comma in its name
	if err := os.Rename(file, plain); err != nil {
		t.Fatal(err)
	}
	for i, arg := range vm.Args {
		vm.Args[i] = strings.ReplaceAll(arg, asSetting("", file), plain)
	}
	m := s.open(machinery.Options{})
	_, end := writeTo(t, plain, "raw")
	for op, start := range map[error]func() error{
		machinery.ErrHypervisor: func() error { return m.RestoreStart(limit(t), "vm") },
		machinery.ErrBusy:       func() error { return m.NoRestoreStart(limit(t), "vm") },
	} {
		err := start()
		mustKind(t, err, op)
		if !strings.Contains(err.Error(), plain) {
			t.Errorf("%v does not name %s", err, plain)
		}
	}
	end()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAMediumThatChangedSinceTheSnapshotIsRefusedByItsName(t *testing.T) {
	for what, sealed := range map[string]bool{"since the driver was opened": false, "since it was sealed": true} {
		t.Run(what, func(t *testing.T) {
			s, _, file := mediumSite(t, mediumCases["blockdev, dotted"])
			m := s.open(machinery.Options{})
			if sealed {
				if _, err := m.SealSnapshot(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content[4096] ^= 1
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if sealed {
				m = s.open(machinery.Options{})
			}
			err = m.RestoreStart(limit(t), "vm")
			mustKind(t, err, machinery.ErrConfig)
			if !strings.Contains(err.Error(), file+" has changed") {
				t.Errorf("%v does not say that %s has changed", err, file)
			}
			s.clean()
		})
	}
}

func TestAMachineWithAnotherWritableMediumIsNotSaved(t *testing.T) {
	s, _, file := mediumSite(t, mediumCases["hdb"])
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.dir, "saved")
	_, err := m.SaveSnapshot(limit(t), "vm", SaveOptions{Dir: dir})
	mustKind(t, err, machinery.ErrConfig)
	if !strings.Contains(err.Error(), file) {
		t.Errorf("%v does not name %s", err, file)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Errorf("%s is there", dir)
	}
	s.clean()
}

func TestAMachineWithTwoMediaCanBeBooted(t *testing.T) {
	s, _, file := mediumSite(t, mediumCases["blockdev, JSON, two nodes, qcow2"])
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := s.open(machinery.Options{})
	for range 2 {
		if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		q, err := m.frame.Named("vm").run.master(limit(t))
		if err != nil {
			t.Fatal(err)
		}
		qemuIO(t, q, "-d dev", "read -P 0x22 0 512")
		qemuIO(t, q, "-d dev", "write -P 0x33 0 512")
		if err := m.Stop(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(before) {
		t.Errorf("the medium itself was written to (%v)", err)
	}
	s.clean()
}
