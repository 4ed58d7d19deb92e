//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/machinery"
)

// What becomes of a machine that was not saved to the end, because that failed or because its driver was killed.

// saved is whether the machine's driver died while it was being saved, so that it stands still for that.
func (l *ledger) saved() bool {
	return len(l.Saving) > 0 && (l.Phase == phaseSaving || l.Phase == phaseStopping)
}

// unsave makes the machine what it was before its memory was written. QEMU lets a guest go on by itself that it has stopped for the
// last part, unless all was written; then cont does it, which takes the disks into use again too (seen on QEMU 7.2.22).
func (r *run) unsave(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), turns.ErrStopped) || r.proc.Over() {
		return nil // it is about to be ended
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	m, err := r.master(ctx)
	if err != nil {
		return err
	}
	if err := m.Execute(ctx, "migrate_cancel", nil, nil); err != nil {
		return err
	}
	for {
		g, err := queryMigrate(ctx, m)
		if err != nil {
			return err
		}
		if g.Status == "" || g.Status == "completed" || g.Status == "failed" || g.Status == "cancelled" {
			break
		}
		select {
		case <-time.After(saveAsk):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if r.standing() != "" {
		// It stands still, as before, if for another reason in QEMU's words: its memory was complete, or it never was begun.
		state, err := queryStatus(ctx, m)
		if err == nil {
			err = r.note(func(l *ledger) { l.Standing = state })
		}
		return err
	}
	for {
		state, err := queryStatus(ctx, m)
		switch {
		case err != nil || state == "running":
			return err
		case state != "finish-migrate": // which QEMU leaves by itself, a moment after it has said "failed"
			return m.Execute(ctx, "cont", nil, nil)
		}
		select {
		case <-time.After(resumeAsk):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// clearSaving removes what a SaveSnapshot has made whose driver is dead.
func (l *ledger) clearSaving() error {
	for _, dir := range l.Saving {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("what an earlier driver saved of the machine in part cannot be removed: %w", err)
		}
	}
	l.Saving = nil
	return nil
}

// standsSaved is the status of a machine whose driver died while it was saved. Who takes it over lets it go on.
var standsSaved = machinery.Status{State: machinery.StatePaused, Reason: reasonSaving, Detail: "its driver ended while it saved the machine; it goes on when another one takes it over"}
