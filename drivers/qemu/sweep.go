//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
)

// Sweep removes what is left of a run that Account has listed. Everything is looked at again with the machine's lock held, so that
// what a driver has taken since is ErrBusy and stays as it is. With end a QEMU that runs and that nobody holds is ended as by Stop.
func (d *Machinery) Sweep(ctx context.Context, id string, end bool) error {
	if err := d.frame.Begin(ctx, machinery.OpSweep); err != nil {
		return err
	}
	dir := filepath.Join(d.runtimeDir, id)
	var v *vm
	for _, own := range d.frame.All() {
		if own.dir == dir {
			v = own
		}
	}
	if v == nil {
		if !keyed.MatchString(id) || !hostfile.IsThere(dir) {
			return fault.Fail(machinery.OpSweep, id, machinery.ErrNotFound, nil, "there is no run of this id below %s", d.runtimeDir)
		}
		v = d.foundVM(dir)
	}
	t, err := v.turns.Take(ctx, machinery.OpSweep)
	if err != nil {
		return fault.NotMyTurn(machinery.OpSweep, v.machine.Name, ctx, err)
	}
	defer t.Done()
	return v.sweep(t.Context(), end)
}

// sweep is Sweep for whoever has the turn.
func (v *vm) sweep(ctx context.Context, end bool) error {
	const op = machinery.OpSweep
	refuse := func(kind, err error, format string, args ...any) error {
		return fault.Fail(op, v.machine.Name, kind, err, format, args...)
	}
	if v.run != nil {
		return refuse(machinery.ErrBusy, nil, "this driver holds the machine; stop it instead")
	}
	if v.untouched() {
		orphans, why := v.orphans()
		switch {
		case len(orphans) == 0:
			return refuse(machinery.ErrNotFound, nil, "nothing is left of a run of the machine")
		case why != "":
			return refuse(machinery.ErrBusy, nil, "the disposable disk %s is left alone: %s", orphans[0], why)
		}
		for _, path := range orphans {
			if err := v.sweepOrphan(path); err != nil {
				return err
			}
		}
		return nil
	}
	h, err := acquire(v.dir)
	if err != nil {
		if busy, is := errors.AsType[*rundir.HeldError](err); is {
			return refuse(machinery.ErrBusy, nil, "%v", busy)
		}
		return refuse(machinery.ErrConfig, err, "the machine's runtime directory %s cannot be used", v.dir)
	}
	l, err := readLedger(v.dir)
	if err != nil {
		if why := whyNotOurs(v.dir); why != "" {
			h.Unlock()
			return refuse(machinery.ErrUnexpectedState, err, "%s is left alone: %s", v.dir, why)
		}
		v.log.Info("removing a runtime directory whose ledger cannot be understood", "dir", v.dir, "error", err)
		return v.removed(h, nil)
	}
	if l == nil {
		return v.removed(h, nil)
	}
	p, err := l.process()
	switch {
	case errors.Is(err, os.ErrProcessDone):
		v.log.Info("clearing what an earlier run left", "pid", l.PID, "owner", l.Owner)
		if err := l.clear(); err != nil {
			h.Unlock() // the ledger stays, to try again
			return refuse(machinery.ErrHypervisor, err, "something is left")
		}
		err = nil
		if used := present(l.Overlays); len(used) > 0 {
			err = fmt.Errorf("the disposable disk %s is in use, by a QEMU that this driver does not know; it is left alone", used[0])
		}
		return v.removed(h, err)
	case err != nil:
		h.Unlock()
		return refuse(machinery.ErrHypervisor, err, "it cannot be told whether the machine's QEMU runs")
	}
	pid := p.PID
	p.Release()
	h.Unlock()
	if !end {
		return refuse(machinery.ErrUnexpectedState, nil, "the machine runs (process %d), and nobody holds it; it is ended only on request", pid)
	}
	if err := v.adopt(ctx, op); err != nil {
		if errors.Is(err, errNothingLeft) {
			return nil // it went off meanwhile
		}
		return err
	}
	err = v.endRun(ctx, op)
	v.detach() // from one that does not end
	return err
}

// removed takes the runtime directory away; err is what went wrong before.
func (v *vm) removed(h *hold, err error) error {
	err = errors.Join(err, h.remove())
	if _, is := rundir.Held(v.dir); err == nil && !is && hostfile.IsThere(v.dir) {
		err = fmt.Errorf("%s has files that are not this driver's", v.dir)
	}
	if err != nil {
		return fault.Fail(machinery.OpSweep, v.machine.Name, machinery.ErrHypervisor, err, "something could not be removed")
	}
	return nil
}

// sweepOrphan removes a disposable disk of the machine, of which no run tells. Until it is gone it is locked as one that is being made.
func (v *vm) sweepOrphan(path string) error {
	image, err := disposable.Take(path)
	if errors.Is(err, disposable.ErrInUse) {
		return fault.Fail(machinery.OpSweep, v.machine.Name, machinery.ErrBusy, nil, "the disposable disk %s is left alone: something has begun to use it", path)
	}
	if image != nil {
		defer disposable.Release(image)
	}
	if err := disposable.Remove(path); err != nil {
		return fault.Fail(machinery.OpSweep, v.machine.Name, machinery.ErrHypervisor, err, "the disposable disk cannot be removed")
	}
	return nil
}
