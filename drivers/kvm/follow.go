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
const patrolEvery = 500 * time.Millisecond

// patrol sees to machines that this driver holds and that went off by themselves.
func (d *Machinery) patrol() {
	ticker := time.NewTicker(patrolEvery)
	defer ticker.Stop()
	for {
		select {
		case <-d.closed:
			return
		case <-ticker.C:
		}
		if !d.holdsAny() {
			continue
		}
		ctx, cancel := context.WithTimeout(d.life, d.config.CallTimeout)
		seen, err := d.allStates(ctx)
		cancel()
		if err != nil {
			d.log.Debug("the machines could not be looked after", "error", err)
			continue
		}
		for _, v := range d.machines {
			both, there := seen[v.conf.Label]
			if (!there || libvirt.DomainState(both[0]) == libvirt.DomainShutoff) && v.idleHold() {
				d.watchers.Go(v.wentOff)
			}
		}
	}
}

// holdsAny is whether this driver holds a machine.
func (d *Machinery) holdsAny() bool {
	for _, v := range d.machines {
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
	t, err := v.turns.Take(v.d.life, "")
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
