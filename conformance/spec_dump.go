package conformance

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery"
)

// dumpSpecs: the guest's memory in a file.
var dumpSpecs = []spec{
	{Requirement{ID: "MM-DUMP-001", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FeatureDump},
		Rule:   "A dump holds what is in the guest's memory now.",
		Why:    "It is searched for the unpacked sample; that of the snapshot, or of zeros, has none.",
		Source: "Cuckoo3: dump_memory"}, dumpHolds},
	{Requirement{ID: "MM-DUMP-002", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest},
		Rule:   "A running machine runs after a dump, from where it was.",
		Why:    "The analysis goes on.",
		Source: "machinery.MemoryDumper"}, dumpRunning},
	{Requirement{ID: "MM-DUMP-003", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FeatureSavedPaused},
		Rule:   "A paused machine is paused after a dump, and can be resumed.",
		Why:    "Whoever paused it has a reason that a dump does not change.",
		Source: "machinery.MemoryDumper"}, dumpPaused},
	{Requirement{ID: "MM-DUMP-004", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest},
		Rule:   "A path at which there is something already is refused, and what is there is left as it is.",
		Why:    "It may be another analysis' dump, or a link that leads to any file of the host.",
		Source: "machinery.MemoryDumper"}, dumpExists},
	{Requirement{ID: "MM-DUMP-005", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest},
		Rule:   "A path at which no file can be made is an error, and the machine goes on.",
		Why:    "A mistake in a path must not cost the analysis.",
		Source: "machinery.MemoryDumper"}, dumpNowhere},
	{Requirement{ID: "MM-DUMP-006", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FaultFeature(FaultRefuseDump)},
		Rule:   "If the hypervisor cannot dump the memory the error has its words, there is no file, whole or in part, and the machine goes on.",
		Why:    "Half a dump is taken for a whole one, and analysed.",
		Source: "machinery.MemoryDumper"}, dumpRefused},
	{Requirement{ID: "MM-DUMP-007", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest},
		Rule:   "A dump can be read by its owner alone (mode 0600), and nothing lies beside it.",
		Why:    "The memory holds passwords and keys.",
		Source: "machinery.MemoryDumper"}, dumpPrivate},
	{Requirement{ID: "MM-DUMP-008", Level: Must, Op: machinery.OpState, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FaultFeature(FaultSlowDump)},
		Rule:   "While the memory is dumped State answers, and says paused or running, never error.",
		Why:    "A sandbox takes a machine in the error state out of use.",
		Source: "machinery, \"What each operation promises\""}, dumpState},
	{Requirement{ID: "MM-DUMP-009", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FaultFeature(FaultSlowDump)},
		Rule:   "A dump whose context ends returns promptly with an error of kind \"interrupted\", leaves no file, and the machine goes on.",
		Why:    "A dump of gigabytes to a slow disk takes minutes that the caller may not have.",
		Source: "machinery, \"Concurrency and contexts\""}, dumpCancelled},
	{Requirement{ID: "MM-DUMP-010", Level: Must, Op: machinery.OpStop, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FaultFeature(FaultSlowDump)},
		Rule:   "Stop ends a dump that is under way, and the dump leaves no file.",
		Why:    "A cancelled analysis must not have to wait for its dump.",
		Source: "machinery.Machinery, Stop"}, dumpStopped},
	{Requirement{ID: "MM-DUMP-011", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeaturePower},
		Rule:   "To dump the memory of a machine that is off is refused as \"not possible in this state\", and makes no file.",
		Why:    "A dump of nothing is taken for one of a system without a trace of the sample.",
		Source: "machinery.MemoryDumper"}, dumpOff},
}

func (h *Handle) dumpMemory(ctx context.Context, name, path string) error {
	return h.w.call(h.w.Timing.Start, machinery.OpDumpMemory, name, func() error { return machinery.DumpMemory(ctx, h.M, name, path) })
}

// DumpMemory calls the driver's operation.
func (h *Handle) DumpMemory(name, path string) error {
	return h.returned(h.dumpMemory(h.w.Ctx, name, path))
}

// dumps makes a directory for dumps, apart from what belongs to the machines.
func (w *World) dumps() string {
	dir := filepath.Join(w.dir, "dumps")
	w.Lab(os.MkdirAll(dir, 0o700), "making a directory for dumps")
	return dir
}

// empty fails the check if there is anything in a directory.
func (w *World) empty(dir, when string) { w.holdsOnly(dir, when) }

// holdsOnly fails the check unless a directory holds these files and nothing
// else.
func (w *World) holdsOnly(dir, when string, names ...string) {
	entries, err := os.ReadDir(dir)
	w.Lab(err, "looking into the directory for dumps")
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	if strings.Join(found, "\n") != strings.Join(names, "\n") {
		w.Failf("%s, the directory of the dump holds %q; want %q", when, found, names)
	}
}

func dumpHolds(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	reader, ok := w.bench.(DumpReader)
	if !ok {
		w.Lab(errNoDumpReader, "reading a dump")
	}
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	dir := w.dumps()
	for i, mark := range []uint32{markRun, markRun2} {
		tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, mark) })
		path := filepath.Join(dir, "dump"+string(rune('1'+i)))
		w.NoError(h.DumpMemory("a", path), "dumping the memory of a running machine")
		for slot, want := range map[int]uint32{markSlot: mark, firstSlot: w.bench.Saved("a").Memory} {
			got, err := reader.Dumped(w.Ctx, "a", path, slot)
			if err != nil {
				w.Failf("DumpMemory returned nil, and the guest's memory cannot be read from the file: %v", err)
			}
			if got != want {
				w.Failf("the guest's memory has the mark %#x in slot %d; the dump has %#x", want, slot, got)
			}
		}
	}
}

func dumpRunning(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	dir := w.dumps()
	for _, name := range []string{"1", "2", "3"} {
		w.NoError(h.DumpMemory("a", filepath.Join(dir, name)), "dumping the memory of a running machine")
		h.Is("a", "when a dump has returned", machinery.StateRunning)
		w.moves(g, "after a dump")
	}
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != markRun {
		w.Failf("after a dump, the guest's memory has the mark %#x; it was %#x before", got, markRun)
	}
}

func dumpPaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	w.NoError(h.DumpMemory("a", filepath.Join(w.dumps(), "dump")), "dumping the memory of a paused machine")
	h.Is("a", "when a dump of a paused machine has returned", machinery.StatePaused)
	w.silent(g, "after a dump of a paused machine")
	if machinery.Supports(h.M, machinery.CapHandlePaused) {
		w.NoError(h.HandlePaused("a"), "resuming a paused machine whose memory was dumped")
		w.moves(g, "resumed after a dump")
	}
}

func dumpExists(w *World) {
	const content = "something of somebody's"
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	dir := w.dumps()
	at := func(name string) string { return filepath.Join(dir, name) }
	w.Lab(os.WriteFile(at("file"), []byte(content), 0o640), "making a file")
	w.Lab(os.Mkdir(at("directory"), 0o700), "making a directory")
	w.Lab(os.Symlink(at("elsewhere"), at("link")), "making a link")
	for _, name := range []string{"file", "directory", "link"} {
		w.Kind(h.DumpMemory("a", at(name)), machinery.ErrConfig, "dumping the memory to a path at which there is a %s", name)
	}
	w.holdsOnly(dir, "after dumps to paths that were taken", "directory", "file", "link")
	w.empty(at("directory"), "after a dump to the path of a directory")
	data, err := os.ReadFile(at("file"))
	w.Lab(err, "reading a file")
	info, err := os.Stat(at("file"))
	w.Lab(err, "reading a file")
	if string(data) != content || info.Mode().Perm() != 0o640 {
		w.Failf("a dump to a path at which there was a file has changed that file: it holds %.40q with mode %v", data, info.Mode())
	}
	w.moves(g, "after dumps that were refused")
}

func dumpNowhere(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	dir := w.dumps()
	w.Lab(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), "making a file")
	for what, path := range map[string]string{
		"in a directory that does not exist": filepath.Join(dir, "missing", "dump"),
		"below a file":                       filepath.Join(dir, "file", "dump"),
		"with a name that is too long":       filepath.Join(dir, strings.Repeat("d", 300)),
	} {
		if err := h.DumpMemory("a", path); err == nil {
			w.Failf("dumping the memory to a path %s returned nil", what)
		}
	}
	w.holdsOnly(dir, "after dumps that could not be made", "file")
	h.Is("a", "after dumps that could not be made", machinery.StateRunning)
	w.moves(g, "after dumps that could not be made")
}

func dumpRefused(w *World) {
	const said = "dump: failed to save memory: No space left on device"
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultRefuseDump, Text: said}}})
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	dir := w.dumps()
	err := h.DumpMemory("a", filepath.Join(dir, "dump"))
	w.Kind(err, machinery.ErrHypervisor, "dumping the memory when the hypervisor cannot")
	if !strings.Contains(err.Error(), said) {
		w.Failf("the error does not carry the hypervisor's words %q: %v", said, err)
	}
	w.empty(dir, "after a dump that failed")
	h.Is("a", "after a dump that failed", machinery.StateRunning)
	w.moves(g, "after a dump that failed")
}

func dumpPrivate(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	dir := w.dumps()
	path := filepath.Join(dir, "dump")
	w.NoError(h.DumpMemory("a", path), "dumping the memory")
	w.holdsOnly(dir, "after a dump", "dump")
	info, err := os.Lstat(path)
	w.Lab(err, "looking at the dump")
	if info.Mode() != 0o600 {
		w.Failf("the dump has the mode %v; want a regular file with mode 0600", info.Mode())
	}
}

// slowDump is how much longer a slow dump takes.
const slowDump = time.Second

func dumpState(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowDump, Delay: slowDump}}})
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	dump := h.Go("DumpMemory", func() error { return h.dumpMemory(w.Ctx, "a", filepath.Join(w.dumps(), "dump")) })
	asked := 0
	for dump.Running() {
		h.Is("a", "while its memory is dumped", machinery.StatePaused, machinery.StateRunning)
		if dump.Running() {
			asked++
		}
		w.pause(time.Millisecond)
	}
	w.NoError(dump.Wait(w.Timing.Prompt), "dumping the memory")
	if asked == 0 {
		w.Failf("State did not answer while the memory was dumped, which took %v", dump.took)
	}
	h.Is("a", "when a dump has returned", machinery.StateRunning)
	w.moves(g, "after a dump")
}

// amidDump begins a slow dump and waits until it is surely under way.
func (w *World) amidDump(ctx context.Context, delay time.Duration) (h *Handle, g Guest, dir string, dump *Pending) {
	h = w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowDump, Delay: delay}}})
	h.Requires(machinery.CapDumpMemory)
	h.Restored("a", machinery.StateRunning)
	g = h.Guest("a")
	dir = w.dumps()
	dump = h.Go("DumpMemory", func() error { return h.dumpMemory(ctx, "a", filepath.Join(dir, "dump")) })
	// What a driver does before it tells the hypervisor gives no sign.
	w.pause(w.Timing.Quiet)
	if !dump.Running() {
		w.Failf("DumpMemory returned before the slow hypervisor could have dumped anything: %v", dump.Wait(w.Timing.Prompt))
	}
	return h, g, dir, dump
}

func dumpCancelled(w *World) {
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	h, g, dir, dump := w.amidDump(ctx, slowDump)
	cancel()
	w.Kind(dump.Wait(w.Timing.Prompt), machinery.ErrInterrupted, "when the context of a dump ended")
	w.empty(dir, "after a dump whose context ended")
	h.Becomes("a", "after a dump whose context ended", machinery.StateRunning)
	w.moves(g, "after a dump whose context ended")
	w.empty(dir, "a while after a dump whose context ended")
}

func dumpStopped(w *World) {
	// Longer than Stop may take: it must not wait for the dump.
	h, _, dir, dump := w.amidDump(w.Ctx, 2*w.Timing.Stop)
	h.stopped("a", "a machine whose memory is being dumped")
	w.Kind(dump.Wait(w.Timing.Prompt), machinery.ErrInterrupted, "when Stop was called during a dump")
	w.empty(dir, "after Stop during a dump")
}

func dumpOff(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDumpMemory)
	dir := w.dumps()
	w.Kind(h.DumpMemory("a", filepath.Join(dir, "dump")), machinery.ErrUnexpectedState, "dumping the memory of a machine that is off")
	w.empty(dir, "after a dump of a machine that is off")
	h.Off("a", "after a dump of it while it was off")
}
