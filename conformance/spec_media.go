package conformance

import (
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// mediaSpecs: what a machine can write to besides its disk.
var mediaSpecs = []spec{
	{Requirement{ID: "MM-MEDIA-001", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureSecondDisk},
		Rule:   "After a restore every disk that the guest can write to is the snapshot's, not only the first; or the machine is refused as wrongly configured.",
		Why:    "Malware that has written to the second disk would be there in every analysis after.",
		Source: "machinery.Machinery, RestoreStart"}, mediaRevert},
	{Requirement{ID: "MM-MEDIA-002", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureSecondDisk, FaultFeature(FaultChangeSecondDisk)},
		Rule:   "A machine whose second disk was changed since its snapshot was made is refused as wrongly configured; the error names that disk.",
		Why:    "What the restored guest has of that disk in memory would be wrong, and it would destroy its file systems.",
		Source: "machinery.Machinery, RestoreStart"}, mediaChanged},
	{Requirement{ID: "MM-MEDIA-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureSecondDisk},
		Rule:   "What the guest writes to any of its disks does not change the files of the machine; or the machine is refused as wrongly configured.",
		Why:    "The snapshot fits the disks as they were when it was made.",
		Source: "machinery.Machinery, RestoreStart"}, mediaOriginals},
}

// restoredOrRefused restores a machine with a second disk. A driver that cannot
// revert that disk says so, and does not start the machine.
func (h *Handle) restoredOrRefused(name string) bool {
	err := h.RestoreStart(name)
	if err == nil {
		h.Is(name, "when RestoreStart has returned nil", machinery.StateRunning)
		return true
	}
	h.w.Kind(err, machinery.ErrConfig, "restoring a machine with a second disk")
	h.Off(name, "after the restore was refused")
	return false
}

// second reads a mark of the guest's second disk.
func (w *World) second(g Guest, slot int) uint32 {
	return answers(w, "reading its second disk", func(ctx ctxT) (uint32, error) { return g.Disk(ctx, SecondDisk+slot) })
}

// writeBoth marks both disks of a guest.
func (w *World) writeBoth(g Guest) {
	for _, slot := range []int{firstSlot, markSlot} {
		tells(w, "writing to its disk", func(ctx ctxT) error { return g.SetDisk(ctx, slot, markRun) })
		tells(w, "writing to its second disk", func(ctx ctxT) error { return g.SetDisk(ctx, SecondDisk+slot, markRun) })
		if got := w.second(g, slot); got != markRun {
			w.Failf("the guest wrote the mark %#x to its second disk and reads %#x back", markRun, got)
		}
	}
}

func mediaRevert(w *World) {
	h := w.Open(MachineSpec{SecondDisk: true})
	if !h.restoredOrRefused("a") {
		return
	}
	w.mediaFresh(h.Guest("a"), "restored")
	w.writeBoth(h.Guest("a"))
	h.stopped("a", "a machine with a second disk")
	h.Restored("a", machinery.StateRunning)
	w.mediaFresh(h.Guest("a"), "restored after it wrote to its disks")
}

// mediaFresh fails unless the guest's second disk is the snapshot's.
func (w *World) mediaFresh(g Guest, when string) {
	w.fresh(g, "a", when)
	if got, want := w.second(g, firstSlot), w.bench.Saved("a").SecondDisk; got != want {
		w.Failf("the guest, %s, has the mark %#x on its second disk in slot 0; the snapshot has %#x", when, got, want)
	}
	if got := w.second(g, markSlot); got != noMark {
		w.Failf("the guest, %s, has the mark %#x on its second disk in slot %d, which a run before has written; the snapshot has none", when, got, markSlot)
	}
}

func mediaChanged(w *World) {
	h := w.Open(MachineSpec{SecondDisk: true, Faults: []Fault{{Kind: FaultChangeSecondDisk}}})
	if !h.restoredOrRefused("a") {
		return
	}
	h.stopped("a", "a machine with a second disk")
	w.inject("a", FaultChangeSecondDisk)
	err := h.RestoreStart("a")
	w.Kind(err, machinery.ErrConfig, "after someone wrote to its second disk, restoring the machine")
	if disk := w.bench.Saved("a").Files["second disk"]; disk != "" && !strings.Contains(err.Error(), disk) {
		w.Failf("the error for a machine whose second disk was changed does not name it, %s: %v", disk, err)
	}
	h.Off("a", "after the restore was refused")
}

func mediaOriginals(w *World) {
	h := w.Open(MachineSpec{SecondDisk: true})
	before, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	if !h.restoredOrRefused("a") {
		return
	}
	w.writeBoth(h.Guest("a"))
	h.stopped("a", "a machine with a second disk")
	after, err := w.bench.Originals(w.Ctx, "a")
	w.Lab(err, "reading the machine's files")
	if diff := cmp.Diff(before, after); diff != "" {
		w.Failf("a machine that wrote to its disks has changed its files (- before, + after):\n%s", diff)
	}
}
