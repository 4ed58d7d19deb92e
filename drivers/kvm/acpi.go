//go:build linux

package kvm

import (
	"context"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// ACPIStop presses the machine's power button and returns when the hypervisor has taken that. The guest agent is never asked: whoever
// controls the guest controls its answer. libvirt cannot tell whether the guest has seen the button or will obey, so State goes on to
// say running until the guest switches itself off. Besides a machine that is paused, one that is in the error state is refused;
// use Stop. The error is ErrConnection if the hypervisor does not answer, and the button may have been pressed all the same then.
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
	case status.State != machinery.StateRunning && status.State != machinery.StateSuspended:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s; only the power button of a running one can be pressed")
	}
	err = rpc.RetryLocked(ctx, func() error {
		return v.do(ctx, "pressing the power button", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
			if v.d.hypervisor != hypervisorQEMU {
				return l.DomainShutdown(dom) // the test driver takes no flags
			}
			return l.DomainShutdownFlags(dom, libvirt.DomainShutdownAcpiPowerBtn)
		})
	})
	if rpc.IsCode(err, libvirt.ErrOperationInvalid) {
		if state, _, asked := v.ask(ctx); asked == nil && libvirt.DomainState(state) == libvirt.DomainShutoff {
			return nil // it went off meanwhile
		}
	}
	if err != nil {
		return v.refused(ctx, op, err, "pressing the power button")
	}
	return nil
}
