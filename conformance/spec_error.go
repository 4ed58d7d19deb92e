package conformance

import (
	"context"
	"errors"
	"slices"

	"github.com/machineries/machineries/machinery"
)

// errorSpecs: errors that a program and a person can act on.
var errorSpecs = []spec{
	{Requirement{ID: "MM-ERROR-001", Level: Must, Op: machinery.OpState, Needs: []Feature{FeaturePower},
		Rule:   "Every operation on a name that no machine has is an error of kind \"no such machine\" that lists the known names.",
		Why:    "Names are mistyped, and mixed up with labels.",
		Source: "machinery.ErrNotFound; Cuckoo3: MachineNotFoundError"}, errorUnknown},
	{Requirement{ID: "MM-ERROR-002", Level: Must, Op: machinery.OpStop, Needs: []Feature{FeaturePower},
		Rule:   "An error is a *machinery.Error of exactly one kind that names the operation and the machine.",
		Why:    "A sandbox decides by the kind what to do, and its log must say of which machine of fifty.",
		Source: "machinery.Error"}, errorShape},
	{Requirement{ID: "MM-ERROR-003", Level: Should, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower},
		Rule:   "The error for an operation that is not possible in the machine's state carries that state.",
		Why:    "The caller need not ask again, and cannot get another answer.",
		Source: "machinery.Error, Status"}, errorStatus},
}

// operations are the operations on a machine, for rules that hold for all.
func (h *Handle) operations(ctx context.Context, name string) []struct {
	op   machinery.Op
	call func() error
} {
	type operation = struct {
		op   machinery.Op
		call func() error
	}
	ops := []operation{
		{machinery.OpRestoreStart, func() error { return h.restoreStart(ctx, name) }},
		{machinery.OpStop, func() error { return h.stop(ctx, name) }},
		{machinery.OpState, func() error { _, err := h.state(ctx, name); return err }},
	}
	for _, o := range []struct {
		cap  machinery.Capability
		op   machinery.Op
		call func() error
	}{
		{machinery.CapHandlePaused, machinery.OpHandlePaused, func() error { return machinery.HandlePaused(ctx, h.M, name) }},
		{machinery.CapNoRestoreStart, machinery.OpNoRestoreStart, func() error { return machinery.NoRestoreStart(ctx, h.M, name) }},
		{machinery.CapACPIStop, machinery.OpACPIStop, func() error { return machinery.ACPIStop(ctx, h.M, name) }},
		{machinery.CapScreenshot, machinery.OpScreenshot, func() error { _, err := machinery.Screenshot(ctx, h.M, name); return err }},
		{machinery.CapWatch, machinery.OpWatch, func() error { _, err := machinery.Watch(ctx, h.M, name); return err }},
	} {
		if machinery.Supports(h.M, o.cap) {
			ops = append(ops, operation{o.op, func() error { return h.w.call(h.w.Timing.Start, o.op, name, o.call) }})
		}
	}
	return ops
}

func errorUnknown(w *World) {
	h := w.Open(MachineSpec{Name: "win10"}, MachineSpec{Name: "win11"})
	for _, o := range h.operations(w.Ctx, "win12") {
		err := h.returned(o.call())
		when := string(o.op) + " of a machine that does not exist"
		w.Kind(err, machinery.ErrNotFound, "%s", when)
		w.names(err, when, "win12", "win10", "win11")
	}
	_, err := h.State("")
	w.Kind(err, machinery.ErrNotFound, "asking for the state of a machine without a name")
}

func errorShape(w *World) {
	h := w.Open()
	check := func(err error, op machinery.Op, machine string) {
		var e *machinery.Error
		switch {
		case err == nil:
			w.Failf("%s was to fail and returned nil", op)
		case !errors.As(err, &e):
			w.Failf("the error of %s is a %T; want a *machinery.Error: %v", op, err, err)
		case e.Op != op:
			w.Failf("the error of %s says it is of %q: %v", op, e.Op, err)
		case e.Machine != machine:
			w.Failf("the error of %s of %q says it is of %q: %v", op, machine, e.Machine, err)
		}
		if !slices.Contains(machinery.Kinds(), e.Kind) {
			w.Failf("the error of %s is of the kind %v, which is none of the kinds of failure: %v", op, e.Kind, err)
		}
	}
	check(h.Stop("a"), machinery.OpStop, "a")
	_, err := h.State("nobody")
	check(err, machinery.OpState, "nobody")
	h.Restored("a", machinery.StateRunning)
	check(h.RestoreStart("a"), machinery.OpRestoreStart, "a")
}

func errorStatus(w *World) {
	h := w.Open()
	h.Restored("a", machinery.StateRunning)
	var e *machinery.Error
	err := h.RestoreStart("a")
	if !errors.As(err, &e) {
		w.Failf("restoring a running machine: want a *machinery.Error, got %v", err)
	}
	if e.Status.State != machinery.StateRunning {
		w.Failf("the error of restoring a running machine carries the state %s; want running: %v", e.Status, err)
	}
}
