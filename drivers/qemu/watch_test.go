//go:build linux

package qemu

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// nextEvent receives one event.
func nextEvent(t *testing.T, events <-chan machinery.Event) machinery.Event {
	t.Helper()
	select {
	case e, open := <-events:
		if !open {
			t.Fatal("the watch has ended")
		}
		return e
	case <-limit(t).Done():
		t.Fatal("no event came")
	}
	return machinery.Event{}
}

// eventually receives events until one has the state and the reason, and returns it.
func eventually(t *testing.T, events <-chan machinery.Event, state machinery.State, reason string) machinery.Event {
	t.Helper()
	for {
		if e := nextEvent(t, events); e.Status.State == state && e.Status.Reason == reason {
			return e
		}
	}
}

func startWatch(t *testing.T, m *Machinery) <-chan machinery.Event {
	t.Helper()
	events, err := m.Watch(t.Context(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestAWatchTellsOfWhateverHappensToAMachineThatIsHeld(t *testing.T) {
	s, m := restored(t, realSnapshots(t).paused)
	events := startWatch(t, m)
	if e := nextEvent(t, events); e.Status.State != machinery.StatePaused || e.Gap {
		t.Errorf("the first event is %+v", e)
	}
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		do     func()
		state  machinery.State
		reason string
	}{
		{func() {}, machinery.StateRunning, ""},
		{func() { stranger(t, m, "stop", nil) }, machinery.StateError, reasonStranger},
		{func() { stranger(t, m, "cont", nil) }, machinery.StateRunning, ""},
		{func() { _ = syscall.Kill(m.pid("vm"), syscall.SIGSTOP) }, machinery.StateError, reasonNoAnswer}, // by asking: it tells nothing
		{func() { _ = syscall.Kill(m.pid("vm"), syscall.SIGCONT) }, machinery.StateRunning, ""},
		{func() { stranger(t, m, "quit", nil) }, machinery.StatePoweroff, "someone else told QEMU to quit"},
	} {
		began := time.Now()
		step.do()
		e := eventually(t, events, step.state, step.reason)
		if e.Time.Before(began) && step.state != machinery.StateRunning {
			t.Errorf("%s is from before it was", e.Status)
		}
	}
	waitFor(t, "nothing is left", func() bool { return !fileExists(m.frame.Named("vm").dir) })
	s.clean()
}

func TestAWatchTellsAtOnceOfWhatQEMUTellsAtOnce(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	events := startWatch(t, m)
	nextEvent(t, events)
	var took []time.Duration
	for range 10 {
		began := time.Now()
		stranger(t, m, "stop", nil)
		eventually(t, events, machinery.StateError, reasonStranger)
		took = append(took, time.Since(began))
		stranger(t, m, "cont", nil)
		eventually(t, events, machinery.StateRunning, "")
	}
	slices.Sort(took)
	if middle := took[len(took)/2]; middle > watchOthers {
		t.Errorf("half of the changes were told after more than %v: they were found by asking", middle)
	}
}

func TestAKillIsToldThoughTheStateOfASilentQEMUIsBeingAskedFor(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	events := startWatch(t, m)
	nextEvent(t, events)
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(watchHeld + 100*time.Millisecond) // now the watch asks, for two seconds, and nothing tells that it does
	began := time.Now()
	if err := syscall.Kill(m.pid("vm"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, events, machinery.StatePoweroff, m.lastReason(t))
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

// lastReason waits until the machine is off, and says why it is.
func (d *Machinery) lastReason(t *testing.T) (reason string) {
	t.Helper()
	v := d.frame.Named("vm")
	waitFor(t, "the machine is off", func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		reason = v.last
		return v.run == nil
	})
	return reason
}

func TestASlowReaderGetsTheLatestAndTheSignOfAGap(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	events := startWatch(t, m)
	if e := nextEvent(t, events); e.Gap {
		t.Errorf("a gap before the first event: %+v", e)
	}
	for range 20 {
		stranger(t, m, "stop", nil)
		stranger(t, m, "cont", nil)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	// What the watch has noticed by now waits to be read; the rest is told in a moment.
	gap := false
	for {
		e := nextEvent(t, events)
		gap = gap || e.Gap
		if e.Status.State == machinery.StatePoweroff {
			break
		}
	}
	if !gap {
		t.Error("40 changes were merged without a sign")
	}
	select {
	case e := <-events:
		t.Errorf("after the latest there is another event: %+v", e)
	case <-time.After(2 * watchOthers): // that nothing comes has no sign
	}
}

func TestEventsThatWereLostAreAGap(t *testing.T) {
	_, m := restored(t, realSnapshots(t).running)
	events := startWatch(t, m)
	nextEvent(t, events)
	m.frame.Named("vm").run.event(monitor.Event{Name: "RTC_CHANGE", Missed: 3})
	if e := nextEvent(t, events); !e.Gap || e.Status.State != machinery.StateRunning {
		t.Errorf("after events were lost: %+v", e)
	}
	// A connection that is made anew has missed what was told in between.
	c, err := m.Monitor(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := m.Monitor(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if e := nextEvent(t, events); !e.Gap || e.Status.State != machinery.StateRunning {
		t.Errorf("after the connection broke: %+v", e)
	}
}

func TestAWatchOfAMachineThatAnotherDriverHoldsIsKeptByAsking(t *testing.T) {
	s, m := restored(t, realSnapshots(t).paused)
	events := startWatch(t, s.open(machinery.Options{}))
	if e := nextEvent(t, events); e.Status.State != machinery.StatePaused || e.Gap {
		t.Errorf("the first event is %+v", e)
	}
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if e := eventually(t, events, machinery.StateRunning, ""); !e.Gap {
		t.Error("what lies between two looks is not known, and there is no gap")
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	for {
		if e := nextEvent(t, events); e.Status.State == machinery.StatePoweroff {
			break
		}
	}
}

func TestAWatchEndsWithItsContextAndWithItsDriverAndNotBefore(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	s.add("bad", snaps.disk, nil)
	m := s.open(machinery.Options{})
	_, err := m.Watch(limit(t), "nobody")
	mustKind(t, err, machinery.ErrNotFound)
	dead, cancel := context.WithCancel(t.Context())
	bad, err := m.Watch(dead, "bad")
	if err != nil {
		t.Fatal(err)
	}
	if e := nextEvent(t, bad); e.Status.State != machinery.StateError || e.Status.Reason != reasonConfig {
		t.Errorf("of a machine that cannot be used: %+v", e)
	}
	cancel()
	if e, open := <-bad; open {
		t.Errorf("after its context ended: %+v", e)
	}
	_, err = m.Watch(dead, "vm")
	mustKind(t, err, machinery.ErrInterrupted)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error does not match the context's: %v", err)
	}
	read, unread := startWatch(t, m), startWatch(t, m)
	nextEvent(t, read)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if e, open := <-read; open {
		t.Errorf("after Close: %+v", e)
	}
	if e, open := <-unread; open {
		t.Errorf("after Close: %+v", e)
	}
	_, err = m.Watch(limit(t), "vm")
	mustKind(t, err, machinery.ErrClosed)
	if n := m.frame.Named("vm").watches.Len(); n > 0 {
		t.Errorf("%d watches are remembered", n)
	}
}
