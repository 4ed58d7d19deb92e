//go:build linux

package qemu

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/machinery"
)

// adoptTime is how long a QEMU that is taken over may take to answer. One that does not is taken over all the same: it can
// still be killed.
const adoptTime = 2 * time.Second

// errNothingLeft says that there was no machine to take over.
var errNothingLeft = errors.New("no earlier run of the machine is left")

// adopt takes over the QEMU that another driver left running. If there is none, what it left is removed and the error
// is errNothingLeft. Whoever has the turn calls it, for a machine that this driver does not hold.
func (v *vm) adopt(ctx context.Context, op machinery.Op) error {
	h, p, l, err := v.claim(op)
	if err != nil {
		return err
	}
	if p == nil {
		if err := h.remove(); err != nil {
			v.log.Warn("the machine's runtime directory cannot be removed", "error", err)
		}
		return errNothingLeft
	}
	wasSaved := l.saved()
	if err := l.clearSaving(); err != nil {
		v.log.Warn("something is left of a snapshot that was being saved", "error", err)
	}
	r := newRun(v, h, *l)
	r.proc = p
	r.dumping = l.Phase.dumping() // until QEMU says that it is done
	atMost := adoptTime
	if op == machinery.OpStop {
		atMost = min(atMost, v.d.config.QuitTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	m, err := r.master(ctx)
	if err != nil {
		v.log.Warn("the machine's monitor does not answer", "pid", p.PID, "error", err)
	} else if l.Phase == phaseStarting && !l.Booted {
		// Its driver ended while it loaded. What it stands in now it has from the snapshot.
		if state, err := queryStatus(ctx, m); err == nil {
			standing, _ := settledAs(state)
			if standing != "" && v.inactive(l.Overlays, "") != "" {
				standing = "" // it stands for want of its disks
			}
			_ = r.note(func(l *ledger) { l.Standing = standing })
		}
	}
	if err == nil && r.dumping {
		r.dumpLeft(ctx, m)
	}
	if err == nil && wasSaved && op != machinery.OpStop {
		if refused := r.unsave(ctx); refused != nil {
			v.log.Warn("the machine does not go on after its driver ended while it saved the machine", "error", refused)
		}
	}
	if err := r.note(func(l *ledger) { l.PID, l.Start, l.Phase = p.PID, p.Start, r.settled() }); err != nil {
		v.log.Debug("the machine's ledger is not up to date", "error", err)
	}
	v.set(func() { v.run = r })
	v.d.frame.Go(func() { v.watch(r) })
	if c := r.ledger.Capture; c != nil {
		v.d.frame.Go(func() { r.boundCapture(c) })
	}
	v.log.Info("took over the running machine", "pid", p.PID, "from", l.Owner)
	return nil
}
