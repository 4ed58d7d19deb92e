//go:build linux

package qemu

import (
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

func TestThePowerButtonOfARunningMachineIsPressedAndOfNoOther(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	mustKind(t, m.ACPIStop(limit(t), "vm"), machinery.ErrStateReached)
	s.clean()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	c, err := m.Monitor(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	events := c.Events(limit(t))
	mustKind(t, m.ACPIStop(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Name != "RESUME" {
		t.Errorf("the first event is %s: the button of a paused machine was pressed", e.Name)
	}
	if err := m.ACPIStop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Name != "POWERDOWN" {
		t.Errorf("the event is %s", e.Name)
	}
	mustState(t, m, "vm", machinery.StateRunning, "") // the test's guest has no use for the button
	stranger(t, m, "stop", nil)
	mustKind(t, m.ACPIStop(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, m.ACPIStop(limit(t), "vm"), machinery.ErrStateReached)
	s.clean()
}

func TestThePowerButtonOfAMachineThatSomeoneLeftRunningCanBePressed(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running)
	second := s.open(machinery.Options{})
	mustKind(t, second.ACPIStop(limit(t), "vm"), machinery.ErrBusy)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.ACPIStop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := second.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestThePowerButtonOfAQEMUThatDoesNotAnswerIsABoundedError(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	mustKind(t, m.ACPIStop(limit(t), "vm"), machinery.ErrConnection)
	if took := time.Since(began); took > stateTime+time.Second {
		t.Errorf("it took %v", took)
	}
}
