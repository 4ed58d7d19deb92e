package conformance

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery"
)

// startFailureSpecs: what a start that fails says and leaves.
var startFailureSpecs = []spec{
	{Requirement{ID: "MM-FAIL-001", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureDamage},
		Rule:   "To restore a machine whose snapshot or disk is missing is an error that names the file.",
		Why:    "The person who reads it has to know what to put back.",
		Source: "machinery.Machinery, RestoreStart"}, failMissing},
	{Requirement{ID: "MM-FAIL-002", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureDamage},
		Rule:   "To restore an empty, truncated or garbled snapshot is an error, promptly, that names machine and file.",
		Why:    "Snapshots break when disks fill up; a driver that waits for a hypervisor that is long gone costs hours.",
		Source: "machinery.Machinery, RestoreStart"}, failBroken},
	{Requirement{ID: "MM-FAIL-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureDamage},
		Rule:   "To restore the snapshot of a machine with other hardware is an error with the hypervisor's own words.",
		Why:    "Only the hypervisor knows what does not fit.",
		Source: "machinery.Machinery, RestoreStart"}, failForeign},
	{Requirement{ID: "MM-FAIL-004", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FaultFeature(FaultRefuseStart)},
		Rule:   "A hypervisor that ends as it starts is an error, promptly, with the hypervisor's own words.",
		Why:    "\"Time-out\" is what users see instead, with nothing to act on.",
		Source: "machinery.Machinery, RestoreStart"}, failRefused},
	{Requirement{ID: "MM-FAIL-005", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FaultFeature(FaultNeverReady)},
		Rule:   "A hypervisor that starts and is never ready is ended when the context ends.",
		Why:    "A call that never returns takes the sandbox's worker with it.",
		Source: "machinery.Machinery, RestoreStart"}, failNeverReady},
	{Requirement{ID: "MM-FAIL-006", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower, FaultFeature(FaultRefuseStart)},
		Rule:   "After a failed start the machine is in the error state with the reason, until Stop or the next start.",
		Why:    "poweroff would hide the failure from everyone but the one caller.",
		Source: "machinery.Machinery, State"}, failIsError},
	{Requirement{ID: "MM-FAIL-007", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FaultFeature(FaultRefuseStart)},
		Rule:   "After a failed start the machine can be started again at once.",
		Why:    "The cause may be over, and a sandbox tries again.",
		Source: "machinery.StateError"}, failThenStart},
	{Requirement{ID: "MM-FAIL-008", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureDamage, FeatureLeftovers, FaultFeature(FaultRefuseStart)},
		Rule:   "A failed start leaves nothing: no process, no file, no socket.",
		Why:    "A process that is left holds the disk, the network card and the memory of a machine that is said to be off.",
		Source: "machinery.Machinery, RestoreStart"}, failClean},
}

// startFails opens the driver on a machine, fails the check unless its start
// fails, promptly, and returns the error.
func (w *World) startFails(m MachineSpec, when string) (*Handle, error) {
	h := w.Open(m)
	began := time.Now()
	err := h.RestoreStart(w.nameOf(m))
	if err == nil {
		// A driver may return early: then the state has to tell.
		err = w.laterFailure(h, w.nameOf(m), when)
	}
	var e *machinery.Error
	if !errors.As(err, &e) {
		w.Failf("%s, the error is a %T; want a *machinery.Error: %v", when, err, err)
	}
	if took := time.Since(began); took > w.Timing.Guest {
		w.Failf("%s, it took %v until the failure was seen; the hypervisor had long ended", when, took)
	}
	h.Off(w.nameOf(m), when)
	return h, err
}

// laterFailure waits for a start that was said to be under way to be seen to
// have failed, and makes an error of the reason.
func (w *World) laterFailure(h *Handle, name, when string) error {
	var s machinery.Status
	w.Within(w.Timing.Guest, func() string {
		var err error
		if s, err = h.State(name); err != nil {
			w.Failf("%s, RestoreStart returned nil and State fails: %v", when, err)
		}
		if s.State == machinery.StateError {
			return ""
		}
		return when + ", RestoreStart returned nil and the machine is " + s.String() + "; want an error, or the error state later"
	})
	return &machinery.Error{Op: machinery.OpRestoreStart, Machine: name, Kind: machinery.ErrHypervisor, Status: s, Reason: s.Reason + ": " + s.Detail}
}

// nameOf is the name that Bench gives a machine.
func (w *World) nameOf(m MachineSpec) string {
	if m.Name == "" {
		return "a"
	}
	return m.Name
}

// names fails the check unless the error's text names what a person has to
// look at.
func (w *World) names(err error, when string, words ...string) {
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Failf("%s, the error does not say %q: %v", when, word, err)
		}
	}
}

func failMissing(w *World) {
	for _, c := range []struct {
		damage Damage
		file   string
	}{{SnapshotMissing, "snapshot"}, {DiskMissing, "disk"}} {
		w.part(func() {
			when := "restoring a machine with its " + string(c.damage)
			_, err := w.startFails(MachineSpec{Name: "win10", Damage: c.damage}, when)
			w.names(err, when, "win10", filepath.Base(w.bench.Saved("win10").Files[c.file]))
		})
	}
}

func failBroken(w *World) {
	for _, damage := range []Damage{SnapshotEmpty, SnapshotTruncated, SnapshotGarbage} {
		w.part(func() {
			when := "restoring a machine with its " + string(damage)
			_, err := w.startFails(MachineSpec{Name: "win10", Damage: damage}, when)
			w.names(err, when, "win10", filepath.Base(w.bench.Saved("win10").Files["snapshot"]))
		})
	}
}

func failForeign(w *World) {
	when := "restoring the snapshot of a machine with other hardware"
	_, err := w.startFails(MachineSpec{Name: "win10", Damage: SnapshotForeign}, when)
	w.Kind(err, machinery.ErrHypervisor, "%s", when)
	said := w.bench.Saved("win10").Files["hypervisor says"]
	w.names(err, when, "win10", filepath.Base(w.bench.Saved("win10").Files["snapshot"]))
	if said != "" {
		w.names(err, when, said)
	}
}

// refusal is what a hypervisor that refuses to start says in these checks. No
// driver can know it.
const refusal = "could not set up host forwarding rule 'quux-4711'"

func failRefused(w *World) {
	when := "starting a hypervisor that ends at once"
	_, err := w.startFails(MachineSpec{Name: "win10", Faults: []Fault{{Kind: FaultRefuseStart, Text: refusal}}}, when)
	w.Kind(err, machinery.ErrHypervisor, "%s", when)
	w.names(err, when, "win10", refusal)
}

func failNeverReady(w *World) {
	h := w.Open(MachineSpec{Faults: []Fault{{Kind: FaultNeverReady}}})
	ctx, cancel := context.WithTimeout(w.Ctx, 500*time.Millisecond)
	defer cancel()
	err := h.returned(h.restoreStart(ctx, "a"))
	if err == nil {
		w.Failf("the hypervisor is never ready, and RestoreStart returned nil")
	}
	w.Kind(err, machinery.ErrInterrupted, "when its context ended while the hypervisor was not ready")
	if !errors.Is(err, context.DeadlineExceeded) {
		w.Failf("when its context ran out of time, the error does not match context.DeadlineExceeded: %v", err)
	}
	h.Off("a", "after a start that was never ready was ended")
}

func failIsError(w *World) {
	h, _ := w.startFails(MachineSpec{Faults: []Fault{{Kind: FaultRefuseStart, Text: refusal}}}, "starting a hypervisor that ends at once")
	s := h.Is("a", "after a failed start", machinery.StateError)
	if !strings.Contains(s.Reason+s.Detail, refusal) {
		w.Failf("after a failed start, the status does not say why: %s%s", s, detail(s))
	}
	h.Is("a", "asked a second time after a failed start", machinery.StateError)
	w.NoError(h.Stop("a"), "stopping a machine whose start failed")
	h.Is("a", "after Stop", machinery.StatePoweroff)
	w.Kind(h.Stop("a"), machinery.ErrStateReached, "stopping it once more")
}

func failThenStart(w *World) {
	h, _ := w.startFails(MachineSpec{Faults: []Fault{{Kind: FaultRefuseStart, Text: refusal}}}, "starting a hypervisor that ends at once")
	w.Lab(w.bench.Heal(w.Ctx, "a"), "healing the hypervisor")
	h.Restored("a", machinery.StateRunning)
	w.fresh(h.Guest("a"), "a", "started after a failed start")
}

func failClean(w *World) {
	for _, m := range []MachineSpec{
		{Damage: SnapshotTruncated},
		{Damage: SnapshotForeign},
		{Damage: SnapshotGarbage, Kind: w.anotherKind()},
		{Damage: DiskGarbage},
		{Faults: []Fault{{Kind: FaultRefuseStart, Text: refusal}}},
	} {
		w.part(func() {
			m.Name = "a"
			when := "after the failed start of " + m.String()
			h, _ := w.startFails(m, when)
			w.NoError(h.Close(), "closing the driver")
			w.Clean(when)
		})
	}
}
