//go:build linux

package kvm

import (
	"context"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
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
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "the machine cannot be resumed: it is in state %s")
	case status.State != machinery.StatePaused || status.Reason != reasonFromSnapshot:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s; only one that its snapshot left paused can be resumed")
	}
	err = rpc.RetryLocked(ctx, func() error {
		return v.do(ctx, "resuming the machine", func(l *libvirt.Libvirt, dom libvirt.Domain) error { return l.DomainResume(dom) })
	})
	if err != nil {
		return v.refused(ctx, op, err, "resuming the machine")
	}
	state, reason, err := v.ask(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "asking for the machine's state after it was resumed")
	}
	if libvirt.DomainState(state) == libvirt.DomainPaused {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, nil, "libvirt took the call to resume the machine, but says that it is %s", inWords(state, reason))
	}
	return nil
}
