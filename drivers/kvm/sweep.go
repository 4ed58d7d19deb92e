//go:build linux

package kvm

import (
	"cmp"
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/machinery"
)

// Sweep removes what is left of a run that Account has listed: disposable disks and recordings that were not ended. Everything is looked at again
// with the machine's lock held, so that what a driver has taken since is ErrBusy and stays as it is. With end a machine that
// runs and that nobody holds is ended as by Stop.
func (d *Machinery) Sweep(ctx context.Context, id string, end bool) error {
	const op = machinery.OpSweep
	if err := d.frame.Begin(ctx, op); err != nil {
		return err
	}
	uuid, is := uuidOfDir(id)
	if !is {
		return fault.Fail(op, id, machinery.ErrNotFound, nil, "there is no run of this id below %s", d.runtimeDir)
	}
	v := d.foundVM(uuid)
	for _, own := range d.frame.All() {
		if dom := own.dom.Load(); dom != nil && dom.UUID == uuid {
			v = own
		}
	}
	t, err := v.turns.Take(ctx, op)
	if err != nil {
		return fault.NotMyTurn(op, v.machine.Name, ctx, err)
	}
	defer t.Done()
	return v.sweep(t.Context(), end)
}

// sweep is Sweep for whoever has the turn.
func (v *vm) sweep(ctx context.Context, end bool) error {
	const op = machinery.OpSweep
	if v.hold != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrBusy, nil, "this driver holds the machine; stop it instead")
	}
	dom, _, err := v.domain(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "looking for the machine's domain")
	}
	if !hostfile.IsThere(v.d.dirOf(dom.UUID)) {
		if _, runs, err := v.standing(ctx, op); err != nil || !runs {
			return cmp.Or[error](err, fault.Fail(op, v.machine.Name, machinery.ErrNotFound, nil, "nothing is left of a run of the machine"))
		}
	}
	if err := v.take(ctx, op); err != nil {
		return err
	}
	// Only now: another driver may have had it until this one took it.
	words, runs, err := v.standing(ctx, op)
	if err == nil && runs && !end {
		err = fault.Fail(op, v.machine.Name, machinery.ErrUnexpectedState, nil, "the machine is %s, and nobody holds it; it is ended only on request", words)
	}
	if err != nil {
		v.letGo()
		return err
	}
	if runs {
		if err := v.endRun(ctx, op); err != nil && !errors.Is(err, errIsOff) {
			v.letGo()
			return err
		}
		return nil
	}
	if err := v.clear(); err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "something could not be removed")
	}
	return nil
}

// standing is whether the machine's domain runs, and its state in libvirt's words. One that is gone does not.
func (v *vm) standing(ctx context.Context, op machinery.Op) (words string, runs bool, err error) {
	state, reason, err := v.ask(ctx)
	if _, gone := errors.AsType[*noDomain](err); gone {
		return "gone", false, nil
	}
	if err != nil {
		return "", false, v.refused(ctx, op, err, "asking for the machine's state")
	}
	return inWords(state, reason), libvirt.DomainState(state) != libvirt.DomainShutoff, nil
}
