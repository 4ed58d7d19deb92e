package conformance

import (
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// bootSpecs: starting without the snapshot.
var bootSpecs = []spec{
	{Requirement{ID: "MM-BOOT-001", Level: Must, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "NoRestoreStart boots the machine: when it returns the machine runs, with its disk as configured, and without its snapshot's memory.",
		Why:    "It is for machines whose snapshot is still to be made, or is of no use.",
		Source: "Cuckoo3: norestore_start"}, bootRuns},
	{Requirement{ID: "MM-BOOT-002", Level: Must, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "What a machine that was booted writes does not change its configured disk and snapshot.",
		Why:    "A snapshot does not fit a disk that has changed since: every later restore would run a broken system.",
		Source: "machinery.NoRestoreStarter"}, bootOriginals},
	{Requirement{ID: "MM-BOOT-003", Level: Must, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "To boot a machine that is not off is refused as \"not possible in this state\", and the machine is left alone.",
		Why:    "A running machine has an analysis in it.",
		Source: "machinery.NoRestoreStarter"}, bootRefused},
	{Requirement{ID: "MM-BOOT-004", Level: Must, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart, Needs: []Feature{FeatureGuest, FeatureLeftovers},
		Rule:   "A machine that was booted is stopped as any other, leaves nothing, and can be restored afterwards.",
		Why:    "The next analysis restores it.",
		Source: "machinery.NoRestoreStarter"}, bootThenRestore},
	{Requirement{ID: "MM-BOOT-005", Level: Must, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart,
		Needs:  []Feature{FeatureLeftovers, FeaturePower, FaultFeature(FaultRefuseStart)},
		Rule:   "If the hypervisor does not start, NoRestoreStart returns an error with its words, and leaves nothing.",
		Why:    "Without them nobody can tell what to change.",
		Source: "machinery.NoRestoreStarter"}, bootFails},
	{Requirement{ID: "MM-BOOT-006", Level: Should, Op: machinery.OpNoRestoreStart, Capability: machinery.CapNoRestoreStart,
		Needs:  []Feature{FeatureGuest, FeatureDamage, FeatureLeftovers},
		Rule:   "A machine whose snapshot is missing can be booted, and stopped again.",
		Why:    "Its snapshot has to be made somehow, and that begins with a boot.",
		Source: "machinery.NoRestoreStarter"}, bootWithoutSnapshot},
}

func (h *Handle) booted(name string) {
	h.w.NoError(h.returned(h.w.call(h.w.Timing.Start, machinery.OpNoRestoreStart, name, func() error {
		return machinery.NoRestoreStart(h.w.Ctx, h.M, name)
	})), "booting %q", name)
	h.Is(name, "when NoRestoreStart has returned nil", machinery.StateRunning)
}

func bootRuns(w *World) {
	h := w.Open()
	h.Requires(machinery.CapNoRestoreStart)
	h.booted("a")
	g := h.Guest("a")
	w.moves(g, "after NoRestoreStart")
	saved := w.bench.Saved("a")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, firstSlot) }); got != noMark {
		w.Failf("after NoRestoreStart, the guest's memory has the mark %#x in slot 0: it was restored instead of booted", got)
	}
	if got := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, firstSlot) }); got != saved.Disk {
		w.Failf("after NoRestoreStart, the guest's disk has the mark %#x in slot 0; the configured disk has %#x", got, saved.Disk)
	}
}

func bootOriginals(w *World) {
	h := w.Open()
	h.Requires(machinery.CapNoRestoreStart)
	before, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	h.booted("a")
	g := h.Guest("a")
	tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, markSlot, markRun) })
	if got := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, markSlot) }); got != markRun {
		w.Failf("the guest wrote the mark %#x to its disk and reads %#x back", markRun, got)
	}
	h.stopped("a", "a machine that was booted")
	after, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	if diff := cmp.Diff(before, after); diff != "" {
		w.Failf("a machine that was booted and wrote to its disk has changed its files (- before, + after):\n%s", diff)
	}
}

func bootRefused(w *World) {
	h := w.Open()
	h.Requires(machinery.CapNoRestoreStart)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	err := h.returned(w.call(w.Timing.Prompt, machinery.OpNoRestoreStart, "a", func() error { return machinery.NoRestoreStart(w.Ctx, h.M, "a") }))
	w.Kind(err, machinery.ErrUnexpectedState, "booting a machine that runs")
	w.moves(g, "after an attempt to boot it")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != markRun {
		w.Failf("an attempt to boot a running machine has reset it: its memory has the mark %#x; want %#x", got, markRun)
	}
}

func bootThenRestore(w *World) {
	h := w.Open()
	h.Requires(machinery.CapNoRestoreStart)
	h.booted("a")
	g := h.Guest("a")
	tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, firstSlot, markRun) })
	h.stopped("a", "a machine that was booted")
	w.Clean("after a machine that was booted was stopped")
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "restored after it was booted")
}

func bootFails(w *World) {
	const said = "could not set up host forwarding rule 'tcp::4711-:80'"
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultRefuseStart, Text: said}}})
	h.Requires(machinery.CapNoRestoreStart)
	err := h.returned(w.call(w.Timing.Start, machinery.OpNoRestoreStart, "a", func() error { return machinery.NoRestoreStart(w.Ctx, h.M, "a") }))
	w.Kind(err, machinery.ErrHypervisor, "booting a machine whose hypervisor does not start")
	if !strings.Contains(err.Error(), said) {
		w.Failf("the error does not carry the hypervisor's words %q: %v", said, err)
	}
	h.Off("a", "after it could not be booted")
	w.Clean("after a machine could not be booted")
}

func bootWithoutSnapshot(w *World) {
	h := w.Open(MachineSpec{Damage: SnapshotMissing})
	h.Requires(machinery.CapNoRestoreStart)
	h.booted("a")
	w.moves(h.Guest("a"), "after NoRestoreStart without a snapshot")
	const what = "a machine that was booted without a snapshot"
	w.NoError(h.Stop("a"), "stopping %s", what)
	h.Off("a", "after Stop returned nil for "+what) // its state may be that it is off, or the error that it has no snapshot
	w.Clean("after a machine without a snapshot was stopped")
}
