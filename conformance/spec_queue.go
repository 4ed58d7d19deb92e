package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/machinery"
)

// queueSpecs: who waits for whom, and what a context does.
var queueSpecs = []spec{
	{Requirement{ID: "MM-QUEUE-001", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "Of several starts of one machine at once, one succeeds, and the others find the machine started.",
		Why:    "Two hypervisors on one machine destroy each other's disk.",
		Source: "machinery, \"Concurrency and contexts\""}, queueOneStart},
	{Requirement{ID: "MM-QUEUE-002", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultSlowStart)},
		Rule:   "Machines do not wait for each other.",
		Why:    "One slow machine of fifty must not hold up the rest.",
		Source: "machinery, \"Concurrency and contexts\""}, queueOthers},
	{Requirement{ID: "MM-QUEUE-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FaultFeature(FaultSlowStart)},
		Rule:   "An operation that waits for its turn on a machine gives up when its context ends.",
		Why:    "The caller has a deadline, and no say in what is in front of it.",
		Source: "machinery, \"Concurrency and contexts\""}, queueGivesUp},
	{Requirement{ID: "MM-QUEUE-004", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "An operation whose context has ended on entry does nothing, and says so.",
		Why:    "A sandbox that is shutting down must not start machines.",
		Source: "machinery, \"Concurrency and contexts\""}, queueDead},
	{Requirement{ID: "MM-QUEUE-005", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureLeftovers, FaultFeature(FaultSlowStart)},
		Rule:   "A start whose context ends is undone, promptly and whole, though its context has ended.",
		Why:    "Cancelled analyses are common; each would leave a process behind.",
		Source: "machinery, \"Concurrency and contexts\""}, queueCancelled},
	{Requirement{ID: "MM-QUEUE-006", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultSlowStart)},
		Rule:   "After a start that was cancelled the machine can be started at once.",
		Why:    "The next analysis waits for it.",
		Source: "machinery, \"Concurrency and contexts\""}, queueAfterCancel},
	{Requirement{ID: "MM-QUEUE-007", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower},
		Rule:   "Of several stops of one machine at once, each returns when the machine is off: nil, or \"already in that state\".",
		Why:    "A time-out and a user stop the same machine at the same moment.",
		Source: "machinery, \"Concurrency and contexts\""}, queueStops},
}

func queueOneStart(w *World) {
	h := w.Open()
	var calls []*Pending
	for range 4 {
		calls = append(calls, h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "a") }))
	}
	won := 0
	for _, c := range calls {
		err := c.Wait(w.Timing.Start)
		if err == nil {
			won++
			continue
		}
		w.Kind(err, machinery.ErrUnexpectedState, "starting a machine that another call had started")
	}
	if won != 1 {
		w.Failf("of 4 starts of one machine at once, %d succeeded; want 1", won)
	}
	h.Settles("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "after 4 starts at once")
}

func queueOthers(w *World) {
	h := w.Open(MachineSpec{Name: "slow", Faults: []Fault{{Kind: FaultSlowStart, Delay: w.Timing.Start / 2}}}, MachineSpec{Name: "quick"})
	slow := h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "slow") })
	w.up("slow", slow)
	h.Restored("quick", machinery.StateRunning)
	h.Guest("quick")
	w.NoError(h.Stop("quick"), "stopping a machine while another starts")
	if !slow.Running() {
		w.Failf("the start, stop and state of one machine waited for the slow start of another, which is over: %v", slow.Wait(w.Timing.Prompt))
	}
	w.NoError(h.Stop("slow"), "stopping the slow machine")
	_ = slow.Wait(w.Timing.Prompt)
}

// up waits until a process of the machine is to be seen while call is under
// way.
func (w *World) up(name string, call *Pending) {
	w.Within(w.Timing.Start, func() string {
		power, err := w.bench.Power(w.Ctx, name)
		w.Lab(err, "looking whether the machine runs")
		if !call.Running() {
			w.Failf("%s of %q returned before its slow hypervisor could be ready: %v", call.what, name, call.Wait(w.Timing.Prompt))
		}
		if power.On {
			return ""
		}
		return "no process of the machine is to be seen"
	})
}

func queueGivesUp(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowStart, Delay: w.Timing.Start / 2}}})
	first := h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "a") })
	w.up("a", first)
	ctx, cancel := context.WithTimeout(w.Ctx, 100*time.Millisecond)
	defer cancel()
	second := h.Go("the second RestoreStart", func() error { return h.restoreStart(ctx, "a") })
	err := second.Wait(w.Timing.Prompt)
	// To refuse at once is right too: the machine is starting.
	if !errors.Is(err, machinery.ErrUnexpectedState) {
		w.Kind(err, machinery.ErrInterrupted, "when the context ended of a start that waited for its turn")
	}
	if !first.Running() {
		w.Failf("when the second start gave up, the first ended too: %v", first.Wait(w.Timing.Prompt))
	}
	w.NoError(h.Stop("a"), "stopping the machine")
	_ = first.Wait(w.Timing.Prompt)
}

func queueDead(w *World) {
	h := w.Open()
	dead, cancel := context.WithCancel(w.Ctx)
	cancel()
	refused := func(err error, what string) {
		w.Kind(h.returned(err), machinery.ErrInterrupted, "%s with a context that has ended", what)
		if !errors.Is(err, context.Canceled) {
			w.Failf("%s with a cancelled context, the error does not match context.Canceled: %v", what, err)
		}
	}
	refused(h.restoreStart(dead, "a"), "restoring a machine")
	h.Off("a", "after a restore with a context that had ended")
	h.Is("a", "after a restore with a context that had ended", machinery.StatePoweroff)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	refused(h.stop(dead, "a"), "stopping a machine")
	w.moves(g, "after a stop with a context that had ended")
	_, err := h.state(dead, "a")
	refused(err, "asking for a state")
}

func queueCancelled(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowStart, Delay: w.Timing.Start / 2}}})
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	start := h.Go("RestoreStart", func() error { return h.restoreStart(ctx, "a") })
	w.up("a", start)
	cancel()
	err := start.Wait(w.Timing.Stop)
	w.Kind(err, machinery.ErrInterrupted, "when the context of a start ended")
	h.Off("a", "after a start that was cancelled")
	w.NoError(h.Close(), "closing the driver")
	w.Clean("after a start that was cancelled")
}

func queueAfterCancel(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowStart, Delay: w.Timing.Start / 2}}})
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	start := h.Go("RestoreStart", func() error { return h.restoreStart(ctx, "a") })
	w.up("a", start)
	cancel()
	w.Lab(w.bench.Heal(w.Ctx, "a"), "healing the hypervisor")
	_ = start.Wait(w.Timing.Stop)
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "started after a start that was cancelled")
}

func queueStops(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	var calls []*Pending
	for range 4 {
		calls = append(calls, h.Go("Stop", func() error {
			err := h.stop(w.Ctx, "a")
			if power, labErr := w.bench.Power(w.Ctx, "a"); labErr == nil && power.On {
				return errors.New("Stop returned while the machine still ran: " + power.Detail)
			}
			return err
		}))
	}
	won := 0
	for _, c := range calls {
		err := c.Wait(w.Timing.Stop)
		if err == nil {
			won++
			continue
		}
		w.Kind(err, machinery.ErrStateReached, "stopping a machine that another call had stopped")
	}
	if won == 0 {
		w.Failf("of 4 stops of one running machine, none returned nil")
	}
}
