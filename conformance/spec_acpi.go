package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/machinery"
)

// acpiSpecs: the power button.
var acpiSpecs = []spec{
	{Requirement{ID: "MM-ACPI-001", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeatureGuest, FeatureLeftovers},
		Rule:   "After ACPIStop a guest that obeys its power button goes off, State says poweroff, and nothing of the run is left.",
		Why:    "It is what the operation is for: a system that ends in order writes out what it holds.",
		Source: "Cuckoo3: acpi_stop"}, acpiObeyed},
	{Requirement{ID: "MM-ACPI-002", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeatureGuest},
		Rule:   "A guest that ignores its power button runs on: ACPIStop returns nil all the same, and Stop ends the machine.",
		Why:    "The guest runs malware. Whoever asks it must be able to stop asking.",
		Source: "machinery.ACPIStopper"}, acpiIgnored},
	{Requirement{ID: "MM-ACPI-003", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeatureGuest},
		Rule:   "ACPIStop does not wait for the guest.",
		Why:    "How long to wait is the caller's decision, who has a deadline for it.",
		Source: "machinery.ACPIStopper"}, acpiLate},
	{Requirement{ID: "MM-ACPI-004", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeaturePower},
		Rule:   "ACPIStop of a machine that is off is an error of kind \"already in that state\".",
		Why:    "The sandbox treats it as success.",
		Source: "Cuckoo3: acpi_stop, MachineStateReachedError"}, acpiOff},
	{Requirement{ID: "MM-ACPI-005", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeatureGuest, FeatureSavedPaused},
		Rule:   "ACPIStop of a paused machine is refused as \"not possible in this state\", and the button is not pressed.",
		Why:    "A press that waits in a paused machine would end the analysis in the moment in which it begins.",
		Source: "machinery.ACPIStopper"}, acpiPaused},
	{Requirement{ID: "MM-ACPI-006", Level: Must, Op: machinery.OpACPIStop, Capability: machinery.CapACPIStop, Needs: []Feature{FeatureGuest, FaultFeature(FaultWedge)},
		Rule:   "ACPIStop of a machine whose hypervisor does not answer is an error in bounded time.",
		Why:    "The caller falls back to Stop, which it cannot while it waits.",
		Source: "machinery.ACPIStopper"}, acpiWedged},
}

// ACPIStop calls the driver's operation.
func (h *Handle) ACPIStop(name string) error {
	return h.returned(h.w.call(h.w.Timing.Prompt, machinery.OpACPIStop, name, func() error { return machinery.ACPIStop(h.w.Ctx, h.M, name) }))
}

// pressed waits until the guest has seen its power button pressed.
func (w *World) pressed(g Guest, when string) {
	w.Within(w.Timing.Guest, func() string {
		if g.Pressed() > 0 {
			return ""
		}
		return when + ", the guest has seen no power button pressed"
	})
}

func acpiObeyed(w *World) {
	h := w.Open()
	h.Requires(machinery.CapACPIStop)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.NoError(h.ACPIStop("a"), "pressing the power button")
	w.gone(g, "after the power button was pressed")
	if g.Pressed() == 0 {
		w.Failf("after ACPIStop the machine went off, and the guest had not seen its power button pressed: it was not asked")
	}
	h.Becomes("a", "after the guest obeyed the power button", machinery.StatePoweroff)
	w.Clean("after the guest obeyed the power button")
}

func acpiIgnored(w *World) {
	h := w.Open()
	h.Requires(machinery.CapACPIStop)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "ignoring its power button", func(ctx ctxT) error { return g.Button(ctx, ButtonIgnore, 0) })
	w.NoError(h.ACPIStop("a"), "pressing the power button of a guest that ignores it")
	w.pressed(g, "after ACPIStop returned nil")
	w.moves(g, "after it ignored the power button")
	h.Is("a", "while the guest ignores its power button", machinery.StateRunning, machinery.StateStopping)
	h.stopped("a", "a machine whose guest ignores its power button")
}

func acpiLate(w *World) {
	const late = 2 * time.Second
	h := w.Open()
	h.Requires(machinery.CapACPIStop)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "obeying its power button late", func(ctx ctxT) error { return g.Button(ctx, ButtonLate, late) })
	began := time.Now()
	w.NoError(h.ACPIStop("a"), "pressing the power button of a guest that obeys late")
	took := time.Since(began)
	select {
	case <-g.Gone():
		// Less than the guest takes is less on a slow host too: its own clock may be slow, but not fast.
		if took > late/2 {
			w.Failf("ACPIStop returned after %v, when the guest had gone off: it waited for it", took)
		}
	default:
	}
	w.gone(g, "after the power button of a guest was pressed that obeys late")
	h.Becomes("a", "after the guest obeyed the power button late", machinery.StatePoweroff)
}

func acpiOff(w *World) {
	h := w.Open()
	h.Requires(machinery.CapACPIStop)
	w.Kind(h.ACPIStop("a"), machinery.ErrStateReached, "pressing the power button of a machine that was never started")
	h.Off("a", "after its power button was pressed while it was off")
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	h.stopped("a", "a running machine")
	w.Kind(h.ACPIStop("a"), machinery.ErrStateReached, "pressing the power button of a machine that was stopped")
}

func acpiPaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Requires(machinery.CapACPIStop)
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	w.Kind(h.ACPIStop("a"), machinery.ErrUnexpectedState, "pressing the power button of a paused machine")
	h.Is("a", "after its power button was pressed while it was paused", machinery.StatePaused)
	if !machinery.Supports(h.M, machinery.CapHandlePaused) {
		return
	}
	w.NoError(h.HandlePaused("a"), "resuming the machine")
	w.moves(g, "resumed after an attempt to press its power button")
	w.pause(w.Timing.Quiet)
	if n := g.Pressed(); n > 0 {
		w.Failf("the power button of a paused machine was pressed, though the call was refused: the guest saw it when it was resumed")
	}
}

func acpiWedged(w *World) {
	h := w.Open()
	h.Requires(machinery.CapACPIStop)
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	w.inject("a", FaultWedge)
	ctx, cancel := context.WithTimeout(w.Ctx, w.Timing.Prompt/2)
	defer cancel()
	err := h.returned(w.call(w.Timing.Prompt, machinery.OpACPIStop, "a", func() error { return machinery.ACPIStop(ctx, h.M, "a") }))
	if err == nil {
		w.Failf("ACPIStop returned nil though the hypervisor answers nothing")
	}
	if !errors.Is(err, machinery.ErrInterrupted) {
		w.Kind(err, machinery.ErrConnection, "pressing the power button when the hypervisor does not answer")
	}
	h.stopped("a", "a machine whose hypervisor does not answer")
}
