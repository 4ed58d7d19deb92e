//go:build linux

package qemu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/machinery"
)

func TestAMachineWhoseFileIsEditedWhileItRunsIsStillSeenAndStopped(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	before := cuckooYAML(s)
	for what, edit := range map[string]func() string{
		"another snapshot": func() string {
			return strings.ReplaceAll(before, s.config.Machines[0].Snapshot, s.write("another.snapshot", snaps.paused))
		},
		"another disk": func() string {
			return strings.ReplaceAll(before, s.config.Machines[0].Disk, s.write("another.disk", snaps.disk))
		},
		"no such snapshot": func() string { return strings.ReplaceAll(before, s.config.Machines[0].Snapshot, s.dir+"/nothing") },
		"an empty disk":    func() string { return strings.ReplaceAll(before, s.config.Machines[0].Disk, s.write("empty", nil)) },
		"no such machineinfo": func() string {
			return strings.ReplaceAll(before, s.config.Machines[0].Info, s.dir+"/nothing")
		},
	} {
		t.Run(what, func(t *testing.T) {
			m, err := s.openFile(before)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if m, err = s.openFile(edit()); err != nil {
				t.Fatal(err)
			}
			mustState(t, m, "vm", machinery.StateRunning, "")
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(s.runtime); err != nil || len(entries) > 0 {
				t.Errorf("in the runtime directory are %v, %v", entries, err)
			}
			if entries, _ := filepath.Glob(filepath.Join(s.dir, "vm0", "*_disposable.qcow2")); len(entries) > 0 {
				t.Errorf("%q is left", entries)
			}
			status, err := m.State(limit(t), "vm")
			wantBad := strings.HasPrefix(what, "no ") || strings.HasPrefix(what, "an empty")
			if err != nil || wantBad && status.Reason != reasonConfig || !wantBad && status.State != machinery.StatePoweroff {
				t.Errorf("afterwards the state is %s: %s, %v", status, status.Detail, err)
			}
			m.Close()
		})
	}
}

func TestAMachineOfATypedConfigurationIsSeenThoughItsFilesAreGone(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	vm := s.add("vm", snaps.disk, snaps.running)
	link := filepath.Join(s.dir, "link")
	if err := os.Symlink(vm.Disk, link); err != nil {
		t.Fatal(err)
	}
	disk := vm.Disk
	vm.Disk = link
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, disk, vm.Snapshot, vm.Info} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	s.config.QEMU = "/nonexistent/qemu"
	m = s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StateRunning, "")
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrConfig)
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateError, reasonConfig)
	mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrConfig)
	s.clean()
}

func TestWithoutEmulatorOrPlaceForDisposableDisksMachinesAreReadAndStoppedButNotStarted(t *testing.T) {
	snaps := realSnapshots(t)
	for what, c := range map[string]struct {
		change func(s *site)
		kind   error
		want   string
	}{
		"no emulator":                           {func(s *site) { s.config.QEMU = "/nonexistent/qemu" }, machinery.ErrDependency, "/nonexistent/qemu"},
		"an emulator that is a directory":       {func(s *site) { s.config.QEMU = s.dir }, machinery.ErrDependency, "a directory"},
		"an emulator that is no program":        {func(s *site) { s.config.QEMU = s.write("qemu", nil) }, machinery.ErrDependency, "permission denied"},
		"no disposable directory":               {func(s *site) { s.config.DisposableDir = "/nonexistent" }, machinery.ErrConfig, "/nonexistent"},
		"a disposable directory that is a file": {func(s *site) { s.config.DisposableDir = s.config.Machines[0].Info }, machinery.ErrConfig, "not a directory"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, snaps.running)
			m := s.open(machinery.Options{})
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			disposable := s.config.DisposableDir
			c.change(s)
			m = s.open(machinery.Options{})
			mustState(t, m, "vm", machinery.StateRunning, "")
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			status := mustState(t, m, "vm", machinery.StateError, reasonConfig)
			err := m.RestoreStart(limit(t), "vm")
			mustKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(status.Detail, c.want) {
				t.Errorf("%q is not in %v and %s", c.want, err, status.Detail)
			}
			s.config.DisposableDir = disposable
			s.clean()
		})
	}
}

func TestASecondDriverOnTheSameMachineWithAnotherRuntimeDirectoryIsRefusedAndLeavesTheFirstsDisk(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	vm := s.add("vm", snaps.disk, snaps.paused)
	first := s.open(machinery.Options{})
	if err := first.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	overlay := first.frame.Named("vm").overlays[0]
	mine := s.runtime
	s.runtime = filepath.Join(s.dir, "run2")
	vm.Snapshot = s.write("another.snapshot", snaps.running)
	second := s.open(machinery.Options{})
	err := second.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), overlay) {
		t.Errorf("%v does not name %s", err, overlay)
	}
	if err := second.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if !fileExists(overlay) {
		t.Error("the second driver removed the first one's disposable disk")
	}
	mustState(t, first, "vm", machinery.StatePaused, reasonFromSnapshot)
	if err := first.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
	s.runtime = mine
	s.clean()
}

func TestADisposableDiskThatAnotherDriverHasJustMadeIsNotTaken(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	overlay := m.frame.Named("vm").overlays[0]
	base, err := checkDisk(s.config.Machines[0].Disk)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := disposable.Make(overlay, base) // no QEMU has a lock on it yet
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(overlay)
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrHypervisor)
	if after, err := os.Stat(overlay); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was replaced or removed: %v", err)
	}
	theirs.Close()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAStartThatFailsBeforeItMakesADiskLeavesTheOneThatIsThere(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	overlay := m.frame.Named("vm").overlays[0]
	if err := os.WriteFile(overlay, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.config.Machines[0].Snapshot, s.config.Machines[0].Disk} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrConfig)
		if data, err := os.ReadFile(overlay); err != nil || string(data) != "another's" {
			t.Fatalf("after a start without %s it is %q, %v", path, data, err)
		}
	}
	if err := os.Remove(overlay); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestMachinesWithoutPathsShareNothing(t *testing.T) {
	s := newSite(t)
	disk, snapshot := append(bootSector(), make([]byte, 512)...), []byte(stateBegin+"…")
	for _, name := range []string{"one", "two"} {
		vm := s.add(name, disk, snapshot)
		vm.Disk, vm.Snapshot = "", s.dir // nothing, and what is no file
	}
	m := s.open(machinery.Options{})
	for _, name := range []string{"one", "two"} {
		status := mustState(t, m, name, machinery.StateError, reasonConfig)
		if strings.Contains(status.Detail, "own copy") || !strings.Contains(status.Detail, "no disk is named") {
			t.Errorf("%s: %s", name, status.Detail)
		}
	}
	if _, err := os.Lstat(s.runtime); errors.Is(err, fs.ErrNotExist) {
		t.Error("the runtime directory is not there")
	}
}
