package conformance

import (
	"os"
	"strconv"

	"github.com/machineries/machineries/machinery"
)

// ownershipSpecs: who holds a machine, and what becomes of it.
var ownershipSpecs = []spec{
	{Requirement{ID: "MM-OWNER-001", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "While one driver holds a machine, another that tries to change it gets \"busy\" with the holder's process id, and harms nothing.",
		Why:    "Two sandboxes, or a person beside one, would pull machines away under each other.",
		Source: "machinery, \"Ownership\""}, ownerBusy},
	{Requirement{ID: "MM-OWNER-002", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "While one driver holds a machine, another may read its state.",
		Why:    "A person has to be able to look at what a sandbox does.",
		Source: "machinery, \"Ownership\""}, ownerReads},
	{Requirement{ID: "MM-OWNER-003", Level: Must, Op: machinery.OpClose, Needs: []Feature{FeaturePower},
		Rule:   "Close lets machines run on, and the next driver takes them over with all it can do.",
		Why:    "A sandbox is restarted without losing its analyses, and commands are typed one after the other.",
		Source: "machinery, \"Ownership\""}, ownerHandover},
	{Requirement{ID: "MM-OWNER-004", Level: Must, Op: machinery.OpShutdown, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "Shutdown stops every machine that the driver holds, running or paused, and returns nil if there was none.",
		Why:    "It is the last thing a sandbox does, and nobody looks afterwards.",
		Source: "machinery.Machinery, Shutdown; Cuckoo3: shutdown"}, ownerShutdown},
	{Requirement{ID: "MM-OWNER-005", Level: Must, Op: machinery.OpShutdown, Needs: []Feature{FeatureGuest, FaultFeature(FaultWedge)},
		Rule:   "Shutdown stops a machine whose hypervisor does not answer, and the others beside it.",
		Why:    "The machine that is broken is the one that nobody else will stop.",
		Source: "machinery.Machinery, Shutdown"}, ownerShutdownWedged},
}

func ownerBusy(w *World) {
	first := w.Open()
	first.Restored("a", machinery.StateRunning)
	g := first.Guest("a")
	second := w.OpenAgain()
	for _, o := range []struct {
		what string
		call func() error
	}{
		{"restoring", func() error { return second.RestoreStart("a") }},
		{"stopping", func() error { return second.Stop("a") }},
	} {
		err := o.call()
		when := o.what + " a machine that another driver holds"
		w.Kind(err, machinery.ErrBusy, "%s", when)
		w.names(err, when, strconv.Itoa(os.Getpid()))
	}
	w.moves(g, "after another driver tried to change the machine")
	w.NoError(second.Close(), "closing the second driver")
	w.moves(g, "after another driver was closed")
	first.Is("a", "after another driver was closed", machinery.StateRunning)
	first.stopped("a", "a machine that another driver tried to change")
}

func ownerReads(w *World) {
	first := w.Open(MachineSpec{Name: "on"}, MachineSpec{Name: "paused", SavedPaused: true}, MachineSpec{Name: "off"})
	first.Restored("on", machinery.StateRunning)
	first.Restored("paused", machinery.StatePaused)
	second := w.OpenAgain()
	for range 3 {
		second.Is("on", "read by a driver that does not hold it", machinery.StateRunning)
		second.Is("paused", "read by a driver that does not hold it", machinery.StatePaused)
		second.Is("off", "read by a driver that does not hold it", machinery.StatePoweroff)
		first.Is("on", "read by its holder", machinery.StateRunning)
	}
	w.NoError(second.Close(), "closing the second driver")
	first.stopped("on", "a machine that another driver read")
}

func ownerHandover(w *World) {
	first := w.Open()
	first.Restored("a", machinery.StateRunning)
	g := first.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	w.NoError(first.Close(), "closing the driver")
	w.moves(g, "after the driver was closed")
	second := w.OpenAgain()
	second.Is("a", "by the driver that was opened next", machinery.StateRunning)
	w.Kind(second.RestoreStart("a"), machinery.ErrUnexpectedState, "restoring a running machine that was taken over")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != markRun {
		w.Failf("after it was taken over, the guest's memory lost the mark of its run: %#x; want %#x", got, markRun)
	}
	second.stopped("a", "a machine that was taken over")
	second.Restored("a", machinery.StateRunning)
	w.fresh(second.Guest("a"), "a", "restored by the driver that had taken it over")
}

func ownerShutdown(w *World) {
	h := w.Open(MachineSpec{Name: "on"}, MachineSpec{Name: "paused", SavedPaused: true}, MachineSpec{Name: "off"})
	h.Restored("on", machinery.StateRunning)
	h.Restored("paused", machinery.StatePaused)
	w.NoError(h.Shutdown(), "shutting the driver down")
	for _, name := range []string{"on", "paused", "off"} {
		h.Off(name, "after Shutdown returned nil")
	}
	again := w.OpenAgain()
	w.NoError(again.Shutdown(), "shutting down a driver that holds no machine")
}

func ownerShutdownWedged(w *World) {
	h := w.Open(MachineSpec{Name: "wedged"}, MachineSpec{Name: "well"})
	h.Restored("wedged", machinery.StateRunning)
	h.Restored("well", machinery.StateRunning)
	h.Guest("wedged")
	w.inject("wedged", FaultWedge)
	w.NoError(h.Shutdown(), "shutting the driver down while a hypervisor does not answer")
	h.Off("wedged", "after Shutdown returned nil")
	h.Off("well", "after Shutdown returned nil")
}
