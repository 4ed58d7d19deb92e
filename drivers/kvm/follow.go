//go:build linux

package kvm

import (
	"context"
	"errors"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// patrolEvery is how often libvirt is asked for the states of all machines while this driver holds any, in case an event was lost. It is one question,
// however many there are.
const patrolEvery = 2 * time.Second

// follow hears what libvirt tells of its domains, whoever changes them.
func (d *Machinery) follow() {
	first := true
	for e := range d.client.Watch(d.frame.Life()) {
		switch {
		case e.Err != nil:
			d.hearing.Store(false)
			d.log.Debug("libvirt cannot be heard", "error", e.Err)
			fallthrough
		case e.Lost:
			d.hearing.Store(e.Err == nil)
			// What was not looked at before libvirt was first heard has no changes that were missed.
			if !first || d.early.Load() {
				for _, v := range d.frame.All() {
					v.changed(true)
				}
			}
			if first {
				first = false
				close(d.heard)
			}
			d.look()
			continue
		}
		v := d.byLabel[e.Domain.Name]
		if v == nil {
			continue
		}
		switch e.Event {
		case libvirt.DomainEventDefined, libvirt.DomainEventUndefined:
			if dom := v.dom.Load(); dom != nil && (e.Event == libvirt.DomainEventUndefined || dom.UUID != e.Domain.UUID) {
				v.dom.CompareAndSwap(dom, nil) // it is looked for by its name when it is needed
			}
		case libvirt.DomainEventStopped, libvirt.DomainEventCrashed:
			if v.idleHold() {
				d.frame.Go(v.wentOff)
			}
		}
		v.changed(false)
	}
}

// look has the patrol look at the machines now.
func (d *Machinery) look() {
	select {
	case d.lookNow <- struct{}{}:
	default:
	}
}

// patrol sees to machines that this driver holds and that went off by themselves, or that a dump left standing still.
func (d *Machinery) patrol() {
	ticker := time.NewTicker(patrolEvery)
	defer ticker.Stop()
	for {
		select {
		case <-d.frame.Closed():
			return
		case <-ticker.C:
		case <-d.lookNow:
		}
		if !d.holdsAny() {
			continue
		}
		ctx, cancel := context.WithTimeout(d.frame.Life(), d.config.CallTimeout)
		all, err := d.allStates(ctx)
		cancel()
		if err != nil {
			d.log.Debug("the machines could not be looked after", "error", err)
			continue
		}
		for _, v := range d.frame.All() {
			dom, there := all[v.conf.Label]
			switch state := libvirt.DomainState(dom.state); {
			case !v.idleHold():
			case !there || state == libvirt.DomainShutoff:
				d.frame.Go(v.wentOff)
			case state == libvirt.DomainPaused && libvirt.DomainPausedReason(dom.reason) == libvirt.DomainPausedDump:
				d.frame.Go(v.stoodStill)
			}
		}
	}
}

// holdsAny is whether this driver holds a machine.
func (d *Machinery) holdsAny() bool {
	for _, v := range d.frame.All() {
		if v.idleHold() {
			return true
		}
	}
	return false
}

// idleHold is whether this driver holds the machine and is not just changing it.
func (v *vm) idleHold() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hold != nil && v.doing == ""
}

// wentOff clears up after a machine that this driver holds and that is off without having been stopped.
func (v *vm) wentOff() {
	t, err := v.turns.Take(v.d.frame.Life(), "")
	if err != nil {
		return // closing, which clears up too
	}
	defer t.Done()
	if v.hold == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), v.d.config.CallTimeout)
	defer cancel()
	state, reason, err := v.ask(ctx)
	_, gone := errors.AsType[*noDomain](err)
	if !gone && (err != nil || libvirt.DomainState(state) != libvirt.DomainShutoff) {
		return
	}
	why := "its domain is gone"
	if !gone {
		status, _ := statusOf(state, reason)
		why = status.Reason
	}
	v.log.Info("the machine went off", "reason", why)
	if err := v.clear(); err != nil {
		v.log.Warn("something of the machine's run is not as it should be", "error", err)
	}
}

// stoodStill resumes a machine that this driver holds and that stands still for a dump that nobody is at any more. A libvirtd that is restarted
// in the midst of a dump gives the dump up and resumes the machine, but tries that once: QEMU refuses while it writes on, "There is a dump in
// process, please wait.", and then the machine stays paused (seen on libvirt 9.0.0). The patrol comes again.
func (v *vm) stoodStill() {
	t, err := v.turns.Take(v.d.frame.Life(), "")
	if err != nil {
		return // closing
	}
	defer t.Done()
	if v.hold == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), v.d.config.CallTimeout)
	defer cancel()
	resumed := false
	err = v.do(ctx, "resuming the machine that a dump left paused", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
		state, reason, err := l.DomainGetState(dom, 0)
		if err != nil || libvirt.DomainState(state) != libvirt.DomainPaused || libvirt.DomainPausedReason(reason) != libvirt.DomainPausedDump {
			return err
		}
		// Somebody may be dumping it: libvirt resumes it then. This is asked last, for who dumps pauses the machine after the job has begun.
		job, _, _, _, _, _, _, _, _, _, _, _, err := l.DomainGetJobInfo(dom)
		if err != nil || libvirt.DomainJobType(job) != libvirt.DomainJobNone {
			return err
		}
		err = l.DomainResume(dom)
		resumed = err == nil
		return err
	})
	switch {
	case resumed:
		v.log.Info("the machine was resumed, which a dump had left paused")
	case err != nil:
		v.log.Debug("the machine stands still for a dump that is over", "error", err)
	}
}
