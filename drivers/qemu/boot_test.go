//go:build linux

package qemu

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

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
	if imageWritten(s.config.Machines[0].Disk) {
		t.Error("the configured disk is open for writing")
	}
	if !imageWritten(m.byName["vm"].overlay) {
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
	s.add("vm", snaps.disk, snaps.running, append(machineArgs(), "-device", "no-such-device")...)
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
	waitFor(t, "the other QEMU has locked the disk", func() bool { return imageWritten(c.Disk) })
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
