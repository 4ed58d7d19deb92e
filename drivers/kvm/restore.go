//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// errLoadTimeout is the cause of the end of a start that took too long.
var errLoadTimeout = errors.New("the time for starting the machine is over")

// destroyAgain is how soon a domain is destroyed again that libvirt is still starting: before it has begun there is nothing to
// destroy yet.
const destroyAgain = 20 * time.Millisecond

// imageGrace is how long libvirt may go on with restoring a memory image that is not wanted any more, before the domain is destroyed under
// it. libvirt 9.0.0 crashes if that happens in the last moments of such a restore (qemuSaveImageStartVM uses a monitor that is gone): so did one in a
// hundred that took 0.5 s each and were ended at any moment, and none of two hundred reverts to snapshots.
const imageGrace = 2 * time.Second

// noRestore is NoRestoreStart for whoever has the turn.
func (v *vm) noRestore(ctx context.Context) error { return v.begin(ctx, machinery.OpNoRestoreStart) }

// restore is RestoreStart for whoever has the turn.
func (v *vm) restore(ctx context.Context) error { return v.begin(ctx, machinery.OpRestoreStart) }

// begin starts the machine, from its snapshot or, for NoRestoreStart, by booting it.
func (v *vm) begin(ctx context.Context, op machinery.Op) error {
	held := v.hold != nil
	if err := v.take(ctx, op); err != nil {
		return err
	}
	if err := v.mustBeOff(ctx, op); err != nil {
		if !held {
			v.letGo()
		}
		return err
	}
	// What is left of a run that is over, by this driver or another, goes before the next begins.
	if !v.hold.ledger.empty() {
		if err := v.clear(); err != nil {
			v.log.Warn("something of an earlier run is not as it should be", "error", err)
		}
		if err := v.take(ctx, op); err != nil {
			return err
		}
	}
	v.set(func() { v.doing, v.booting, v.failed = phaseStarting, op == machinery.OpNoRestoreStart, nil })
	err := v.start(ctx, op)
	if err == nil {
		v.set(func() { v.doing = "" })
		return nil
	}
	if left := v.clear(); left != nil {
		v.log.Warn("something of a start that failed could not be removed", "error", left)
	}
	stopped := errors.Is(context.Cause(ctx), turns.ErrStopped)
	v.set(func() {
		v.doing = ""
		if !stopped {
			v.failed = err
		}
	})
	return err
}

// mustBeOff refuses a start of a machine that is not off.
func (v *vm) mustBeOff(ctx context.Context, op machinery.Op) error {
	state, reason, err := v.ask(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "asking for the machine's state")
	}
	if libvirt.DomainState(state) == libvirt.DomainShutoff {
		return nil
	}
	status, err := statusOf(state, reason)
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrUnexpectedState, err, "the machine is not off")
	}
	return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine has to be off, but it is %s; stop it first")
}

// start has libvirt start the domain and looks at what became of it. If that fails the domain is off again.
//
// A capture that is to begin with the run begins before the machine can send a frame: tcpdump before libvirt is called, and QEMU's own
// filter while the machine still stands.
func (v *vm) start(ctx context.Context, op machinery.Op) error {
	armed, err := v.armedNow(op)
	if err != nil {
		return err
	}
	filtered := armed != nil && v.d.config.Capture == CaptureFilterDump
	begin, as, what, err := v.prepare(ctx, op, filtered)
	if err != nil {
		return v.refused(ctx, op, err, "looking at what the machine is started from")
	}
	if armed != nil && !filtered {
		if err := v.beginCapture(ctx, op, armed); err != nil {
			return err
		}
	}
	if err = v.await(ctx, op, what, begin); err == nil && filtered {
		if err = v.beginCapture(ctx, op, armed); err == nil && as != standsPaused {
			err = v.goOn(ctx, op)
		}
		if err != nil {
			v.quell(nil)
		}
	}
	if err == nil {
		if err = v.settled(ctx, op, what, as); err != nil {
			v.quell(nil)
		}
	}
	if err != nil {
		v.dropCapture(ctx)
	}
	return err
}

// goOn lets a machine run that was started standing still for a capture to be prepared.
func (v *vm) goOn(ctx context.Context, op machinery.Op) error {
	err := rpc.RetryLocked(ctx, func() error {
		return v.do(ctx, "letting the machine run", func(l *libvirt.Libvirt, dom libvirt.Domain) error { return l.DomainResume(dom) })
	})
	if err != nil {
		return v.refused(ctx, op, err, "letting the machine run")
	}
	return nil
}

// prepare is what has to be called to start the machine, how it stands once it is restored, and the call in words. With still it stands
// after the call in any case.
func (v *vm) prepare(ctx context.Context, op machinery.Op, still bool) (begin func(*libvirt.Libvirt, libvirt.Domain) error, as standing, what string, err error) {
	boots, image := op == machinery.OpNoRestoreStart, v.conf.Memory != ""
	what = "booting the machine"
	if boots {
		if err := v.refuseManagedSave(ctx); err != nil {
			return nil, "", "", err
		}
	}
	switch {
	case boots && image:
		begin, err = v.bootOverlaid(ctx, still)
		return begin, standsRunning, what, err
	case boots:
		return func(l *libvirt.Libvirt, dom libvirt.Domain) error {
			_, err := l.DomainCreateWithFlags(dom, uint32(onlyIf(still, libvirt.DomainStartPaused)))
			return err
		}, standsRunning, what, nil
	case image:
		begin, as, err = v.fromImage(ctx, still)
		return begin, as, "restoring the memory image " + v.conf.Memory, err
	}
	s, err := v.findSnapshot(ctx)
	if err != nil {
		return nil, "", "", err
	}
	as = standsRunning
	if s.paused {
		as = standsPaused
	}
	return func(l *libvirt.Libvirt, _ libvirt.Domain) error {
		return l.DomainRevertToSnapshot(s.snap, uint32(onlyIf(still, libvirt.DomainSnapshotRevertPaused)))
	}, as, "reverting to " + s.words(), nil
}

// onlyIf is the flag if it is wanted.
func onlyIf[T ~int32](wanted bool, flag T) T {
	if wanted {
		return flag
	}
	return 0
}

// await makes the call that starts the machine, and waits until libvirt has done it. libvirt cannot be told to give it up: a start
// that is not wanted any more is ended by destroying the domain, for as long as libvirt works at it.
func (v *vm) await(ctx context.Context, op machinery.Op, what string, begin func(*libvirt.Libvirt, libvirt.Domain) error) error {
	timed, cancel := context.WithTimeoutCause(ctx, v.d.config.LoadTimeout, errLoadTimeout)
	defer cancel()
	// The call itself goes on until libvirt is done, so that it is known when it is.
	call, end := context.WithTimeout(context.WithoutCancel(ctx), v.d.config.LoadTimeout+v.Patience())
	done := make(chan error, 1)
	v.d.asking.Go(func() {
		defer end()
		done <- rpc.RetryLocked(call, func() error { return v.doLong(call, what, begin) })
	})
	var err error
	select {
	case err = <-done:
		if err == nil {
			return nil
		}
		v.quell(nil) // a connection that was lost says nothing about the machine
	case <-timed.Done():
		if op == machinery.OpRestoreStart && v.conf.Memory != "" {
			v.quellLate(done)
		} else {
			v.quell(done)
		}
	}
	switch {
	case ctx.Err() != nil:
		return fault.Interrupted(op, v.machine.Name, ctx, what)
	case timed.Err() != nil:
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, nil, "libvirt was not done with %s after %v, and the machine was ended", what, v.d.config.LoadTimeout)
	}
	return v.refused(ctx, op, err, "%s", what)
}

// settled is nil if the machine stands as it should.
func (v *vm) settled(ctx context.Context, op machinery.Op, what string, as standing) error {
	state, reason, err := v.ask(ctx)
	if err != nil {
		return v.refused(ctx, op, err, "asking for the machine's state after %s", what)
	}
	status, err := statusOf(state, reason)
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrUnhandledState, err, "the machine's state after %s has no meaning here", what)
	}
	right := false
	switch status.State {
	case machinery.StateRunning, machinery.StateSuspended:
		right = as != standsPaused
	case machinery.StatePaused:
		right = as != standsRunning && status.Reason == reasonFromSnapshot
	case machinery.StateStopping, machinery.StatePoweroff:
		// What a guest does once it runs is its own affair. One that was saved paused has not run.
		right = as != standsPaused && reason == int32(libvirt.DomainShutoffShutdown)
	}
	if right {
		return nil
	}
	e := fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, nil, "after %s libvirt says that the machine is %s; it should be %s", what, inWords(state, reason), as)
	e.Status = status
	return e
}

// quellLate is quell for a start from a memory image: it gives libvirt a while to be done with it.
func (v *vm) quellLate(call <-chan error) {
	select {
	case <-call:
		call = nil
	case <-time.After(imageGrace):
	}
	v.quell(call)
}

// quell sees to it that the machine is off after a start that failed or is not wanted any more, whatever became of the caller's
// context. call tells when libvirt is done with the start; nil if it is.
func (v *vm) quell(call <-chan error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.d.frame.Life()), v.d.config.StopTimeout)
	defer cancel()
	for {
		err := v.destroy(ctx)
		if call == nil {
			if err != nil && !errors.Is(err, errIsOff) {
				v.log.Warn("the machine could not be ended after a start that failed", "error", err)
			}
			return
		}
		select {
		case <-call:
			call = nil
		case <-time.After(destroyAgain):
		case <-ctx.Done():
			v.log.Warn("libvirt is not done with a start that was cancelled", "error", err)
			return
		}
	}
}

// refuseManagedSave refuses to boot a machine that libvirt would not boot, but continue.
func (v *vm) refuseManagedSave(ctx context.Context) error {
	has, err := get(ctx, v, "looking for a managed save", func(l *libvirt.Libvirt, dom libvirt.Domain) (int32, error) {
		return l.DomainHasManagedSaveImage(dom, 0)
	})
	switch {
	case rpc.IsCode(err, libvirt.ErrNoSupport):
		return nil
	case err != nil:
		return err
	case has != 0:
		return &unusable{fmt.Errorf("the domain %q has a managed save, from which libvirt would continue it instead of booting; remove it with virsh managedsave-remove", v.conf.Label)}
	}
	return nil
}
