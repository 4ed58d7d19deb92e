//go:build linux

package qemu

import (
	"context"
	"time"

	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// How often a watched machine is asked for its state though nothing was heard of it.
const (
	// watchHeld is for a machine that this driver holds. QEMU tells of its changes; that it does not answer any more, it cannot.
	watchHeld = time.Second
	// watchOthers is for a machine that this driver does not hold: another may start it, run it and stop it. What is asked
	// then is a directory and, while the machine runs, QEMU's second monitor.
	watchOthers = 100 * time.Millisecond
)

// changed tells those who watch the machine that its state may be another. gap says that QEMU told something that was lost.
func (v *vm) changed(gap bool) { v.watches.Changed(gap) }

// Watch sends the machine's present status and then each one whose state or reason differs from the last. For a machine that this driver holds,
// QEMU's events say when to look, and it is looked at every second besides; one that another process holds, or that is off, is
// looked at ten times a second. A reader that is slow gets the latest status and none of those between.
//
// Gap is set on an event before which changes may have been missed: the reader was slow, events of QEMU were lost, the state could
// not be asked for, or the machine is not held by this driver, so that what lies between two looks is not seen. Changes that
// follow each other within a millisecond, such as the short pause of a small memory dump, may be merged without that sign.
func (d *Machinery) Watch(ctx context.Context, name string) (<-chan machinery.Event, error) {
	return d.frame.Watch(ctx, name, func(v *vm) watching.Source {
		return watching.Source{Status: v.state, Followed: v.holds, FollowedEvery: watchHeld, OtherwiseEvery: watchOthers}
	})
}

// holds is whether this driver holds the machine, or is about to.
func (v *vm) holds() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.run != nil || v.doing != ""
}
