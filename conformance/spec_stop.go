package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/machinery"
)

// stopSpecs: stop always works, and means off.
var stopSpecs = []spec{
	{Requirement{ID: "MM-STOP-001", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower},
		Rule:   "When Stop returns nil for a running machine, the machine is off, in truth and by State.",
		Why:    "What comes next, a restore or another use of the disk, relies on it.",
		Source: "Cuckoo3: stop"}, stopRunning},
	{Requirement{ID: "MM-STOP-002", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "Stop ends a paused machine.",
		Why:    "An analysis that is cancelled before it begins leaves the machine paused.",
		Source: "Cuckoo3: stop"}, stopPaused},
	{Requirement{ID: "MM-STOP-003", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower},
		Rule:   "To stop a machine that is off is an error of kind \"already in that state\".",
		Why:    "The sandbox treats it as success, and any other failure as a broken machine.",
		Source: "Cuckoo3: stop, MachineStateReachedError"}, stopOff},
	{Requirement{ID: "MM-STOP-004", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest, FaultFeature(FaultWedge)},
		Rule:   "Stop ends a machine whose hypervisor does not answer.",
		Why:    "It is the one thing that helps then. A machine that cannot be stopped is lost until someone logs in.",
		Source: "machinery.Machinery, Stop"}, stopWedged},
	{Requirement{ID: "MM-STOP-005", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest},
		Rule:   "Stop never asks the guest.",
		Why:    "The guest runs malware. It has no say in when it ends, and must not learn that it does.",
		Source: "Cuckoo3: stop, \"equal to pulling the cord\""}, stopNeverAsks},
	{Requirement{ID: "MM-STOP-006", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest},
		Rule:   "Stop ends a machine whose guest hangs.",
		Why:    "Samples crash systems.",
		Source: "machinery.Machinery, Stop"}, stopHung},
	{Requirement{ID: "MM-STOP-007", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FaultFeature(FaultSlowStart)},
		Rule:   "Stop cancels a start that is under way, and the start returns an error of kind \"interrupted\".",
		Why:    "A cancelled analysis must not have to wait for a start that takes minutes.",
		Source: "machinery.Machinery, Stop"}, stopDuringStart},
	{Requirement{ID: "MM-STOP-008", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest, FaultFeature(FaultRefuseQuit)},
		Rule:   "Once Stop has begun, a context that ends makes it kill at once instead of giving up.",
		Why:    "A caller that is out of patience wants the machine off, not half off.",
		Source: "machinery.Machinery, Stop"}, stopImpatient},
	{Requirement{ID: "MM-STOP-009", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest, FaultFeature(FaultRefuseQuit)},
		Rule:   "Stop ends a machine whose hypervisor refuses to end.",
		Why:    "Stop works from every state.",
		Source: "machinery.Machinery, Stop"}, stopRefused},
	{Requirement{ID: "MM-STOP-010", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest},
		Rule:   "A machine that goes off by itself while it is being stopped is stopped.",
		Why:    "The race is won by chance; the sandbox wanted the machine off, and it is.",
		Source: "machinery.Machinery, Stop"}, stopRace},
	{Requirement{ID: "MM-STOP-011", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest, FaultFeature(FaultKill)},
		Rule:   "To stop a machine whose hypervisor was killed is no failure: it is off.",
		Why:    "Otherwise a sandbox takes the machine out of use for good.",
		Source: "machinery.Machinery, Stop"}, stopKilled},
	{Requirement{ID: "MM-STOP-012", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FaultFeature(FaultStrangerPause)},
		Rule:   "Stop ends a machine that someone else paused.",
		Why:    "Stop works from every state, also from those the driver has no meaning for.",
		Source: "machinery.Machinery, Stop"}, stopStranger},
	{Requirement{ID: "MM-STOP-013", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower},
		Rule:   "Stop ends only the machine it was asked to.",
		Why:    "Others have analyses in them.",
		Source: "machinery.Machinery, Stop"}, stopOnlyOne},
}

// stopped stops the machine and fails the check unless it is off then.
func (h *Handle) stopped(name, what string) {
	h.w.NoError(h.Stop(name), "stopping %s", what)
	h.Off(name, "after Stop returned nil for "+what)
	h.Is(name, "after Stop returned nil for "+what, machinery.StatePoweroff)
}

func stopRunning(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	h.stopped("a", "a running machine")
	w.gone(g, "after Stop")
}

func stopPaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Restored("a", machinery.StatePaused)
	h.connect("a")
	h.stopped("a", "a paused machine")
}

func stopOff(w *World) {
	h := w.Open()
	w.Kind(h.Stop("a"), machinery.ErrStateReached, "stopping a machine that was never started")
	h.Restored("a", machinery.StateRunning)
	h.stopped("a", "a running machine")
	w.Kind(h.Stop("a"), machinery.ErrStateReached, "stopping a machine a second time")
}

func stopWedged(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	w.inject("a", FaultWedge)
	h.stopped("a", "a machine whose hypervisor does not answer")
}

func stopNeverAsks(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	h.stopped("a", "a running machine")
	w.gone(g, "after Stop")
	if n := g.Pressed(); n > 0 {
		w.Failf("the guest saw its power button pressed (%d times) as the machine was stopped", n)
	}
}

func stopHung(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "hanging itself", g.Hang)
	h.stopped("a", "a machine whose guest hangs")
}

func stopDuringStart(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowStart, Delay: w.Timing.Start / 2}}})
	start := h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "a") })
	w.Within(w.Timing.Start, func() string {
		if power, err := w.bench.Power(w.Ctx, "a"); err == nil && power.On {
			return ""
		}
		if !start.Running() {
			w.Failf("RestoreStart returned before the hypervisor was up: %v", start.Wait(w.Timing.Prompt))
		}
		return "no process of the machine is to be seen"
	})
	began := time.Now()
	if err := h.Stop("a"); err != nil {
		w.NoError(err, "stopping a machine that is starting")
	}
	if took := time.Since(began); took > w.Timing.Start/4 {
		w.Failf("Stop took %v: it waited for the start instead of cancelling it", took)
	}
	w.Kind(start.Wait(w.Timing.Prompt), machinery.ErrInterrupted, "when a start was cancelled by Stop")
	h.Off("a", "after a start was cancelled by Stop")
	h.Is("a", "after a start was cancelled by Stop", machinery.StatePoweroff)
}

func stopImpatient(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultRefuseQuit}}})
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	var err error
	// On a busy host a context may end before Stop has looked at it. To give up is right then, and another try tells more.
	for _, patience := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(w.Ctx, patience)
		err = h.returned(h.stop(ctx, "a"))
		cancel()
		if !errors.Is(err, machinery.ErrInterrupted) {
			break
		}
	}
	if err != nil {
		w.Failf("Stop gave up when its context ended: %v", err)
	}
	h.Off("a", "after Stop returned nil")
}

func stopRefused(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultRefuseQuit}}})
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	h.stopped("a", "a machine whose hypervisor refuses to end")
}

func stopRace(w *World) {
	h := w.Open()
	for range 5 {
		h.Restored("a", machinery.StateRunning)
		g := h.Guest("a")
		tells(w, "switching itself off", g.PowerOff)
		if err := h.Stop("a"); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			w.Failf("Stop failed for a machine that was going off by itself: %v", err)
		}
		h.Off("a", "after Stop of a machine that was going off by itself")
		h.Is("a", "after Stop of a machine that was going off by itself", machinery.StatePoweroff)
	}
}

func stopKilled(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultKill)
	w.gone(g, "after its hypervisor was killed")
	if err := h.Stop("a"); err != nil {
		w.Kind(err, machinery.ErrStateReached, "stopping a machine whose hypervisor was killed")
	}
	h.Is("a", "after Stop", machinery.StatePoweroff)
}

func stopStranger(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultStrangerPause}}})
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultStrangerPause)
	w.silent(g, "after someone else paused it")
	h.stopped("a", "a machine that someone else paused")
}

func stopOnlyOne(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	h.Restored("a", machinery.StateRunning)
	h.Restored("b", machinery.StateRunning)
	g := h.Guest("b")
	h.stopped("a", "a running machine")
	w.moves(g, "after another machine was stopped")
	h.Is("b", "after another machine was stopped", machinery.StateRunning)
}
