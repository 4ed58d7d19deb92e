package conformance

import (
	"fmt"
	"runtime"

	"github.com/machineries/machineries/machinery"
)

// cleanSpecs: nothing is left behind.
var cleanSpecs = []spec{
	{Requirement{ID: "MM-CLEAN-001", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FeatureLeftovers},
		Rule:   "After Stop nothing of the run is left: no process, no file, no socket.",
		Why:    "Overlays of gigabytes fill the disk run by run.",
		Source: "machinery, \"Ownership\""}, cleanStop},
	{Requirement{ID: "MM-CLEAN-002", Level: Must, Op: machinery.OpState, Needs: []Feature{FeatureGuest, FeatureLeftovers},
		Rule:   "After a guest switched itself off nothing of the run is left, without any further call.",
		Why:    "The sandbox sees the machine off and does not call Stop.",
		Source: "machinery, \"Ownership\""}, cleanGuestOff},
	{Requirement{ID: "MM-CLEAN-003", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeatureGuest, FeatureLeftovers, FaultFeature(FaultKill)},
		Rule:   "After a hypervisor was killed, and Stop, nothing of the run is left.",
		Why:    "A killed hypervisor clears up nothing itself.",
		Source: "machinery, \"Ownership\""}, cleanKilled},
	{Requirement{ID: "MM-CLEAN-004", Level: Must, Op: machinery.OpShutdown, Needs: []Feature{FeaturePower, FeatureLeftovers},
		Rule:   "After Shutdown nothing is left.",
		Why:    "Nobody looks afterwards.",
		Source: "machinery.Machinery, Shutdown"}, cleanShutdown},
	{Requirement{ID: "MM-CLEAN-005", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FeatureLeftovers},
		Rule:   "Starting and stopping machines again and again does not add to the process: no goroutines, no descriptors.",
		Why:    "A sandbox runs for months.",
		Source: "machinery, \"Ownership\""}, cleanProcess},
}

func cleanStop(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b", Kind: w.anotherKind()})
	for _, name := range []string{"a", "b"} {
		h.Restored(name, machinery.StateRunning)
		h.Guest(name)
		w.NoError(h.Stop(name), "stopping the machine")
	}
	w.Clean("after Stop returned nil")
	w.NoError(h.Close(), "closing the driver")
	w.Clean("after Close")
}

func cleanGuestOff(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "switching itself off", g.PowerOff)
	w.gone(g, "after the guest switched itself off")
	w.Clean("after the guest switched itself off")
}

func cleanKilled(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	w.inject("a", FaultKill)
	w.gone(g, "after its hypervisor was killed")
	_ = h.Stop("a")
	w.Clean("after the hypervisor was killed and the machine stopped")
}

func cleanShutdown(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	h.Restored("a", machinery.StateRunning)
	h.Restored("b", machinery.StateRunning)
	w.NoError(h.Shutdown(), "shutting the driver down")
	w.Clean("after Shutdown returned nil")
}

// cycles is how often a machine is started and stopped to see what adds up. A
// driver that leaks one goroutine or descriptor each time shows it clearly.
const cycles = 6

func cleanProcess(w *World) {
	h := w.Open()
	cycle := func() {
		h.Restored("a", machinery.StateRunning)
		h.Guest("a")
		w.NoError(h.Stop("a"), "stopping the machine")
	}
	// What is made once and kept, such as the runtime's own poller, is made
	// in the first cycle.
	cycle()
	w.Clean("after the first start and stop")
	grown := ""
	for range 2 {
		// A pool of connections may fill up in the first round. What is not used
		// again adds up in the second one too.
		goroutines, files := runtime.NumGoroutine(), openFiles()
		for range cycles {
			cycle()
		}
		w.Clean(fmt.Sprintf("after %d starts and stops", cycles))
		if grown = w.await(w.Timing.Clean/2, func() string { return added(goroutines, files) }); grown == "" {
			return
		}
		w.Notef("%.100s", grown)
	}
	w.Failf("twice in a row: %s", grown)
}

// added says what the process has more of than it had, if that is too much; else
// it is empty.
func added(goroutines, files int) string {
	if now := runtime.NumGoroutine(); now > goroutines+cycles/2 {
		return fmt.Sprintf("after %d more starts and stops there are %d goroutines; there were %d\n%s", cycles, now, goroutines, stacks())
	}
	if now := openFiles(); now > files+cycles/2 {
		return fmt.Sprintf("after %d more starts and stops there are %d open descriptors; there were %d", cycles, now, files)
	}
	return ""
}

// stacks is what every goroutine does, cut to a readable length.
func stacks() string {
	buffer := make([]byte, 32<<10)
	return string(buffer[:runtime.Stack(buffer, true)])
}

// openFiles counts this process' open descriptors; 0 where that cannot be
// known.
func openFiles() int { return len(descriptors()) }
