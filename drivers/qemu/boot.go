//go:build linux

package qemu

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// bootAgain is how soon QEMU is asked again whether the machine runs. QEMU 7.2 runs it before it answers its first command, so
// that this is for others.
const bootAgain = 10 * time.Millisecond

// noRestore is NoRestoreStart for whoever has the turn.
func (v *vm) noRestore(ctx context.Context) error { return v.begin(ctx, machinery.OpNoRestoreStart) }

// boot waits until a machine that was started without its snapshot runs.
func (r *run) boot(outer context.Context) error {
	ctx, cancel := context.WithTimeoutCause(outer, r.v.d.config.LoadTimeout, errLoadTimeout)
	defer cancel()
	ctx, gone := context.WithCancelCause(ctx)
	defer gone(nil)
	go func() {
		select {
		case <-r.proc.Gone:
			gone(errProcessGone)
		case <-ctx.Done():
		}
	}()
	if err := r.booted(ctx); err != nil {
		return r.bootError(outer, ctx, err)
	}
	if err := r.note(func(l *ledger) { l.Phase = phaseSettled }); err != nil {
		return fault.Fail(machinery.OpNoRestoreStart, r.v.machine.Name, machinery.ErrHypervisor, err, "the machine was started and is ended again")
	}
	return nil
}

// booted asks until the machine has begun to run. What it does then is its own affair: it may be in trouble already.
func (r *run) booted(ctx context.Context) error {
	m, err := r.master(ctx)
	if err != nil {
		return err
	}
	for {
		state, err := queryStatus(ctx, m)
		if err != nil || state != "prelaunch" && state != "preconfig" {
			return err
		}
		select {
		case <-time.After(bootAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bootError says why the machine did not start. outer is the operation's context, ctx that of the start.
func (r *run) bootError(outer, ctx context.Context, err error) error {
	const op = machinery.OpNoRestoreStart
	name := r.v.machine.Name
	if outer.Err() != nil {
		return fault.Interrupted(op, name, outer, "starting the machine")
	}
	if errors.Is(context.Cause(ctx), errLoadTimeout) {
		return fault.Fail(op, name, machinery.ErrHypervisor, fault.Words(r.proc.Tail()), "the machine did not run after %v and was ended", r.v.d.config.LoadTimeout)
	}
	if r.proc.Wait(time.Second) { // a connection that QEMU closed is most often a process that ends
		said := r.v.withoutSandbox(fault.Words(r.proc.Tail()))
		if said == nil {
			said = errors.New("it said nothing")
		}
		return fault.Fail(op, name, machinery.ErrHypervisor, said, "QEMU ended (%v) while it started the machine", r.howEnded())
	}
	return fault.Fail(op, name, machinery.ErrHypervisor, err, "QEMU did not start the machine")
}
