package conformance

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/machineries/machineries/machinery"
)

// daemonSpecs: a daemon between the driver and its machines, and others who use it.
var daemonSpecs = []spec{
	{Requirement{ID: "MM-DAEMON-001", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultRestart)},
		Rule:   "A driver works on after the hypervisor's daemon was restarted: State tells the truth, and machines are stopped and restored, without opening it again.",
		Why:    "Daemons are restarted by every update. A sandbox that has to be restarted with them loses its analyses.",
		Source: "machinery.Machinery"}, daemonRestarted},
	{Requirement{ID: "MM-DAEMON-002", Level: Must, Op: machinery.OpWatch, Capability: machinery.CapWatch, Needs: []Feature{FeaturePower, FaultFeature(FaultRestart)},
		Rule:   "A watch outlives a restart of the hypervisor's daemon: what happens afterwards is told.",
		Why:    "A watch that is silent for ever looks like a machine that runs for ever.",
		Source: "machinery.Watcher"}, daemonWatched},
	{Requirement{ID: "MM-DAEMON-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FaultFeature(FaultRestart), FaultFeature(FaultSlowStart)},
		Rule:   "A start during which the hypervisor's daemon is restarted returns, and what came of it is known: Stop ends the machine, whatever it does, and it can be restored again.",
		Why:    "A machine of which nobody knows whether it runs is lost until someone logs in.",
		Source: "machinery.Machinery, RestoreStart"}, daemonRestartedInStart},
	{Requirement{ID: "MM-DAEMON-004", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultGone)},
		Rule:   "A machine that someone has removed from the hypervisor is in the error state with a reason, or State returns an error; when it is there again, it works.",
		Why:    "To say that it is off hands it out; to give it up for good makes a restart of the sandbox part of every repair.",
		Source: "machinery.Machinery, State"}, daemonGone},
	{Requirement{ID: "MM-DAEMON-005", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower, FaultFeature(FaultLocked)},
		Rule:   "An operation that finds the machine held by someone else's work for a moment waits for it, or tries again, and succeeds.",
		Why:    "Backups and monitoring work on machines too. An analysis must not fail because one did.",
		Source: "libvirt: \"cannot acquire state change lock\""}, daemonLocked},
	{Requirement{ID: "MM-DAEMON-006", Level: Must, Op: machinery.OpState, Capability: machinery.CapDumpMemory, Needs: []Feature{FeaturePower, FaultFeature(FaultSlowDump)},
		Rule:   "While the memory of many machines is dumped, the state of each is told promptly, and others are stopped.",
		Why:    "Daemons serve a few requests of a client at once. Dumps of gigabytes must not make a sandbox blind.",
		Source: "machinery, \"Concurrency and contexts\"; libvirtd.conf, max_client_requests"}, daemonDumps},
	{Requirement{ID: "MM-DAEMON-007", Level: Must, Op: machinery.OpDumpMemory, Capability: machinery.CapDumpMemory, Needs: []Feature{FeatureGuest, FaultFeature(FaultRestart), FaultFeature(FaultSlowDump)},
		Rule:   "A dump during which the hypervisor's daemon is restarted returns an error and leaves no file; the machine runs on, and can be dumped again.",
		Why:    "A dump is the longest of all operations, and the daemon that paused the machine for it is not there to let it go on.",
		Source: "libvirt 9.0.0: it tries once, and QEMU refuses while it still writes"}, daemonRestartedInDump},
}

func daemonRestarted(w *World) {
	h := w.Open(MachineSpec{Name: "on"}, MachineSpec{Name: "off"})
	h.Restored("on", machinery.StateRunning)
	g := h.Guest("on")
	for range 2 {
		w.inject("on", FaultRestart)
		h.Becomes("on", "after the daemon was restarted", machinery.StateRunning)
		h.Becomes("off", "after the daemon was restarted", machinery.StatePoweroff)
		w.moves(g, "after the daemon was restarted")
	}
	h.stopped("on", "a machine whose daemon was restarted")
	w.inject("off", FaultRestart)
	for _, name := range []string{"off", "on"} {
		h.Restored(name, machinery.StateRunning)
		w.fresh(h.Guest(name), name, "restored after the daemon was restarted")
	}
}

func daemonWatched(w *World) {
	h := w.Open()
	h.Requires(machinery.CapWatch)
	h.Restored("a", machinery.StateRunning)
	events, err := machinery.Watch(w.Ctx, h.M, "a")
	w.NoError(err, "watching a machine")
	w.present(events, machinery.StateRunning, "watching a running machine")
	w.inject("a", FaultRestart)
	if err := h.Stop("a"); err != nil {
		w.Kind(err, machinery.ErrStateReached, "stopping a machine whose daemon was restarted")
	}
	deadline := time.Now().Add(w.Timing.Guest)
	for {
		// What the watch says of the time without a daemon is its own affair.
		if e := w.next(events, time.Until(deadline), "after the daemon was restarted and the machine stopped, waiting for poweroff"); e.Status.State == machinery.StatePoweroff {
			return
		}
	}
}

func daemonRestartedInStart(w *World) {
	const slow = 700 * time.Millisecond
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultSlowStart, Delay: slow}}})
	start := h.Go("RestoreStart", func() error { return h.restoreStart(w.Ctx, "a") })
	w.up("a", start)
	w.inject("a", FaultRestart)
	err := start.Wait(w.Timing.Start)
	var e *machinery.Error
	if err != nil && !errors.As(err, &e) {
		w.Failf("restoring a machine while its daemon was restarted, the error is a %T; want a *machinery.Error: %v", err, err)
	}
	w.Lab(w.bench.Heal(w.Ctx, "a"), "healing the hypervisor")
	w.Within(w.Timing.Guest, func() string {
		s, err := h.State("a")
		switch {
		case err != nil:
			return "after a start during which the daemon was restarted, State fails: " + err.Error()
		case s.State == machinery.StateStarting:
			return "after a start during which the daemon was restarted, State says starting"
		}
		return ""
	})
	if err := h.Stop("a"); err != nil {
		w.Kind(err, machinery.ErrStateReached, "stopping a machine whose daemon was restarted as it started")
	}
	h.Off("a", "after Stop of a machine whose daemon was restarted as it started")
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "restored after its daemon was restarted as it started")
}

func daemonGone(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	h.Is("a", "before anything was done", machinery.StatePoweroff)
	w.inject("a", FaultGone)
	for range 2 {
		s, err := h.State("a")
		switch {
		case err != nil:
			continue
		case s.State != machinery.StateError:
			w.Failf("someone has removed the machine from the hypervisor, and State says %s; want the error state, or an error", s)
		case s.Reason == "":
			w.Failf("someone has removed the machine from the hypervisor, and State says error without a reason")
		}
	}
	if err := h.RestoreStart("a"); err == nil {
		w.Failf("someone has removed the machine from the hypervisor, and RestoreStart returned nil")
	}
	h.Restored("b", machinery.StateRunning)
	w.Lab(w.bench.Heal(w.Ctx, "a"), "putting the machine back")
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "restored after it was removed and put back")
	h.stopped("a", "a machine that was removed and put back")
}

func daemonLocked(w *World) {
	const moment = 700 * time.Millisecond
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultLocked}}})
	lock := func() {
		w.Lab(w.bench.Inject(w.Ctx, "a", Fault{Kind: FaultLocked, Delay: moment}), "holding the machine")
	}
	lock()
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	lock()
	h.Is("a", "while someone works on it", machinery.StateRunning)
	h.stopped("a", "a machine that someone works on for a moment")
	w.gone(g, "after Stop")
}

// dumpers is how many machines have their memory dumped at once: more than a
// libvirtd serves requests of one client at once by default, which are five.
const dumpers = 6

func daemonDumps(w *World) {
	specs := []MachineSpec{{Name: "on"}, {Name: "off"}}
	for i := range dumpers {
		specs = append(specs, MachineSpec{Name: fmt.Sprintf("d%d", i), Faults: []Fault{{Kind: FaultSlowDump, Delay: 2 * w.Timing.Stop}}})
	}
	h := w.Open(specs...)
	h.Requires(machinery.CapDumpMemory)
	dir := w.dumps()
	h.Restored("on", machinery.StateRunning)
	var dumps []*Pending
	for _, s := range specs[2:] {
		h.Restored(s.Name, machinery.StateRunning)
		dumps = append(dumps, h.Go("DumpMemory", func() error { return h.dumpMemory(w.Ctx, s.Name, filepath.Join(dir, s.Name)) }))
	}
	// What a driver does before it tells the hypervisor gives no sign.
	w.pause(w.Timing.Quiet)
	for range 3 {
		for _, s := range specs {
			began := time.Now()
			want := []machinery.State{machinery.StateRunning, machinery.StatePaused}
			if s.Name == "off" {
				want = []machinery.State{machinery.StatePoweroff}
			}
			h.Is(s.Name, "while the memory of others is dumped", want...)
			if took := time.Since(began); took > w.Timing.Prompt/2 {
				w.Failf("while the memory of %d machines was dumped, State of %q took %v", dumpers, s.Name, took)
			}
		}
	}
	h.stopped("on", "a machine while the memory of others is dumped")
	for i, s := range specs[2:] {
		h.stopped(s.Name, "a machine whose memory is being dumped, beside others")
		w.Kind(dumps[i].Wait(w.Timing.Prompt), machinery.ErrInterrupted, "when Stop was called during a dump")
	}
	w.empty(dir, "after dumps that were ended")
}

func daemonRestartedInDump(w *World) {
	h, g, dir, dump := w.amidDump(w.Ctx, slowDump)
	w.inject("a", FaultRestart)
	if err := dump.Wait(w.Timing.Start); err == nil {
		w.Failf("the daemon was restarted during a dump, and DumpMemory returned nil")
	}
	w.empty(dir, "after a dump during which the daemon was restarted")
	h.Becomes("a", "after a dump during which the daemon was restarted", machinery.StateRunning)
	w.moves(g, "after a dump during which the daemon was restarted")
	w.empty(dir, "a while after a dump during which the daemon was restarted")
	w.NoError(h.dumpMemory(w.Ctx, "a", filepath.Join(dir, "dump")), "dumping the memory again")
	h.Becomes("a", "after the second dump", machinery.StateRunning)
	h.stopped("a", "a machine whose daemon was restarted during a dump")
}
