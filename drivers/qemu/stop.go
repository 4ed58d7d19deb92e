//go:build linux

package qemu

import (
	"context"
	"errors"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// stop is Stop for whoever has the turn. cancelled is whether a start was ended for it: then the machine was not off.
func (v *vm) stop(ctx context.Context, cancelled bool) error {
	const op = machinery.OpStop
	failed := v.failed != nil
	v.set(func() { v.failed = nil })
	if v.run == nil && !v.untouched() {
		if err := v.adopt(ctx, op); err != nil && !errors.Is(err, errNothingLeft) {
			return err
		}
	}
	if r := v.run; r != nil {
		if !r.proc.Over() {
			return v.endRun(ctx, op)
		}
		v.wentOff(r)
	}
	switch {
	case failed, cancelled:
		return nil
	case v.problem() != nil:
		return fault.Fail(op, v.machine.Name, v.badKind, v.problem(), "the machine cannot be used")
	}
	e := fault.Fail(op, v.machine.Name, machinery.ErrStateReached, nil, "the machine is off already")
	e.Status = machinery.Status{State: machinery.StatePoweroff}
	return e
}

// endRun ends the machine's QEMU, if there is one, and removes what belongs to it. Whoever has the turn calls it.
func (v *vm) endRun(ctx context.Context, op machinery.Op) error {
	r := v.run
	if r == nil {
		return nil
	}
	v.set(func() { v.doing = phaseStopping })
	defer v.set(func() { v.doing = "" })
	if err := r.note(func(l *ledger) { l.Phase = phaseStopping }); err != nil {
		v.log.Debug("the stop is not in the ledger", "error", err) // as on a full disk; the machine goes off all the same
	}
	if !r.quit(ctx) {
		r.proc.Kill()
	}
	if !r.proc.Wait(cleanupTime) {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, nil,
			"QEMU (process %d) does not end even when it is killed: it waits in the kernel, perhaps for a disk or a network file system that does not answer", r.proc.PID)
	}
	err := v.clear(r)
	v.set(func() { v.run, v.last = nil, "" })
	if _, lost := errors.AsType[*captureLost](err); lost {
		v.lost = nil // it is told here
		return fault.Fail(op, v.machine.Name, machinery.ErrCapture, err, "the machine is off")
	}
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the machine is off, but something of its run could not be removed")
	}
	return nil
}

// quit tells QEMU to end and waits for that, as long as it is given; false if it has to be killed.
func (r *run) quit(ctx context.Context) bool {
	m := r.monitor()
	if m == nil || m.Err() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, r.v.d.config.QuitTimeout)
	defer cancel()
	// A QEMU that ends may close the connection before it has answered.
	if err := m.Execute(ctx, "quit", nil, nil); err != nil && !errors.Is(err, monitor.ErrDisconnected) {
		return false
	}
	select {
	case <-r.proc.Gone:
		return true
	case <-ctx.Done():
		return false
	}
}
