package libvirt

import (
	"context"
	"errors"

	"github.com/machineries/machineries/internal/qcow2"
)

// Flags of DomainRevertToSnapshot (VIR_DOMAIN_SNAPSHOT_REVERT_).
const (
	revertRunning = 1
	revertPaused  = 2
)

// revert makes the domain what it was when the snapshot was taken. A machine that
// is on is ended first, and runs under another id afterwards, as with libvirt 9.0.0.
func (d *Domain) revert(ctx context.Context, s *snapshot, flags uint32) error {
	if s.external {
		return fail(codeConfig, fromQEMU, "revert to external snapshot not supported yet")
	}
	if d.active() {
		gone := d.gone
		if err := d.wait(ctx, gone, d.server.opts.Durations.Stop); err != nil {
			return err
		}
		persistent := d.persistent
		d.persistent = true // it is to come back
		d.stopped(offFromSnapshot, stoppedFromSnapshot)
		d.persistent = persistent
	}
	if s.state == "shutoff" {
		return d.revertOff(ctx, s, flags)
	}
	if d.server.opts.Flavour == Test && s.memory == nil || d.server.opts.Flavour == QEMU && !d.hasDisk(s) {
		return exited("Error: No block device supports snapshots")
	}
	state, err := d.loadSnapshot(s)
	if err != nil {
		return err
	}
	paused := flags&revertPaused != 0 || s.state == "paused" && flags&revertRunning == 0
	err = d.begin(ctx, boot{state: state, paused: paused, took: d.server.opts.Durations.Revert, running: runningFromSnapshot, stopped: pausedFromSnapshot})
	if err != nil {
		return err
	}
	d.current = s
	d.server.lifecycle(d, eventStarted, startedFromSnapshot)
	switch {
	case paused:
		d.server.lifecycle(d, eventSuspended, suspendedFromSnapshot)
	case d.server.opts.Flavour == QEMU:
		d.server.lifecycle(d, eventResumed, resumedFromSnapshot)
	}
	d.definedAgain()
	return nil
}

// hasDisk tells whether any disk is in the snapshot.
func (d *Domain) hasDisk(s *snapshot) bool {
	for _, disk := range diskElements(d.def) {
		if s.holds(disk) {
			return true
		}
	}
	return false
}

// definedAgain is an event that only the QEMU driver has.
func (d *Domain) definedAgain() {
	if d.server.opts.Flavour == QEMU && d.persistent {
		d.server.lifecycle(d, eventDefined, definedFromSnapshot)
	}
}

// loadSnapshot has the disks go back, and returns the machine's memory.
func (d *Domain) loadSnapshot(s *snapshot) ([]byte, error) {
	if d.server.opts.Flavour == Test {
		return s.memory, nil
	}
	var state []byte
	missing := false
	err := d.eachImage(s, d.def, func(im *qcow2.Image, first bool) error {
		if first {
			b, err := im.SnapshotState(s.name)
			if missing = errors.Is(err, qcow2.ErrNoSnapshot); missing || err != nil {
				return err
			}
			state = b
		}
		err := im.ApplySnapshot(s.name)
		missing = missing || errors.Is(err, qcow2.ErrNoSnapshot)
		return err
	})
	switch {
	case missing:
		return nil, exited("Error: Device 'libvirt-1-format' does not have the requested snapshot '%s'", s.name)
	case err != nil:
		return nil, err
	}
	return d.openMemory(state, d.def)
}

// revertOff goes back to a snapshot of a machine that was off, and starts it
// where flags say so.
func (d *Domain) revertOff(ctx context.Context, s *snapshot, flags uint32) error {
	if d.server.opts.Flavour == QEMU {
		if err := d.eachImage(s, d.def, func(im *qcow2.Image, _ bool) error { return im.ApplySnapshot(s.name) }); err != nil {
			return err
		}
	}
	d.current = s // a machine that was off before keeps the reason for that
	if flags&(revertRunning|revertPaused) == 0 {
		d.definedAgain()
		return nil
	}
	if d.server.opts.Flavour == Test {
		// It says so and does not do it, seen on libvirt 9.0.0.
		d.server.lifecycle(d, eventStarted, startedFromSnapshot)
		return nil
	}
	paused := flags&revertPaused != 0
	if err := d.begin(ctx, boot{paused: paused, took: d.server.opts.Durations.Revert, running: runningBooted, stopped: pausedUser}); err != nil {
		return err
	}
	if !paused {
		d.server.lifecycle(d, eventResumed, resumedUnpaused)
	}
	d.server.lifecycle(d, eventStarted, startedFromSnapshot)
	if paused {
		d.server.lifecycle(d, eventSuspended, suspendedPaused)
	}
	d.definedAgain()
	return nil
}
