//go:build linux

package qemu

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/machinery"
)

// booted is a driver with one machine, "vm", that has been booted with these arguments.
func booted(t *testing.T, args ...string) (*site, *Machinery) {
	t.Helper()
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running, args...)
	m := s.open(machinery.Options{})
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	return s, m
}

func TestAMachineBootsFromADisposableDiskAndItsDiskStaysAsItIs(t *testing.T) {
	s, m := booted(t, machineArgs()...)
	mustState(t, m, "vm", machinery.StateRunning, "")
	mustState(t, s.open(machinery.Options{}), "vm", machinery.StateRunning, "")
	if disposable.Written(s.config.Machines[0].Disk) {
		t.Error("the configured disk is open for writing")
	}
	if !disposable.Written(m.frame.Named("vm").overlays[0]) {
		t.Error("the disposable disk is not open for writing")
	}
	mustKind(t, m.NoRestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrStateReached)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	if data, err := os.ReadFile(s.config.Machines[0].Disk); err != nil || !bytes.Equal(data, realSnapshots(t).disk) {
		t.Errorf("the disk was changed, or cannot be read: %v", err)
	}
	s.clean()
}

func TestAMachineThatWasBootedIsTakenOverByTheNextDriver(t *testing.T) {
	s, m := booted(t, machineArgs()...)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StateRunning, "")
	mustKind(t, m.NoRestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestABootThatFailsHasQEMUsWordsAndLeavesNothing(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running, append(machineArgs(), "-device", "no-such-device")...).AllowArguments = []string{"-device"}
	m := s.open(machinery.Options{})
	err := m.NoRestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), "no-such-device") || !strings.Contains(err.Error(), "norestore_start") {
		t.Errorf("the error is %v", err)
	}
	mustState(t, m, "vm", machinery.StateError, reasonStartFailed)
	s.clean()
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
}

func TestABootThatTakesTooLongIsEndedAndSaysSo(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	s.script("sleep 60\n")
	s.config.LoadTimeout = 200_000_000
	m := s.open(machinery.Options{})
	err := m.NoRestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), "200ms") {
		t.Errorf("the error is %v", err)
	}
	s.clean()
}

func TestADiskThatAnotherQEMUWritesToIsNotBooted(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	c := s.add("vm", snaps.disk, snaps.running)
	other := exec.Command(s.config.QEMU, "-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-S",
		"-drive", fmt.Sprintf("file=%s,format=raw,if=ide", c.Disk))
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}
	defer end()
	waitFor(t, "the other QEMU has locked the disk", func() bool { return disposable.Written(c.Disk) })
	m := s.open(machinery.Options{})
	err := m.NoRestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrBusy)
	if !strings.Contains(err.Error(), c.Disk) {
		t.Errorf("the error does not name the disk: %v", err)
	}
	end()
	s.clean()
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
}

func TestStopCancelsABoot(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	s.script("sleep 60\n")
	m := s.open(machinery.Options{})
	done := make(chan error, 1)
	go func() { done <- m.NoRestoreStart(limit(t), "vm") }()
	waitFor(t, "the machine starts", func() bool {
		status, err := m.State(limit(t), "vm")
		return err == nil && status == machinery.Status{State: machinery.StateStarting, Reason: reasonBooting}
	})
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, <-done, machinery.ErrInterrupted)
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	s.clean()
}

func TestAMachineWithoutASnapshotIsBootedAndNotRestored(t *testing.T) {
	snaps := realSnapshots(t)
	for name, spoil := range map[string]func(s *site, c *MachineConfig){
		"missing":   func(s *site, c *MachineConfig) { os.Remove(c.Snapshot) },
		"not named": func(s *site, c *MachineConfig) { c.Snapshot = "" },
		"garbage":   func(s *site, c *MachineConfig) { s.write("vm0/snapshot", []byte("garbage")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			spoil(s, s.add("vm", snaps.disk, snaps.running))
			m := s.open(machinery.Options{})
			mustState(t, m, "vm", machinery.StateError, reasonConfig)
			mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrConfig)
			mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrConfig)
			if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			mustState(t, m, "vm", machinery.StateRunning, "")
			mustKind(t, m.NoRestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
			if err := m.ACPIStop(limit(t), "vm"); err != nil {
				t.Error(err)
			}
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			mustState(t, m, "vm", machinery.StateError, reasonConfig)
			s.clean()
		})
	}
}

func TestAFileWhoseSnapshotIsMissingSaysSoAndItsMachineBoots(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	c := s.add("vm", snaps.disk, snaps.running)
	m, err := s.openFile(fmt.Sprintf(`interface: lo
disposable_copy_dir:
binaries: {qemu_img: /bin/true, qemu_system_x86_64: %s}
machines:
  vm: {qcow2_path: %s, snapshot_path: %s/none, machineinfo_path: %s, ip: 192.0.2.1, platform: none, os_version: "1", architecture: amd64, tags: []}
`, s.config.QEMU, c.Disk, s.dir, c.Info))
	if err != nil {
		t.Fatal(err)
	}
	status, err := m.State(t.Context(), "vm")
	if err != nil || status.State != machinery.StateError || !strings.Contains(status.Detail, "snapshot_path") {
		t.Errorf("the state is %+v, %v", status, err)
	}
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrConfig)
	if err := machinery.NoRestoreStart(limit(t), m, "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
