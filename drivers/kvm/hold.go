//go:build linux

package kvm

import (
	"context"
	"encoding/hex"
	"errors"
	"path/filepath"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
)

// hold is this driver's right to change a machine: the lock in its runtime directory, and what the ledger there says. libvirt itself
// keeps two from changing a domain in the same moment; this keeps two drivers from having the same machine for their own.
type hold struct {
	*rundir.Hold
	ledger ledger
	// mine is whether the run was begun by this driver, or taken over while it went on.
	mine bool
}

// dirPrefix is what the names of runtime directories of this driver begin with, in a directory that other drivers use too.
const dirPrefix = "libvirt-"

// dirOf is the runtime directory of a domain. Its UUID is the same by whichever connection it is reached, and by whatever name it goes
// in which configuration.
func (d *Machinery) dirOf(uuid libvirt.UUID) string {
	return filepath.Join(d.runtimeDir, dirPrefix+hex.EncodeToString(uuid[:]))
}

// take makes the machine this driver's own, if it is not yet. The error is ErrBusy if another driver has it. Whoever has the turn
// calls it.
func (v *vm) take(ctx context.Context, op machinery.Op) error {
	if v.hold != nil {
		return nil
	}
	dom, _, err := v.domain(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "looking for the machine's domain")
	}
	h, err := rundir.Acquire(v.d.dirOf(dom.UUID))
	if busy, is := errors.AsType[*rundir.HeldError](err); is {
		return fault.Fail(op, v.machine.Name, machinery.ErrBusy, nil, "%v; its operations can be used again when that driver has stopped it or was closed", busy)
	}
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the machine's runtime directory %s cannot be used", v.d.dirOf(dom.UUID))
	}
	l, err := readLedger(h.Path)
	if err != nil {
		h.Unlock()
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "it cannot be told what an earlier run of the machine left")
	}
	mine := &hold{Hold: h, mine: l == nil}
	if l != nil {
		mine.ledger = *l
	}
	mine.ledger.Machine, mine.ledger.Label, mine.ledger.URI = v.machine.Name, v.conf.Label, v.d.config.URI
	v.set(func() { v.hold = mine })
	if c := mine.ledger.Capture; c != nil {
		v.keepBound(mine, c)
	}
	return nil
}

// note changes the ledger, in memory and on disk. Whoever has the turn calls it.
func (v *vm) note(change func(*ledger)) error {
	v.mu.Lock()
	change(&v.hold.ledger)
	v.mu.Unlock()
	return v.hold.write()
}

// letGo lets go of a machine that runs on. Whoever has the turn calls it.
func (v *vm) letGo() {
	h := v.hold
	if h == nil {
		return
	}
	if h.ledger.empty() {
		if err := h.Remove(ledgerFile, ledgerFile+".new"); err != nil {
			v.log.Warn("the machine's runtime directory could not be removed", "error", err)
		}
	} else {
		if c := h.ledger.Capture; c != nil {
			c.Tool.Release()
		}
		h.Unlock()
	}
	v.set(func() { v.hold = nil })
}

// clear removes what belonged to a run that is over, and lets go of the machine. Whoever has the turn calls it.
func (v *vm) clear() error {
	h := v.hold
	if h == nil {
		return nil
	}
	v.lost = v.finishCapture()
	left := disposable.RemoveAll(h.ledger.Overlays)
	if left == nil {
		left = h.Remove(ledgerFile, ledgerFile+".new")
	} else {
		left = errors.Join(left, h.write())
		h.Unlock()
	}
	v.set(func() { v.hold = nil })
	return errors.Join(v.lost, left)
}

// takeOver makes a machine that runs and that nobody holds this driver's own, and returns its status. leave has to be called with the
// operation's error: a machine that the operation could not be done on is left as it was found. Whoever has the turn calls
// takeOver.
func (v *vm) takeOver(ctx context.Context, op machinery.Op) (status machinery.Status, leave func(error), err error) {
	leave = func(error) {}
	if status, err = v.state(ctx); err != nil {
		return status, leave, fault.Fail(op, v.machine.Name, machinery.KindOf(err), err, "the operation cannot be done without knowing the machine's state")
	}
	if v.hold != nil || off(status) {
		return status, leave, nil
	}
	if err := v.take(ctx, op); err != nil {
		return status, leave, err
	}
	v.hold.mine = true
	return status, func(err error) {
		if err != nil {
			v.letGo()
		}
	}, nil
}

// off is whether nothing of the machine runs.
func off(s machinery.Status) bool {
	return s.State == machinery.StatePoweroff || s.Reason == reasonStartFailed || s.Reason == reasonConfig || s.Reason == reasonNoDomain
}
