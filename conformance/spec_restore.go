package conformance

import (
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// restoreSpecs: restore means restore.
var restoreSpecs = []spec{
	{Requirement{ID: "MM-RESTORE-001", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "A machine restored from a snapshot saved running runs.",
		Why:    "It is what the operation is for.",
		Source: "Cuckoo3: restore_start"}, restoreRuns},
	{Requirement{ID: "MM-RESTORE-002", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "After a restore the guest goes on from its snapshot's memory: it was not booted.",
		Why:    "The snapshot holds the prepared system and its agent; a fresh boot has neither.",
		Source: "Cuckoo3: restore_start"}, restoreGoesOn},
	{Requirement{ID: "MM-RESTORE-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "After a restore nothing of the previous run is in the guest's memory.",
		Why:    "What one sample left in memory would infect the analysis of the next.",
		Source: "machinery.Machinery, RestoreStart"}, restoreMemory},
	{Requirement{ID: "MM-RESTORE-004", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "After a restore nothing of the previous run is on the guest's disk.",
		Why:    "What one sample wrote to disk would infect the analysis of the next.",
		Source: "machinery.Machinery, RestoreStart"}, restoreDisk},
	{Requirement{ID: "MM-RESTORE-005", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "The configured disk and snapshot are the same files, byte for byte, after runs that wrote.",
		Why:    "They are the user's originals. There may be no copy of them.",
		Source: "machinery.Machinery, RestoreStart"}, restoreOriginals},
	{Requirement{ID: "MM-RESTORE-006", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "A machine restored from a snapshot saved paused is paused, and is not resumed by the driver.",
		Why:    "The sandbox sets up its capture before the first instruction runs; HandlePaused says when.",
		Source: "Cuckoo3: handle_paused"}, restorePaused},
	{Requirement{ID: "MM-RESTORE-007", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "To restore a machine that is running is refused as \"not possible in this state\", and the machine is left alone.",
		Why:    "A running machine has an analysis in it, which a second start must not destroy.",
		Source: "Cuckoo3: restore_start, MachineUnexpectedStateError"}, restoreRunning},
	{Requirement{ID: "MM-RESTORE-008", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureSavedPaused},
		Rule:   "To restore a machine that is paused is refused as \"not possible in this state\", and the machine is left alone.",
		Why:    "As for a running one.",
		Source: "Cuckoo3: restore_start, MachineUnexpectedStateError"}, restoreOverPaused},
	{Requirement{ID: "MM-RESTORE-009", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureKinds},
		Rule:   "Every kind of snapshot that the hypervisor's users keep is restored: plain and compressed, recognised by content.",
		Why:    "Snapshots are gigabytes; tools that make them compress them, with names of their own.",
		Source: "Cuckoo3: qemu module; VMCloak"}, restoreKinds},
	{Requirement{ID: "MM-RESTORE-010", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest},
		Rule:   "A machine whose guest switched itself off can be restored without Stop.",
		Why:    "It is off; the sandbox has no reason to stop it first.",
		Source: "machinery.Machinery, RestoreStart"}, restoreAfterGuestOff},
	{Requirement{ID: "MM-RESTORE-011", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureKinds},
		Rule:   "Each machine gets its own snapshot and disk, also when several start at once.",
		Why:    "A snapshot that is swapped for another's runs the sample on the wrong system.",
		Source: "machinery.Machinery, RestoreStart"}, restoreOwn},
	{Requirement{ID: "MM-RESTORE-012", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "Restoring works again and again, from the same snapshot each time.",
		Why:    "A sandbox does it thousands of times a day.",
		Source: "Cuckoo3: restore_start"}, restoreAgain},
	{Requirement{ID: "MM-RESTORE-013", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultNoise)},
		Rule:   "A hypervisor that prints a megabyte of warnings is not held up by it.",
		Why:    "Output that nobody reads fills a pipe, and then the machine stands still.",
		Source: "machinery.Machinery, RestoreStart"}, restoreNoise},
	{Requirement{ID: "MM-RESTORE-014", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultKill)},
		Rule:   "A machine whose hypervisor was killed works again after Stop.",
		Why:    "What a killed hypervisor leaves behind, a socket file or a lock, must not end the machine's use.",
		Source: "machinery.Machinery, RestoreStart"}, restoreAfterKill},
	{Requirement{ID: "MM-RESTORE-015", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultChangeDisk)},
		Rule:   "A machine whose disk was changed since its snapshot was made is refused as wrongly configured; the error names the disk, and nothing is started.",
		Why:    "What the restored guest has of its disk in memory would be wrong, and it would destroy its file systems in the middle of an analysis.",
		Source: "machinery.Machinery, RestoreStart"}, restoreChangedDisk},
}

// counterSlack is how far the guest's counter may have gone on between the
// snapshot and the first look at it: a minute of ticks. A fresh boot shows as a
// counter below the snapshot's.
const counterSlack = 60 * 250

// fresh fails the check unless the guest is as its snapshot was.
func (w *World) fresh(g Guest, name, when string) {
	saved := w.bench.Saved(name)
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, 0) }); got != saved.Memory {
		w.Failf("%s, the guest's memory has the mark %#x in slot 0; its snapshot has %#x", when, got, saved.Memory)
	}
	if got := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, 0) }); got != saved.Disk {
		w.Failf("%s, the guest's disk has the mark %#x in slot 0; its snapshot has %#x", when, got, saved.Disk)
	}
	count, err := w.counter(g)
	if err != nil {
		w.Failf("%s, the guest does not answer: %v", when, err)
	}
	if count < saved.Counter || count-saved.Counter > counterSlack {
		w.Failf("%s, the guest's counter is at %d; its snapshot was saved at %d, so it did not go on from there", when, count, saved.Counter)
	}
}

func restoreRuns(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	w.moves(h.Guest("a"), "after a restore")
}

func restoreGoesOn(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "after the first restore")
}

// Marks of one run, to be looked for in the next.
const (
	markSlot         = 3
	markRun   uint32 = 0xA11CE001
	markRun2  uint32 = 0xA11CE002
	noMark    uint32 = 0
	firstSlot        = 0
)

func restoreMemory(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, firstSlot, markRun2) })
	w.NoError(h.Stop("a"), "stopping the machine")
	h.Restored("a", machinery.StateRunning)
	g = h.Guest("a")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != noMark {
		w.Failf("after the restore, the guest's memory still has the mark %#x that the previous run wrote", got)
	}
	if got, want := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, firstSlot) }), w.bench.Saved("a").Memory; got != want {
		w.Failf("after the restore, the guest's memory has the mark %#x in slot 0; its snapshot has %#x", got, want)
	}
}

func restoreDisk(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, markSlot, markRun) })
	tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, firstSlot, markRun2) })
	if got := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, markSlot) }); got != markRun {
		w.Failf("the guest wrote the mark %#x to its disk and reads %#x back", markRun, got)
	}
	w.NoError(h.Stop("a"), "stopping the machine")
	h.Restored("a", machinery.StateRunning)
	g = h.Guest("a")
	if got := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, markSlot) }); got != noMark {
		w.Failf("after the restore, the guest's disk still has the mark %#x that the previous run wrote", got)
	}
	if got, want := answers(w, "reading its disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, firstSlot) }), w.bench.Saved("a").Disk; got != want {
		w.Failf("after the restore, the guest's disk has the mark %#x in slot 0; its snapshot has %#x", got, want)
	}
}

func restoreOriginals(w *World) {
	h := w.Open()
	before, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	for range 2 {
		h.Restored("a", machinery.StateRunning)
		g := h.Guest("a")
		tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, markSlot, markRun) })
		tells(w, "writing to its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
		w.NoError(h.Stop("a"), "stopping the machine")
	}
	after, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	if diff := cmp.Diff(before, after); diff != "" {
		w.Failf("the machine's configured files changed (checksums, - before, + after):\n%s", diff)
	}
}

func restorePaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Restored("a", machinery.StatePaused)
	w.silent(h.connect("a"), "after a restore from a snapshot saved paused")
	h.Is("a", "some time after its restore", machinery.StatePaused)
}

// restoreRefused fails the check unless a restore is refused and the guest of
// the run that is on goes on as it was.
func restoreRefused(w *World, h *Handle, state machinery.State) {
	err := h.RestoreStart("a")
	w.Kind(err, machinery.ErrUnexpectedState, "restoring a machine that is %s", state)
	h.Is("a", "after the restore was refused", state)
}

func restoreRunning(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	restoreRefused(w, h, machinery.StateRunning)
	w.moves(g, "after the restore was refused")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != markRun {
		w.Failf("after the refused restore, the guest's memory lost the mark of its run: %#x; want %#x", got, markRun)
	}
}

func restoreOverPaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	restoreRefused(w, h, machinery.StatePaused)
	w.silent(g, "after the restore was refused")
}

func restoreKinds(w *World) {
	var machines []MachineSpec
	for _, kind := range w.kinds() {
		name := "plain"
		if kind != SnapshotPlain {
			name = string(kind)
		}
		machines = append(machines, MachineSpec{Name: name, Kind: kind})
	}
	h := w.Open(machines...)
	for _, m := range machines {
		h.Restored(m.Name, machinery.StateRunning)
		w.fresh(h.Guest(m.Name), m.Name, "restored from its "+m.Name+" snapshot")
		w.NoError(h.Stop(m.Name), "stopping the machine")
	}
}

func restoreAfterGuestOff(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "switching itself off", g.PowerOff)
	w.gone(g, "after the guest switched itself off")
	h.Becomes("a", "after its guest switched itself off", machinery.StatePoweroff)
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "after the second restore")
}

func restoreOwn(w *World) {
	names := []string{"a", "b", "c"}
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b", Kind: w.anotherKind()}, MachineSpec{Name: "c"})
	if w.bench.Saved("a").Memory == w.bench.Saved("b").Memory || w.bench.Saved("a").Memory == w.bench.Saved("c").Memory {
		panic(harness{errSameMarks})
	}
	var starts []*Pending
	for _, name := range names {
		starts = append(starts, h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, name) }))
	}
	for i, name := range names {
		w.NoError(starts[i].Wait(w.Timing.Start), "restoring %q beside two others", name)
		h.Settles(name, machinery.StateRunning)
	}
	for _, name := range names {
		w.fresh(h.Guest(name), name, "started beside two others, "+name)
	}
}

func restoreAgain(w *World) {
	h := w.Open()
	for range 5 {
		h.Restored("a", machinery.StateRunning)
		g := h.Guest("a")
		w.fresh(g, "a", "after another restore")
		tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, firstSlot, markRun) })
		tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, firstSlot, markRun) })
		w.NoError(h.Stop("a"), "stopping the machine")
		h.Off("a", "after Stop returned nil")
	}
}

func restoreNoise(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultNoise}}})
	h.Restored("a", machinery.StateRunning)
	w.moves(h.Guest("a"), "after its hypervisor printed a megabyte of warnings")
	w.NoError(h.Stop("a"), "stopping the machine")
	h.Off("a", "after Stop returned nil")
}

func restoreAfterKill(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultKill)
	w.gone(g, "after its hypervisor was killed")
	if err := h.Stop("a"); err != nil {
		w.Kind(err, machinery.ErrStateReached, "stopping a machine whose hypervisor was killed")
	}
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "restored after its hypervisor was killed")
}

func restoreChangedDisk(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultChangeDisk}}})
	h.Restored("a", machinery.StateRunning)
	w.NoError(h.Stop("a"), "stopping the machine")
	w.inject("a", FaultChangeDisk)
	err := h.RestoreStart("a")
	w.Kind(err, machinery.ErrConfig, "after someone wrote to its disk, restoring the machine")
	if disk := w.bench.Saved("a").Files["disk"]; disk != "" && !strings.Contains(err.Error(), disk) {
		w.Failf("the error for a machine whose disk was changed does not name the disk, %s: %v", disk, err)
	}
	h.Off("a", "after the restore was refused")
}
