//go:build linux

package qemu

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// untilDumping waits until the QEMU of the machine vm is at a dump of which it has written something.
func untilDumping(m *Machinery) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		c, err := m.frame.Named("vm").run.master(ctx)
		if err != nil {
			return err
		}
		var progress struct {
			Status    string
			Completed int64
		}
		if err := c.Execute(ctx, "query-dump", nil, &progress); err != nil {
			return err
		}
		if progress.Status == "active" && progress.Completed > 0 {
			return nil
		}
		time.Sleep(time.Millisecond) // QEMU tells of the end of a dump alone
	}
	return errors.New("QEMU does not begin to dump")
}

// diedInADump is a machine whose driver was killed while QEMU dumped its memory.
func diedInADump(t *testing.T) (*site, string) {
	t.Helper()
	snaps := realSnapshots(t)
	s := newSite(t)
	// What cannot be compressed takes QEMU a while: 32 MiB more than a second.
	noise := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	s.write("noise", noise)
	s.config.AllowArguments = []string{"-device loader"}
	s.add("vm", snaps.disk, snaps.running, append(big(), "-vga", "std",
		"-device", "loader,file="+filepath.Join(s.dir, "noise")+",addr=0x4000000,force-raw=on")...)
	dir := filepath.Join(s.dir, "dumps")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	killChild(startChild(t, s, "dump", true))
	return s, dir
}

func TestAMachineWhoseDriverDiedInADumpIsPausedForItUntilQEMUIsDoneAndThenHasAllItsAbilities(t *testing.T) {
	s, dir := diedInADump(t)
	m := s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StatePaused, reasonDump)
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("the dump left %q", left)
	}
	// Taken over while QEMU is at the dump, by an operation that has to wait for the end of that.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	mustKind(t, m.HandlePaused(ctx, "vm"), machinery.ErrInterrupted)
	mustState(t, m, "vm", machinery.StatePaused, reasonDump)
	// Let go of again and taken over by another: it still is what it was.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StatePaused, reasonDump)
	events, err := m.Watch(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Status.State != machinery.StatePaused {
		t.Errorf("the watch begins with %v", e.Status)
	}
	path := filepath.Join(dir, "dump")
	if err := m.DumpMemoryFormat(limit(t), "vm", path, "kdump-zlib"); err != nil {
		t.Fatalf("the next dump does not wait for the one before it: %v", err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if l, err := readLedger(m.frame.Named("vm").dir); err != nil || l.Phase != phaseSettled {
		t.Errorf("the ledger says %+v, %v", l, err)
	}
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrStateReached)
	if picture, err := m.Screenshot(limit(t), "vm"); err != nil || len(picture) == 0 {
		t.Errorf("Screenshot: %d bytes, %v", len(picture), err)
	}
	if err := m.ACPIStop(limit(t), "vm"); err != nil {
		t.Errorf("ACPIStop: %v", err)
	}
	if c, err := m.Monitor(limit(t), "vm"); err != nil {
		t.Errorf("Monitor: %v", err)
	} else if err := c.Execute(limit(t), "stop", nil, nil); err != nil {
		t.Error(err)
	}
	for e := range events {
		if e.Status.Reason == reasonStranger {
			break // seen by the watch that began before the machine was this driver's
		}
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAMachineWhoseDriverDiedInADumpCanBeStoppedAtOnce(t *testing.T) {
	s, dir := diedInADump(t)
	m := s.open(machinery.Options{})
	began := time.Now()
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("the dump left %q", left)
	}
	s.clean()
}

func TestADumpThatEndedWhileNoDriverWasThereIsNotWaitedFor(t *testing.T) {
	s, _ := diedInADump(t)
	m := s.open(machinery.Options{})
	waitFor(t, "QEMU is done with the dump", func() bool {
		status, err := m.State(limit(t), "vm")
		if err != nil || status.State != machinery.StateRunning && status.Reason != reasonDump {
			t.Fatalf("%s, %v", status, err)
		}
		return status.State == machinery.StateRunning
	})
	began := time.Now()
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrStateReached)
	if took := time.Since(began); took > dumpAsk {
		t.Errorf("it took %v", took)
	}
	// Taken over by an operation that left it as it was: by now the ledger tells that nothing is going on.
	if l, err := readLedger(m.frame.Named("vm").dir); err != nil || l.Phase != phaseSettled {
		t.Errorf("the ledger says %+v, %v", l, err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
