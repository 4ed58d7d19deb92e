package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery"
)

// stateSpecs: what State says, and when.
var stateSpecs = []spec{
	{Requirement{ID: "MM-STATE-001", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower},
		Rule:   "A machine that was never started is poweroff.",
		Why:    "It is how a sandbox knows that the machine is free.",
		Source: "Cuckoo3: state"}, stateOff},
	{Requirement{ID: "MM-STATE-002", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower},
		Rule:   "A machine whose guest runs is running.",
		Why:    "The sandbox waits for it before it sends the sample.",
		Source: "Cuckoo3: state"}, stateRunning},
	{Requirement{ID: "MM-STATE-003", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "A machine whose guest stands still is never reported as running.",
		Why:    "A sample that is sent to a machine that stands still is lost, and the analysis is empty.",
		Source: "machinery.StatePaused; Cuckoo3: handle_paused"}, statePaused},
	{Requirement{ID: "MM-STATE-004", Level: Must, Op: machinery.OpState, Needs: []Feature{FeatureGuest},
		Rule:   "A machine whose guest switched itself off is poweroff.",
		Why:    "Malware switches machines off. That is no fault of the machine, which must stay in use.",
		Source: "machinery.StatePoweroff"}, stateGuestOff},
	{Requirement{ID: "MM-STATE-005", Level: Must, Op: machinery.OpState, Needs: []Feature{FeatureGuest, FaultFeature(FaultKill)},
		Rule:   "A machine whose hypervisor was killed is seen to be off, or in the error state, at once.",
		Why:    "A sandbox that believes a dead machine to be running waits for its time-out, for every sample.",
		Source: "machinery.Machinery, State"}, stateKilled},
	{Requirement{ID: "MM-STATE-006", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultSilent)},
		Rule:   "While the hypervisor does not answer, State returns in bounded time, with the error state and a reason or with an error; it never guesses.",
		Why:    "A guess hands a machine out that does not work; a call that never returns takes the sandbox with it.",
		Source: "machinery.Machinery, State"}, stateSilent},
	{Requirement{ID: "MM-STATE-007", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultSilent)},
		Rule:   "When a hypervisor answers again, so does State, with the truth.",
		Why:    "A host that was busy for a moment must not cost the sandbox its machines.",
		Source: "machinery.Machinery, State"}, stateHealed},
	{Requirement{ID: "MM-STATE-008", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "State changes nothing: a paused machine stays paused however often it is asked.",
		Why:    "Monitoring must not start samples.",
		Source: "machinery.Machinery, State"}, stateChangesNothing},
	{Requirement{ID: "MM-STATE-009", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultSlowStart)},
		Rule:   "State does not wait for an operation on the machine, and what the driver is doing itself is not an error.",
		Why:    "A sandbox shows what its machines do while they do it, and a start that is under way is nothing to give up for.",
		Source: "machinery.Machinery, State"}, stateDuringStart},
	{Requirement{ID: "MM-STATE-010", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultStrangerPause)},
		Rule:   "A machine that someone else paused is in the error state, with a reason.",
		Why:    "It was paused for a cause that the driver does not know, such as a full disk; to take it for a fresh snapshot would resume it blindly.",
		Source: "machinery.Machinery, State"}, stateStranger},
	{Requirement{ID: "MM-STATE-011", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower},
		Rule:   "Many callers may ask for states at once, and each gets the right one.",
		Why:    "Answers that are mixed up between machines send samples to the wrong one.",
		Source: "machinery.Machinery"}, stateConcurrent},
}

func stateOff(w *World) {
	h := w.Open()
	h.Is("a", "before the first start", machinery.StatePoweroff)
}

func stateRunning(w *World) {
	h := w.Open()
	w.NoError(h.RestoreStart("a"), "restoring the machine")
	h.Settles("a", machinery.StateRunning)
	w.moves(h.Guest("a"), "with the state running")
	h.Is("a", "with its guest at work", machinery.StateRunning)
}

func statePaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	w.NoError(h.RestoreStart("a"), "restoring the machine")
	w.Within(w.Timing.Start, func() string {
		s := h.Is("a", "after it was restored from a snapshot saved paused", machinery.StateStarting, machinery.StatePaused)
		if s.State == machinery.StateStarting {
			return "the machine is still starting; want paused"
		}
		return ""
	})
	w.silent(h.connect("a"), "after a restore from a snapshot saved paused")
	h.Is("a", "with its guest standing still", machinery.StatePaused)
}

func stateGuestOff(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "switching itself off", g.PowerOff)
	w.gone(g, "after the guest switched itself off")
	h.Becomes("a", "after its guest switched itself off", machinery.StatePoweroff)
}

func stateKilled(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultKill)
	w.gone(g, "after its hypervisor was killed")
	h.Becomes("a", "after its hypervisor was killed", machinery.StatePoweroff, machinery.StateError)
}

func stateSilent(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	w.inject("a", FaultSilent)
	for range 2 {
		s, err := h.State("a")
		switch {
		case err != nil:
			continue
		case s.State != machinery.StateError:
			w.Failf("the hypervisor does not answer, and State says %s; want the error state, or an error", s)
		case s.Reason == "":
			w.Failf("the hypervisor does not answer, and State says error without a reason")
		}
	}
	// What comes next, clearing up, is not about silence.
	w.Lab(w.bench.Heal(w.Ctx, "a"), "healing the hypervisor")
}

func stateHealed(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultSilent)
	_, _ = h.State("a")
	w.Lab(w.bench.Heal(w.Ctx, "a"), "healing the hypervisor")
	h.Becomes("a", "after its hypervisor answers again", machinery.StateRunning)
	w.moves(g, "after its hypervisor answers again")
	w.NoError(h.Stop("a"), "stopping the machine")
	h.Off("a", "after Stop returned nil")
}

func stateChangesNothing(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	for range 50 {
		h.Is("a", "asked again and again", machinery.StatePaused)
	}
	w.silent(g, "after its state was asked for 50 times")
}

func stateDuringStart(w *World) {
	h := w.Open(MachineSpec{Name: "stuck", Faults: []Fault{{Kind: FaultSlowStart, Delay: 2*w.Timing.State + w.Timing.Prompt}}},
		MachineSpec{Name: "slow", Faults: []Fault{{Kind: FaultSlowStart, Delay: 300 * time.Millisecond}}})
	// One that takes longer than State may: a State that waits is caught.
	start := h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "stuck") })
	w.up("stuck", start)
	for range 5 {
		w.starting(h, "stuck", machinery.StatePoweroff)
	}
	w.NoError(h.Stop("stuck"), "stopping a machine that is starting")
	_ = start.Wait(w.Timing.Prompt)
	// And one that gets through: no state on the way is an error.
	start = h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "slow") })
	last := machinery.StatePoweroff
	for start.Running() {
		last = w.starting(h, "slow", last)
		w.pause(5 * time.Millisecond)
	}
	w.NoError(start.Wait(w.Timing.Start), "restoring a machine whose hypervisor is slow")
	h.Settles("slow", machinery.StateRunning)
}

// starting looks at a machine that is starting and fails the check for any
// state that has no place there.
func (w *World) starting(h *Handle, name string, last machinery.State) machinery.State {
	s, err := h.State(name)
	switch {
	case err != nil:
		w.Failf("while the machine starts, State failed: %v", err)
	case s.State == machinery.StateError:
		w.Failf("while the machine starts, State says %s%s", s, detail(s))
	case !machinery.CanReach(last, s.State):
		w.Failf("while the machine starts, its state went from %s to %s, which no machine can", last, s.State)
	}
	return s.State
}

func stateStranger(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultStrangerPause}}})
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultStrangerPause)
	w.Within(w.Timing.Guest, func() string {
		s, err := h.State("a")
		switch {
		case err != nil:
			w.Failf("after someone else paused the machine, State failed: %v", err)
		case s.State == machinery.StateError && s.Reason == "":
			w.Failf("after someone else paused the machine, State says error without a reason")
		case s.State != machinery.StateError:
			return fmt.Sprintf("after someone else paused the machine, State says %s; want error", s)
		}
		return ""
	})
	w.silent(g, "after someone else paused the machine")
}

func stateConcurrent(w *World) {
	h := w.Open(MachineSpec{Name: "on"}, MachineSpec{Name: "off"})
	h.Restored("on", machinery.StateRunning)
	var calls []*Pending
	for i := range 16 {
		name, want := "on", machinery.StateRunning
		if i%2 == 1 {
			name, want = "off", machinery.StatePoweroff
		}
		calls = append(calls, h.Go("State", func() error {
			for range 10 {
				s, err := h.state(w.Ctx, name)
				if err != nil {
					return err
				}
				if s.State != want {
					return fmt.Errorf("State of %q is %s; want %s", name, s, want)
				}
			}
			return nil
		}))
	}
	var wrong []string
	for _, c := range calls {
		if err := c.Wait(w.Timing.State); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(wrong) > 0 {
		w.Failf("with 16 callers at once: %s", strings.Join(wrong, "; "))
	}
}
