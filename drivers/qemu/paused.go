//go:build linux

package qemu

import (
	"context"
	"errors"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// handlePaused is HandlePaused for whoever has the turn.
func (v *vm) handlePaused(ctx context.Context) (err error) {
	const op = machinery.OpHandlePaused
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch {
	case status.State == machinery.StateRunning:
		return v.wrongState(op, machinery.ErrStateReached, status, "the machine is %s already")
	case status.State != machinery.StatePaused || status.Reason != reasonFromSnapshot || v.run == nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s; only one that its snapshot left paused can be resumed")
	}
	return v.run.resume(ctx)
}

// resume lets the machine run.
func (r *run) resume(ctx context.Context) error {
	const op = machinery.OpHandlePaused
	name := r.v.machine.Name
	m, err := r.master(ctx)
	if err == nil {
		err = m.Execute(ctx, "cont", nil, nil)
	}
	if refused, is := errors.AsType[*monitor.CommandError](err); is {
		return fault.Fail(op, name, machinery.ErrHypervisor, refused, "QEMU does not resume the machine")
	}
	state := ""
	if err == nil {
		state, err = queryStatus(ctx, m) // QEMU answers cont when the machine runs
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fault.Interrupted(op, name, ctx, "resuming the machine")
	case err != nil:
		return fault.Fail(op, name, machinery.ErrConnection, err, "the machine cannot be told to go on")
	case state != "running":
		return fault.Fail(op, name, machinery.ErrHypervisor, nil, "QEMU took the command to resume the machine, but its run state is %q", state)
	}
	if r.standing() != "" { // unless the event was quicker
		r.resumed()
	}
	return nil
}
