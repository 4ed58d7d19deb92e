package conformance

import (
	"strings"

	"github.com/machineries/machineries/machinery"
)

// pausedSpecs: resuming what was saved paused.
var pausedSpecs = []spec{
	{Requirement{ID: "MM-PAUSED-001", Level: Must, Op: machinery.OpHandlePaused, Capability: machinery.CapHandlePaused, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "HandlePaused resumes a machine that was restored paused; its guest goes on from the snapshot.",
		Why:    "It is how the sandbox says \"now\".",
		Source: "Cuckoo3: handle_paused"}, pausedResumes},
	{Requirement{ID: "MM-PAUSED-002", Level: Must, Op: machinery.OpHandlePaused, Capability: machinery.CapHandlePaused, Needs: []Feature{FeaturePower},
		Rule:   "HandlePaused on a running machine is an error of kind \"already in that state\", and on one that is off \"not possible in this state\".",
		Why:    "The first is what the caller wanted; the second means that the machine is gone.",
		Source: "machinery.PausedHandler"}, pausedWrongState},
	{Requirement{ID: "MM-PAUSED-003", Level: Must, Op: machinery.OpHandlePaused, Capability: machinery.CapHandlePaused,
		Needs:  []Feature{FeatureGuest, FeatureSavedPaused, FaultFeature(FaultRefuseResume)},
		Rule:   "If the hypervisor refuses to resume a machine, HandlePaused returns an error with its words.",
		Why:    "To report success sends a sample to a machine that stands still.",
		Source: "machinery.PausedHandler"}, pausedRefused},
	{Requirement{ID: "MM-PAUSED-004", Level: Must, Op: machinery.OpHandlePaused, Capability: machinery.CapHandlePaused,
		Needs:  []Feature{FeaturePower, FaultFeature(FaultStrangerPause)},
		Rule:   "HandlePaused does not resume a machine that someone else paused.",
		Why:    "It was paused for a cause, such as a full disk; resuming it in a loop makes things worse.",
		Source: "machinery.PausedHandler"}, pausedStranger},
	{Requirement{ID: "MM-PAUSED-005", Level: Must, Op: machinery.OpRestoreStart, Capability: machinery.CapHandlePaused, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "Restoring and resuming works again and again, from the same snapshot each time.",
		Why:    "A sandbox does it thousands of times a day.",
		Source: "machinery.Start"}, pausedAgain},
}

func pausedResumes(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Requires(machinery.CapHandlePaused)
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	w.NoError(h.HandlePaused("a"), "resuming a machine that was restored paused")
	h.Is("a", "after HandlePaused returned nil", machinery.StateRunning)
	w.moves(g, "after HandlePaused returned nil")
	w.fresh(g, "a", "after HandlePaused")
}

func pausedWrongState(w *World) {
	h := w.Open()
	h.Requires(machinery.CapHandlePaused)
	w.Kind(h.HandlePaused("a"), machinery.ErrUnexpectedState, "resuming a machine that is off")
	h.Off("a", "after HandlePaused of a machine that is off")
	h.Restored("a", machinery.StateRunning)
	w.Kind(h.HandlePaused("a"), machinery.ErrStateReached, "resuming a machine that runs")
	w.moves(h.Guest("a"), "after HandlePaused of a machine that runs")
}

func pausedRefused(w *World) {
	const words = "block node 'drive-4711' is read-only"
	h := w.Open(MachineSpec{SavedPaused: true, Faults: []Fault{{Kind: FaultRefuseResume, Text: words}}})
	h.Requires(machinery.CapHandlePaused)
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	err := h.HandlePaused("a")
	w.Kind(err, machinery.ErrHypervisor, "resuming a machine when the hypervisor refuses")
	if !strings.Contains(err.Error(), words) {
		w.Failf("the error does not carry the hypervisor's words %q: %v", words, err)
	}
	h.Is("a", "after the hypervisor refused to resume it", machinery.StatePaused)
	w.silent(g, "after the hypervisor refused to resume it")
}

func pausedStranger(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultStrangerPause}}})
	h.Requires(machinery.CapHandlePaused)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultStrangerPause)
	w.silent(g, "after someone else paused it")
	w.Kind(h.HandlePaused("a"), machinery.ErrUnexpectedState, "resuming a machine that someone else paused")
	w.silent(g, "after HandlePaused of a machine that someone else paused")
}

func pausedAgain(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true, Kind: w.anotherKind()})
	h.Requires(machinery.CapHandlePaused)
	for range 3 {
		w.NoError(h.Go("Start", func() error { return machinery.Start(w.Ctx, h.M, "a") }).Wait(w.Timing.Start), "restoring and resuming the machine")
		g := h.Guest("a")
		w.fresh(g, "a", "restored and resumed")
		tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, firstSlot, markRun) })
		h.stopped("a", "a machine that was resumed")
	}
}
