//go:build linux

package kvm

import (
	"context"
	"errors"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// stateTime is how long State waits for libvirt, which answers in less than a millisecond unless something is wrong. libvirt 9.0.0
// keeps the question waiting for 0.2 s while somebody destroys the domain.
const stateTime = 2 * time.Second

// whatItDoes is the status of a machine that an operation of this driver is changing, of which libvirt knows less.
func (v *vm) whatItDoes() (status machinery.Status, does bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.doing == phaseStarting && v.booting:
		return machinery.Status{State: machinery.StateStarting, Reason: reasonBooting}, true
	case v.doing == phaseStarting:
		return machinery.Status{State: machinery.StateStarting, Reason: reasonLoading}, true
	case v.doing == phaseStopping:
		return machinery.Status{State: machinery.StateStopping}, true
	}
	return status, false
}

// state is State. It needs no turn.
func (v *vm) state(ctx context.Context) (machinery.Status, error) {
	if status, does := v.whatItDoes(); does {
		return status, nil
	}
	outer := ctx
	ctx, cancel := stateContext(outer)
	defer cancel()
	state, reason, err := v.ask(ctx)
	if gone, is := errors.AsType[*noDomain](err); is {
		return v.offAs(statusGone(gone), nil, nil), nil
	}
	var status machinery.Status
	if err == nil {
		if status, err = statusOf(state, reason); err != nil {
			return machinery.Status{}, fault.Fail(machinery.OpState, v.machine.Name, machinery.ErrUnhandledState, err, "the machine's state has no meaning here")
		}
	}
	if err != nil {
		return machinery.Status{}, v.refused(outer, machinery.OpState, err, "asking for the machine's state")
	}
	v.mu.Lock()
	doing, failed := v.doing, v.failed
	v.mu.Unlock()
	switch {
	case status.State == machinery.StatePoweroff:
		return v.stateOff(ctx, status, failed), nil
	case doing == "" && (status.State == machinery.StateRunning || status.State == machinery.StateSuspended || status.Reason == reasonFromSnapshot):
		return v.ifAlive(ctx, status)
	}
	return status, nil
}

// stateOff is the status of a machine that is off: what is wrong with it goes before that.
func (v *vm) stateOff(ctx context.Context, status machinery.Status, failed error) machinery.Status {
	if v.bad != nil || failed != nil {
		return v.offAs(status, failed, nil)
	}
	return v.offAs(status, nil, v.checkSaved(ctx))
}

// offAs is the status of a machine that is off, and whose last start failed, or that cannot be restored.
func (v *vm) offAs(status machinery.Status, failed, unsaved error) machinery.Status {
	switch {
	case v.bad != nil:
		return machinery.Status{State: machinery.StateError, Reason: reasonConfig, Detail: v.bad.Error()}
	case failed != nil:
		return machinery.Status{State: machinery.StateError, Reason: reasonStartFailed, Detail: failed.Error()}
	case unsaved != nil:
		return machinery.Status{State: machinery.StateError, Reason: reasonConfig, Detail: unsaved.Error()}
	}
	return status
}

// statusGone is the status of a machine that libvirt has no domain of.
func statusGone(gone *noDomain) machinery.Status {
	return machinery.Status{State: machinery.StateError, Reason: reasonNoDomain, Detail: gone.Error()}
}

// checkSaved is what keeps the machine from being restored, as far as is known of what it is restored from. What was right is not looked
// at again, because the restore does: State of a machine that is off takes one question to libvirt. What was wrong is.
func (v *vm) checkSaved(ctx context.Context) error {
	v.snapshotMu.Lock()
	known := v.looked && v.unsaved == nil
	v.snapshotMu.Unlock()
	if known {
		return nil
	}
	var err error
	if v.conf.Memory != "" {
		_, _, _, err = v.openImage(ctx)
	} else {
		_, err = v.findSnapshot(ctx)
	}
	if _, is := errors.AsType[*unusable](err); err != nil && !is {
		return nil // that libvirt does not answer is no fault of the machine
	}
	err = v.whoMayNot(ctx, err)
	v.snapshotMu.Lock()
	defer v.snapshotMu.Unlock()
	v.looked, v.unsaved = true, err
	return err
}

// ask asks libvirt for the domain's state and the reason for it.
func (v *vm) ask(ctx context.Context) (state, reason int32, err error) {
	err = v.call(ctx, func(dom libvirt.Domain) (err error) {
		state, reason, err = v.d.client.State(ctx, "asking for the state", dom)
		return err
	})
	return state, reason, err
}

// stateContext bounds a question to libvirt, so that there is an answer before the caller's own time is over.
func stateContext(ctx context.Context) (context.Context, context.CancelFunc) {
	atMost := stateTime
	if deadline, has := ctx.Deadline(); has {
		atMost = min(atMost, time.Until(deadline)*3/4)
	}
	return context.WithTimeout(ctx, atMost)
}
