//go:build linux

package kvm

import (
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// errIsOff says that there was nothing to destroy.
var errIsOff = errors.New("the domain is not running")

// stop is Stop for whoever has the turn. cancelled is whether a start was ended for it: then the machine was not off.
func (v *vm) stop(ctx context.Context, cancelled bool) error {
	const op = machinery.OpStop
	failed := v.failed != nil
	if err := v.take(ctx, op); err != nil {
		return err
	}
	v.set(func() { v.failed = nil })
	err := v.endRun(ctx, op)
	switch {
	case err == nil, !errors.Is(err, errIsOff):
		return err
	case failed, cancelled:
		return nil
	case v.bad != nil:
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, v.bad, "the machine cannot be used")
	}
	e := fault.Fail(op, v.machine.Name, machinery.ErrStateReached, nil, "the machine is off already")
	e.Status = machinery.Status{State: machinery.StatePoweroff}
	return e
}

// endRun ends the machine and lets go of it. Whoever has the turn calls it. The error is errIsOff if it was off already.
func (v *vm) endRun(ctx context.Context, op machinery.Op) error {
	// A stop that has begun is not given up: a caller whose context ends gets it all the same.
	outer := context.WithoutCancel(ctx)
	ctx, cancel := context.WithTimeout(outer, v.d.config.StopTimeout)
	defer cancel()
	v.set(func() { v.doing = phaseStopping })
	defer v.set(func() { v.doing = "" })
	err := v.destroy(ctx)
	if err != nil && !errors.Is(err, errIsOff) {
		return v.refused(outer, op, err, "ending the machine")
	}
	if err == nil && v.hold != nil {
		v.hold.mine = true // its run went on until now
	}
	left := v.clear()
	if v.lost != nil {
		v.lost = nil // it is told here
		return fault.Fail(op, v.machine.Name, machinery.ErrCapture, left, "the machine is off")
	}
	if left != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, left, "the machine is off, but something of its run could not be removed")
	}
	return err
}

// destroy has libvirt end the domain, and returns when it is off. The error is errIsOff if it was off already.
func (v *vm) destroy(ctx context.Context) error {
	// A call that is made again after its connection broke finds off what it has ended itself.
	before, _, known := v.ask(ctx)
	on := known == nil && libvirt.DomainState(before) != libvirt.DomainShutoff
	err := rpc.RetryLocked(ctx, func() error {
		return v.doLong(ctx, "destroying the domain", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
			return l.DomainDestroyFlags(dom, 0)
		})
	})
	if err == nil {
		return nil
	}
	// It may be off for another reason, and a connection that broke says nothing about it.
	state, _, asked := v.ask(ctx)
	switch {
	case asked != nil:
		return err
	case libvirt.DomainState(state) != libvirt.DomainShutoff:
		return err
	case rpc.IsCode(err, libvirt.ErrOperationInvalid) && !on:
		return errIsOff
	}
	return nil
}
