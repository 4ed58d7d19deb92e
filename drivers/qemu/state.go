//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// stateTime is how long State waits for QEMU, which answers in less than a millisecond unless something is wrong.
const stateTime = 2 * time.Second

// leastTime is how long QEMU must have had before it may be said not to answer. A caller who gives State less is told that the
// time was over.
const leastTime = 100 * time.Millisecond

// exitTime is how long a QEMU that has closed its connection may take to end, which it does within 5 ms.
const exitTime = 200 * time.Millisecond

// state is State. It needs no turn.
func (v *vm) state(ctx context.Context) (machinery.Status, error) {
	v.mu.Lock()
	r, doing, booting, during, failed, last := v.run, v.doing, v.booting, v.during, v.failed, v.last
	v.mu.Unlock()
	switch {
	case doing == phaseStarting:
		return startingAs(booting), nil
	case (doing == phaseDumping || doing == phaseSaving) && !r.proc.Over():
		return during, nil
	case doing == phaseStopping:
		return machinery.Status{State: machinery.StateStopping}, nil
	case r != nil:
		return v.stateOfRun(ctx, r)
	}
	// What runs is told first, though its files may be gone or another driver have started it.
	status := machinery.Status{State: machinery.StatePoweroff, Reason: last}
	l, err := readLedger(v.dir)
	switch {
	case err != nil:
		return machinery.Status{}, fault.AsError(machinery.OpState, v.machine.Name, machinery.ErrHypervisor, err)
	case l != nil:
		status, err = v.stateOfLedger(ctx, l)
	}
	switch {
	case err != nil || status.State != machinery.StatePoweroff:
	case v.problem() != nil:
		status = machinery.Status{State: machinery.StateError, Reason: reasonConfig, Detail: v.problem().Error()}
	case failed != nil:
		status = machinery.Status{State: machinery.StateError, Reason: reasonStartFailed, Detail: failed.Error()}
	}
	return status, err
}

// startingAs is the status of a machine that is being started.
func startingAs(booting bool) machinery.Status {
	if booting {
		return machinery.Status{State: machinery.StateStarting, Reason: reasonBooting}
	}
	return machinery.Status{State: machinery.StateStarting, Reason: reasonLoading}
}

// stateOfRun is the status of a machine whose QEMU this driver holds.
func (v *vm) stateOfRun(ctx context.Context, r *run) (machinery.Status, error) {
	ctx, cancel := stateContext(ctx)
	defer cancel()
	m := r.monitor()
	if m == nil || m.Err() != nil {
		return v.ask(ctx, r.proc, r.means, r.whyGone, v.readState)
	}
	return v.ask(ctx, r.proc, r.means, r.whyGone, func(ctx context.Context) (string, error) {
		state, err := queryStatus(ctx, m)
		if errors.Is(err, monitor.ErrClosed) || errors.Is(err, monitor.ErrDisconnected) && !r.proc.Wait(exitTime) {
			// The connection broke, or the machine was let go of meanwhile. QEMU may be well.
			return v.readState(ctx)
		}
		return state, err
	})
}

// stateOfLedger is the status of a machine that another driver holds, or has left running.
func (v *vm) stateOfLedger(ctx context.Context, l *ledger) (machinery.Status, error) {
	p, err := l.process()
	_, isHeld := rundir.Held(v.dir)
	switch {
	case errors.Is(err, os.ErrProcessDone) && l.PID == 0 && isHeld:
		return startingAs(l.Booted), nil
	case errors.Is(err, os.ErrProcessDone):
		return machinery.Status{State: machinery.StatePoweroff, Reason: fmt.Sprintf("its QEMU (process %d) has ended", l.PID)}, nil
	case err != nil:
		return machinery.Status{}, fault.AsError(machinery.OpState, v.machine.Name, machinery.ErrHypervisor, err)
	}
	defer p.Release()
	switch {
	case l.Phase == phaseStarting && isHeld:
		return startingAs(l.Booted), nil
	case l.Phase == phaseDumping && isHeld:
		return machinery.Status{State: machinery.StatePaused, Reason: reasonDump}, nil
	case l.Phase == phaseSaving && isHeld:
		return savingStatus, nil
	case l.Phase == phaseStopping && isHeld:
		return machinery.Status{State: machinery.StateStopping}, nil
	}
	ctx, cancel := stateContext(ctx)
	defer cancel()
	means := func(state string) (machinery.Status, error) {
		if status, full := l.atQuota(state); full {
			return status, nil
		}
		if l.saved() && (state == "finish-migrate" || state == "postmigrate" || state == "paused") {
			return standsSaved, nil
		}
		standing := l.Standing
		if l.Phase == phaseStarting && !l.Booted { // its driver ended while it loaded
			standing, _ = settledAs(state)
			if standing != "" && v.inactive(l.Overlays, "") != "" {
				standing = "" // it stands for want of its disks
			}
		}
		return statusOfRun(state, standing, l.Phase.dumping())
	}
	why := func() string { return fmt.Sprintf("its QEMU (process %d) has ended", p.PID) }
	status, err := v.ask(ctx, p, means, why, v.readState)
	if err == nil && status.State == machinery.StatePoweroff && l.PID == p.PID {
		// A wrapper may have ended in this moment that did not become QEMU but started it.
		if q, err := l.Search(); err == nil {
			defer q.Release()
			return v.ask(ctx, q, means, why, v.readState)
		}
	}
	return status, err
}

// ask finds out the status of a machine whose QEMU is p. means says what a run state means, why says why its QEMU has ended, and
// query asks for the run state.
func (v *vm) ask(ctx context.Context, p *process.Process, means func(string) (machinery.Status, error), why func() string, query func(context.Context) (string, error)) (machinery.Status, error) {
	off := func() machinery.Status {
		return machinery.Status{State: machinery.StatePoweroff, Reason: why()}
	}
	if p.Over() {
		return off(), nil
	}
	began := time.Now()
	state, err := query(ctx)
	if errors.Is(err, monitor.ErrDisconnected) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) {
		p.Wait(exitTime) // a QEMU without a monitor is about to end
	}
	if err == nil && state == shutDown {
		p.Wait(exitTime) // the guest has switched itself off, and QEMU is about to end, unless it was told not to
	}
	switch {
	case p.Over():
		return off(), nil
	case err == nil:
		status, err := means(state)
		return status, fault.AsError(machinery.OpState, v.machine.Name, machinery.ErrUnhandledState, err)
	case ctx.Err() != nil && (errors.Is(ctx.Err(), context.Canceled) || time.Since(began) < leastTime):
		return machinery.Status{}, fault.Interrupted(machinery.OpState, v.machine.Name, ctx, "asking QEMU for the machine's state")
	}
	return machinery.Status{State: machinery.StateError, Reason: reasonNoAnswer,
		Detail: fmt.Sprintf("QEMU (process %d) lives, but: %v", p.PID, err)}, nil
}

// stateContext bounds a question to QEMU, so that there is an answer before the caller's own time is over.
func stateContext(ctx context.Context) (context.Context, context.CancelFunc) {
	atMost := stateTime
	if deadline, has := ctx.Deadline(); has {
		atMost = min(atMost, time.Until(deadline)*3/4)
	}
	return context.WithTimeout(ctx, atMost)
}

// readState asks for the run state on QEMU's second monitor, which serves one client at a time: in this process one
// after the other.
func (v *vm) readState(ctx context.Context) (string, error) {
	select {
	case v.reading <- struct{}{}:
		defer func() { <-v.reading }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	m, err := dial(ctx, filepath.Join(v.dir, readSocket))
	if err != nil {
		return "", err
	}
	defer m.Close()
	return queryStatus(ctx, m)
}

// dialAgain is how soon a connection is tried again for which QEMU has no room. The kernel has no sign of that for a socket
// that does not block.
const dialAgain = 2 * time.Millisecond

// dial connects to a monitor. QEMU lets one more client wait than it serves (seen on QEMU 7.2.22); others are refused for the
// moment that this takes.
func dial(ctx context.Context, path string) (*monitor.Monitor, error) {
	for {
		m, err := monitor.Dial(ctx, path)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			<-ctx.Done() // the socket has the deadline of ctx, and may be first by a hair
			if errors.Is(err, ctx.Err()) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case !errors.Is(err, syscall.EAGAIN):
			return m, err
		}
		select {
		case <-time.After(dialAgain):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// queryStatus asks for QEMU's run state.
func queryStatus(ctx context.Context, m *monitor.Monitor) (string, error) {
	var answer struct{ Status string }
	if err := m.Execute(ctx, "query-status", nil, &answer); err != nil {
		return "", err
	}
	return answer.Status, nil
}
