//go:build linux

package qemu

import (
	"context"
	"errors"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// ACPIStop presses the machine's power button and returns when QEMU has taken that. QEMU cannot tell whether the guest has seen it
// or will obey, so State goes on to say running until the guest switches itself off. Besides a machine that is paused, one that is
// in the error state is refused, as its guest cannot be expected to answer; use Stop. The error is ErrConnection if QEMU does not
// answer, and the button may have been pressed all the same then.
func (d *Machinery) ACPIStop(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpACPIStop, name, (*vm).acpiStop)
}

// acpiStop is ACPIStop for whoever has the turn.
func (v *vm) acpiStop(ctx context.Context) (err error) {
	const op = machinery.OpACPIStop
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch {
	case status.State == machinery.StatePoweroff:
		return v.wrongState(op, machinery.ErrStateReached, status, "the machine is off already (%s)")
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "the power button cannot be pressed: the machine is in state %s")
	case status.State != machinery.StateRunning && status.State != machinery.StateSuspended || v.run == nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s; only the power button of a running one can be pressed")
	}
	r := v.run
	m, err := r.master(ctx)
	if err == nil {
		err = m.Execute(ctx, "system_powerdown", nil, nil)
	}
	if refused, is := errors.AsType[*monitor.CommandError](err); is {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, refused, "QEMU does not press the power button")
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, monitor.ErrDisconnected) && r.proc.Wait(exitTime):
		return nil // it went off meanwhile: by the button, or it would have in a moment
	case ctx.Err() != nil:
		return fault.Interrupted(op, v.machine.Name, ctx, "pressing the power button")
	}
	return fault.Fail(op, v.machine.Name, machinery.ErrConnection, err, "the power button cannot be pressed")
}
