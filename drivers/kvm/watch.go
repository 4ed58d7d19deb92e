//go:build linux

package kvm

import (
	"context"
	"time"

	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// How often a watched machine is asked for its state though nothing was heard of it.
const (
	// watchFollowed is while libvirt's events arrive. They tell of changes, whoever makes them, but not that a QEMU does not answer any
	// more, nor of a domain that is paused for an error on its disk, in every case.
	watchFollowed = time.Second
	// watchBlind is while they do not, as after libvirtd has ended.
	watchBlind = 100 * time.Millisecond
	// watchHeard is how long the first look waits for the events to arrive, which they do some milliseconds after the driver was opened. What is
	// seen before them has a gap after it.
	watchHeard = time.Second
)

// changed tells those who watch the machine that its state may be another. gap says that events were lost.
func (v *vm) changed(gap bool) { v.watches.Changed(gap) }

// Watch sends the machine's present status and then each one whose state or reason differs from the last. libvirt's lifecycle events say when
// to look, whoever changes the machine, and it is looked at every second besides; ten times a second while libvirt cannot be heard. A reader
// that is slow gets the latest status and none of those between.
//
// Gap is set on an event before which changes may have been missed: the reader was slow, events were lost, as with a libvirtd that was restarted,
// or the state could not be asked for. Changes that follow each other within a millisecond may be merged without that sign.
func (d *Machinery) Watch(ctx context.Context, name string) (<-chan machinery.Event, error) {
	return d.frame.Watch(ctx, name, func(v *vm) watching.Source {
		return watching.Source{Status: v.watchedState, Followed: d.hearing.Load, FollowedEvery: watchFollowed, OtherwiseEvery: watchBlind}
	})
}

// watchedState is the state for those who watch the machine, who are not shown it before its changes can be heard of, if that is soon.
func (v *vm) watchedState(ctx context.Context) (machinery.Status, error) {
	if !v.d.early.Load() {
		patience := time.NewTimer(watchHeard)
		defer patience.Stop()
		select {
		case <-v.d.heard:
		case <-patience.C:
			v.d.early.Store(true)
		case <-ctx.Done():
			return machinery.Status{}, ctx.Err()
		}
	}
	return v.state(ctx)
}
