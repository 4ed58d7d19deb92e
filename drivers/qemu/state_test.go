//go:build linux

package qemu

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/machinery"
)

func TestAMachineThatSomeoneElsePausedIsAnErrorAndIsNotResumed(t *testing.T) {
	snaps := realSnapshots(t)
	s, m := restored(t, snaps.running)
	stranger(t, m, "stop", nil)
	mustState(t, m, "vm", machinery.StateError, reasonStranger)
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
	mustState(t, m, "vm", machinery.StateError, reasonStranger)
	stranger(t, m, "cont", nil)
	mustState(t, m, "vm", machinery.StateRunning, "")
	stranger(t, m, "stop", nil)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestOnceResumedAMachineIsNotPausedFromItsSnapshotAnyMore(t *testing.T) {
	snaps := realSnapshots(t)
	s, m := restored(t, snaps.paused)
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	stranger(t, m, "cont", nil)
	mustState(t, m, "vm", machinery.StateRunning, "")
	stranger(t, m, "stop", nil)
	waitFor(t, "the driver has seen that the machine was resumed", func() bool {
		status, err := m.State(limit(t), "vm")
		return err == nil && status.State == machinery.StateError
	})
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
	other := s.open(machinery.Options{})
	mustState(t, other, "vm", machinery.StateError, reasonStranger)
	if err := m.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAResetWhilePausedIsNotResumed(t *testing.T) {
	snaps := realSnapshots(t)
	s, m := restored(t, snaps.paused)
	stranger(t, m, "system_reset", nil)
	status := mustState(t, m, "vm", machinery.StateError, reasonStranger)
	if !strings.Contains(status.Detail, "prelaunch") {
		t.Errorf("the detail is %q", status.Detail)
	}
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestABrokenConnectionIsMadeAgain(t *testing.T) {
	snaps := realSnapshots(t)
	s, m := restored(t, snaps.paused)
	cut := func() {
		c, err := m.Monitor(limit(t), "vm")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	cut()
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	cut()
	mustState(t, m, "vm", machinery.StateRunning, "")
	if _, err := m.Monitor(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	cut()
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	_, err := m.Monitor(limit(t), "vm")
	mustKind(t, err, machinery.ErrUnexpectedState)
	s.clean()
}

// Every run state of the QEMU that is installed has a meaning.
func TestTheTableOfRunStatesIsWhole(t *testing.T) {
	snaps := realSnapshots(t)
	_, m := restored(t, snaps.paused)
	c, err := m.Monitor(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	var schema []struct {
		Name     string   `json:"name"`
		MetaType string   `json:"meta-type"`
		RetType  string   `json:"ret-type"`
		Values   []string `json:"values"`
		Members  []struct{ Name, Type string }
	}
	if err := c.Execute(limit(t), "query-qmp-schema", nil, &schema); err != nil {
		t.Fatal(err)
	}
	find := func(name string) int {
		for i := range schema {
			if schema[i].Name == name {
				return i
			}
		}
		t.Fatalf("the schema has no %q", name)
		return -1
	}
	status := schema[find(schema[find("query-status")].RetType)]
	i := slices.IndexFunc(status.Members, func(m struct{ Name, Type string }) bool { return m.Name == "status" })
	for _, name := range schema[find(status.Members[i].Type)].Values {
		if _, known := runStates[name]; !known {
			t.Errorf("the run state %q has no meaning", name)
		}
	}
	for name, s := range runStates {
		if !s.state.Valid() || s.state == machinery.StateError && (s.reason == "" || s.detail == "" && name != "paused") {
			t.Errorf("the run state %q is %+v", name, s)
		}
	}
}

// A QEMU of the future: this process stands for it, with a ledger that says so.
func TestARunStateThatIsNotKnownIsAnErrorAndNoGuess(t *testing.T) {
	s := newSite(t)
	s.add("vm", append(bootSector(), make([]byte, 512)...), []byte(stateBegin))
	m := s.open(machinery.Options{})
	v := m.frame.Named("vm")
	h, err := acquire(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.remove()
	boot, err := process.BootID()
	if err != nil {
		t.Fatal(err)
	}
	// This process stands for QEMU.
	args := process.CommandLine(os.Getpid())[1:]
	err = h.write(ledger{Machine: "vm", Phase: phaseSettled, Identity: process.Identity{PID: os.Getpid(), Start: mustStart(t), Boot: boot, Args: len(args), Digest: process.Digest(args)}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(v.dir, readSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		in, out := json.NewDecoder(c), json.NewEncoder(c)
		out.Encode(map[string]any{"QMP": map[string]any{"version": map[string]any{"qemu": map[string]any{"major": 99, "minor": 0, "micro": 0}, "package": ""}, "capabilities": []string{}}})
		for {
			var command struct {
				Execute string
				ID      any `json:"id"`
			}
			if in.Decode(&command) != nil {
				return
			}
			answer := map[string]any{}
			if command.Execute == "query-status" {
				answer = map[string]any{"status": "quantum", "running": true, "singlestep": false}
			}
			out.Encode(map[string]any{"return": answer, "id": command.ID})
		}
	}()
	_, err = m.State(limit(t), "vm")
	mustKind(t, err, machinery.ErrUnhandledState)
	if !strings.Contains(err.Error(), "quantum") {
		t.Errorf("%v does not name the state", err)
	}
	<-served
}

func TestADeadContextDoesNothing(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	_, stateErr := m.State(dead, "vm")
	_, newErr := New(dead, s.config, machinery.Options{})
	for _, err := range []error{m.RestoreStart(dead, "vm"), m.Stop(dead, "vm"), m.HandlePaused(dead, "vm"), m.Shutdown(dead), stateErr, newErr} {
		mustKind(t, err, machinery.ErrInterrupted)
	}
	s.clean()
	mustKind(t, m.Stop(limit(t), "no"), machinery.ErrNotFound)
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, m.Stop(dead, "vm"), machinery.ErrInterrupted)
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestManyCallersGetTheRightStateAtOnce(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("on", snaps.disk, snaps.running)
	s.add("paused", snaps.disk, snaps.paused)
	s.add("off", snaps.disk, snaps.paused)
	m, other := s.open(machinery.Options{}), s.open(machinery.Options{})
	for _, name := range []string{"on", "paused"} {
		if err := m.RestoreStart(limit(t), name); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]machinery.State{"on": machinery.StateRunning, "paused": machinery.StatePaused, "off": machinery.StatePoweroff}
	done := make(chan struct{})
	callers := 0
	for range 8 {
		for name, state := range want {
			for _, d := range []*Machinery{m, other} {
				callers++
				go func() {
					defer func() { done <- struct{}{} }()
					for range 5 {
						ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
						if got, err := d.State(ctx, name); err != nil || got.State != state {
							t.Errorf("%s is %v (%s), %v; want %s", name, got, got.Detail, err, state)
						}
						cancel()
					}
				}()
			}
		}
	}
	for range callers {
		<-done
	}
	if err := m.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
