package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/machinery"
)

// watchSpecs: following a machine.
var watchSpecs = []spec{
	{Requirement{ID: "MM-WATCH-001", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeaturePower},
		Rule:   "The first event of a watch is the machine's present status, at once.",
		Why:    "Who begins to watch after the change would wait for it for ever.",
		Source: "machinery.Watcher"}, watchPresent},
	{Requirement{ID: "MM-WATCH-002", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeatureGuest},
		Rule:   "A watch tells that a machine was started and stopped, in an order that the table of states allows.",
		Why:    "It is what the operation is for.",
		Source: "machinery.Watcher"}, watchFollows},
	{Requirement{ID: "MM-WATCH-003", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeatureGuest},
		Rule:   "A watch tells that a guest switched itself off.",
		Why:    "No call of the sandbox comes before it; the watch is how it is known.",
		Source: "machinery.Watcher"}, watchGuestOff},
	{Requirement{ID: "MM-WATCH-004", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeatureGuest},
		Rule:   "A reader that is slow holds up no operation, and gets the latest status in the end.",
		Why:    "A reader that writes to a database now and then stands still for a second.",
		Source: "machinery.Watcher"}, watchSlow},
	{Requirement{ID: "MM-WATCH-005", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeatureGuest},
		Rule:   "The channel of a watch is closed when its context ends and when the driver is closed.",
		Why:    "Its reader would wait for ever.",
		Source: "machinery.Watcher"}, watchEnds},
	{Requirement{ID: "MM-WATCH-006", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeatureGuest},
		Rule:   "A watch tells of a machine that another driver holds.",
		Why:    "Who looks on is seldom who runs the machines.",
		Source: "machinery, \"Ownership\": reading is free"}, watchOther},
	{Requirement{ID: "MM-WATCH-007", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeaturePower},
		Rule:   "To watch a machine that does not exist is an error of kind \"no such machine\", and with a context that has ended one of kind \"interrupted\".",
		Why:    "A channel on which nothing ever comes hides a mistake in a name.",
		Source: "machinery.Watcher"}, watchRefused},
}

// Watch calls the driver's operation.
func (h *Handle) Watch(ctx context.Context, name string) (events <-chan machinery.Event, err error) {
	err = h.returned(h.w.call(h.w.Timing.Prompt, machinery.OpWatch, name, func() (err error) {
		events, err = machinery.Watch(ctx, h.M, name)
		return err
	}))
	return events, err
}

// watching is Watch that has to succeed.
func (h *Handle) watching(ctx context.Context, name string) <-chan machinery.Event {
	events, err := h.Watch(ctx, name)
	h.w.NoError(err, "watching %q", name)
	if events == nil {
		h.w.Failf("watching %q returned neither a channel nor an error", name)
	}
	return events
}

// next receives one event, and fails the check if none comes within limit or
// the channel is closed.
func (w *World) next(events <-chan machinery.Event, limit time.Duration, when string) machinery.Event {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case e, open := <-events:
		if !open {
			w.Failf("%s, the channel of the watch was closed", when)
		}
		w.Notef("event: %s, gap %v", e.Status, e.Gap)
		if !e.Status.State.Valid() {
			w.Failf("%s, an event came with the state %q, which does not exist", when, e.Status.State)
		}
		return e
	case <-timer.C:
		w.Failf("%s, no event came within %v", when, limit)
	}
	return machinery.Event{}
}

// until receives events until one has the wanted state, and fails the check if
// that takes longer than the guest may take, or if an event cannot follow the
// one before it. from is the state of the event before.
func (w *World) until(events <-chan machinery.Event, from, want machinery.State, when string) {
	deadline := time.Now().Add(w.Timing.Guest)
	seen := string(from)
	for state := from; state != want; {
		e := w.next(events, time.Until(deadline), fmt.Sprintf("%s (seen so far: %s; want %s)", when, seen, want))
		if !machinery.CanReach(state, e.Status.State) {
			w.Failf("%s, the watch says %s after %s, which no machine can do", when, e.Status.State, state)
		}
		state = e.Status.State
		seen += ", " + e.Status.String()
	}
}

// ends fails the check unless the channel is closed, whatever comes before.
func (w *World) ends(events <-chan machinery.Event, when string) {
	timer := time.NewTimer(w.Timing.Prompt)
	defer timer.Stop()
	for {
		select {
		case _, open := <-events:
			if !open {
				return
			}
		case <-timer.C:
			w.Failf("%s, the channel of the watch was not closed within %v", when, w.Timing.Prompt)
		}
	}
}

// present fails the check unless the first event has the state.
func (w *World) present(events <-chan machinery.Event, want machinery.State, when string) {
	if e := w.next(events, w.Timing.Prompt, when); e.Status.State != want {
		w.Failf("%s, the first event says %s; want %s", when, e.Status, want)
	}
}

func watchPresent(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	w.present(h.watching(ctx, "a"), machinery.StatePoweroff, "watching a machine that is off")
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	for range 3 {
		w.present(h.watching(ctx, "a"), machinery.StateRunning, "watching a machine that runs")
	}
}

func watchFollows(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	first, second := h.watching(ctx, "a"), h.watching(ctx, "a")
	w.present(first, machinery.StatePoweroff, "watching a machine that is off")
	w.present(second, machinery.StatePoweroff, "watching it a second time")
	for range 2 {
		h.Restored("a", machinery.StateRunning)
		w.until(first, machinery.StatePoweroff, machinery.StateRunning, "after the machine was restored")
		w.until(second, machinery.StatePoweroff, machinery.StateRunning, "after the machine was restored, by the second watch")
		w.NoError(h.Stop("a"), "stopping the machine")
		w.until(first, machinery.StateRunning, machinery.StatePoweroff, "after the machine was stopped")
		w.until(second, machinery.StateRunning, machinery.StatePoweroff, "after the machine was stopped, by the second watch")
	}
}

func watchGuestOff(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	events := h.watching(ctx, "a")
	w.present(events, machinery.StateRunning, "watching a machine that runs")
	tells(w, "switching itself off", g.PowerOff)
	w.until(events, machinery.StateRunning, machinery.StatePoweroff, "after the guest switched itself off")
}

func watchSlow(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	events := h.watching(ctx, "a")
	for range 3 {
		h.Restored("a", machinery.StateRunning)
		w.NoError(h.Stop("a"), "stopping a machine while the reader of a watch is slow")
	}
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	// Whatever comes first, the last one has to be true, and nothing after it.
	var last machinery.Event
	w.Within(w.Timing.Guest, func() string {
		timer := time.NewTimer(w.Timing.Quiet)
		defer timer.Stop()
		for {
			select {
			case e, open := <-events:
				if !open {
					w.Failf("the channel of a watch was closed because its reader was slow")
				}
				w.Notef("event: %s, gap %v", e.Status, e.Gap)
				last = e
				continue
			case <-timer.C:
			}
			if last.Status.State != machinery.StateRunning {
				return fmt.Sprintf("the latest event that a slow reader got says %s; the machine is running", last.Status)
			}
			return ""
		}
	})
	w.NoError(h.Stop("a"), "stopping the machine")
	w.until(events, machinery.StateRunning, machinery.StatePoweroff, "after a slow reader has caught up and the machine was stopped")
}

func watchEnds(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	read, unread := h.watching(ctx, "a"), h.watching(ctx, "a")
	w.present(read, machinery.StateRunning, "watching a machine that runs")
	cancel()
	w.ends(read, "after the context of a watch ended")
	w.ends(unread, "after the context of a watch ended that nobody had read")
	read, unread = h.watching(w.Ctx, "a"), h.watching(w.Ctx, "a")
	w.present(read, machinery.StateRunning, "watching a machine again")
	w.NoError(h.Shutdown(), "shutting the driver down while watches are under way")
	w.ends(read, "after the driver was shut down")
	w.ends(unread, "after the driver was shut down that had a watch which nobody had read")
}

func watchOther(w *World) {
	owner := w.Open()
	owner.Requires(machinery.CapWatch)
	onlooker := w.OpenAgain()
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	events := onlooker.watching(ctx, "a")
	w.present(events, machinery.StatePoweroff, "watching a machine that is off")
	owner.Restored("a", machinery.StateRunning)
	g := owner.Guest("a")
	w.until(events, machinery.StatePoweroff, machinery.StateRunning, "after another driver restored the machine")
	w.moves(g, "watched by another driver")
	w.NoError(owner.Stop("a"), "stopping a machine that another driver watches")
	w.until(events, machinery.StateRunning, machinery.StatePoweroff, "after another driver stopped the machine")
}

func watchRefused(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	_, err := h.Watch(w.Ctx, "no such machine")
	w.Kind(err, machinery.ErrNotFound, "watching a machine that does not exist")
	dead, cancel := context.WithCancel(w.Ctx)
	cancel()
	_, err = h.Watch(dead, "a")
	w.Kind(err, machinery.ErrInterrupted, "watching with a context that has ended")
}
