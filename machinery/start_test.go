package machinery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// fails is an operation that fails with an error of that kind.
func fails(op machinery.Op, kind error, reason string) func(context.Context) error {
	return func(context.Context) error {
		return &machinery.Error{Op: op, Machine: "a", Kind: kind, Reason: reason}
	}
}

func TestStart(t *testing.T) {
	const (
		starting, running, paused = machinery.StateStarting, machinery.StateRunning, machinery.StatePaused
		poweroff, suspended       = machinery.StatePoweroff, machinery.StateSuspended
	)
	const restore, handle, stop = machinery.OpRestoreStart, machinery.OpHandlePaused, machinery.OpStop
	const stopFailed = "stopping the machine again failed too: "
	type ops = []machinery.Op
	for _, tt := range []struct {
		name  string
		m     *pausable
		calls ops
		kind  error // nil for a machine that runs
		text  []string
	}{
		{name: "a snapshot that was saved running runs", m: &pausable{scripted: scripted{state: states(running)}}, calls: ops{restore}},
		{name: "a driver may return early", m: &pausable{scripted: scripted{state: states(starting, starting, running)}}, calls: ops{restore}},
		{name: "a snapshot that was saved paused is resumed", m: &pausable{scripted: scripted{state: states(starting, paused, running)}}, calls: ops{restore, handle}},
		{name: "a machine that someone else resumed first runs",
			m: &pausable{scripted: scripted{state: states(paused, running)}, handlePaused: fails(handle, machinery.ErrStateReached, "")}, calls: ops{restore, handle}},
		{name: "a machine that was not off is left alone",
			m:     &pausable{scripted: scripted{restoreStart: fails(restore, machinery.ErrUnexpectedState, "the machine is running")}},
			calls: ops{restore}, kind: machinery.ErrUnexpectedState, text: []string{"the machine is running"}},
		{name: "a start that fails has cleared up itself",
			m:     &pausable{scripted: scripted{restoreStart: fails(restore, machinery.ErrHypervisor, "no such snapshot")}},
			calls: ops{restore}, kind: machinery.ErrHypervisor, text: []string{"no such snapshot"}},
		{name: "a resume that is refused ends the machine",
			m:     &pausable{scripted: scripted{state: states(paused)}, handlePaused: fails(handle, machinery.ErrHypervisor, "disk is read-only")},
			calls: ops{restore, handle, stop}, kind: machinery.ErrHypervisor, text: []string{"disk is read-only"}},
		{name: "a machine that went off is an error, and not stopped in vain",
			m:     &pausable{scripted: scripted{state: states(starting, poweroff), stop: fails(stop, machinery.ErrStateReached, "off already")}},
			calls: ops{restore, stop}, kind: machinery.ErrUnexpectedState, text: []string{`restore_start "a": the machine is poweroff instead of running`}},
		{name: "a machine that went off as it was resumed is not waited for",
			m:     &pausable{scripted: scripted{state: states(paused, poweroff), stop: fails(stop, machinery.ErrStateReached, "off already")}},
			calls: ops{restore, handle, stop}, kind: machinery.ErrUnexpectedState, text: []string{"the machine is poweroff instead of running"}},
		{name: "a guest that goes to sleep at once is ended",
			m:     &pausable{scripted: scripted{state: states(paused, paused, suspended)}},
			calls: ops{restore, handle, stop}, kind: machinery.ErrUnexpectedState, text: []string{"the machine is suspended instead of running"}},
		{name: "what fails after an early return is the error",
			m: &pausable{scripted: scripted{state: func(context.Context) (machinery.Status, error) {
				return machinery.Status{State: machinery.StateError, Reason: "start failed", Detail: "Unknown savevm section"}, nil
			}}},
			calls: ops{restore, stop}, kind: machinery.ErrUnexpectedState, text: []string{"error (start failed)", "Unknown savevm section"}},
		{name: "a driver that was closed meanwhile says so",
			m: &pausable{scripted: scripted{stop: fails(stop, machinery.ErrClosed, "the driver is closed"),
				state: func(context.Context) (machinery.Status, error) {
					return machinery.Status{}, &machinery.Error{Op: machinery.OpState, Machine: "a", Kind: machinery.ErrClosed}
				}}},
			calls: ops{restore, stop}, kind: machinery.ErrClosed, text: []string{`state "a": the driver is closed`, stopFailed}},
		{name: "a machine that can neither be resumed nor stopped is both errors, the first first",
			m: &pausable{scripted: scripted{state: states(paused), stop: fails(stop, machinery.ErrConnection, "libvirtd is down")},
				handlePaused: fails(handle, machinery.ErrHypervisor, "disk is read-only")},
			calls: ops{restore, handle, stop}, kind: machinery.ErrHypervisor,
			text: []string{"disk is read-only", stopFailed, "libvirtd is down"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The deadline is never what ends a case.
				began := time.Now()
				err := machinery.Start(within(t, time.Minute), tt.m, "a")
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
				if diff := cmp.Diff(tt.calls, tt.m.called()); diff != "" {
					t.Errorf("not the calls that were to be made:\n%s", diff)
				}
				if tt.kind == nil {
					if err != nil {
						t.Errorf("it failed: %v", err)
					}
					return
				}
				if _, is := errors.AsType[*machinery.Error](err); !is || machinery.KindOf(err) != tt.kind {
					t.Fatalf("the error is %v, want one of kind %q", err, tt.kind)
				}
				for _, part := range tt.text {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("the error reads\n%v\nwithout %q", err, part)
					}
				}
				if told := strings.Contains(err.Error(), stopFailed); told != slices.Contains(tt.text, stopFailed) {
					t.Errorf("that the stop failed is told: %v\n%v", told, err)
				}
			})
		})
	}
}

func TestStartEndsAPausedMachineThatTheDriverCannotResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &scripted{state: states(machinery.StatePaused)}
		err := machinery.Start(within(t, time.Minute), m, "a")
		want(t, err, machinery.ErrUnsupported, `handle_paused "a": `)
		if diff := cmp.Diff([]machinery.Op{machinery.OpRestoreStart, machinery.OpStop}, m.called()); diff != "" {
			t.Errorf("not the calls that were to be made:\n%s", diff)
		}
	})
}

type key struct{}

func TestStartThatIsCancelledStopsTheMachineWithAContextThatLives(t *testing.T) {
	for _, tt := range []struct {
		name    string
		state   machinery.State
		handle  func(ctx context.Context) error
		matches error
		ctx     func(context.Context) (context.Context, context.CancelFunc)
	}{
		{"cancelled while the machine starts", machinery.StateStarting, nil, context.Canceled, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}},
		{"out of time while the machine starts", machinery.StateStarting, nil, context.DeadlineExceeded, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}},
		{"out of time while the machine is resumed", machinery.StatePaused, func(ctx context.Context) error {
			<-ctx.Done()
			return &machinery.Error{Op: machinery.OpHandlePaused, Machine: "a", Kind: machinery.ErrInterrupted, Err: ctx.Err()}
		}, context.DeadlineExceeded, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &pausable{scripted: scripted{state: states(tt.state)}, handlePaused: tt.handle}
				stopped := false
				m.stop = func(ctx context.Context) error {
					stopped = true
					if ctx.Err() != nil {
						t.Errorf("Stop got a context that has ended: %v", ctx.Err())
					}
					if deadline, has := ctx.Deadline(); !has || time.Until(deadline) > time.Minute {
						t.Errorf("Stop got a context without a bound: %v, %v", deadline, has)
					}
					if ctx.Value(key{}) != "kept" {
						t.Error("Stop got a context without the caller's values")
					}
					return nil
				}
				ctx, cancel := tt.ctx(context.WithValue(t.Context(), key{}, "kept"))
				defer cancel()
				err := machinery.Start(ctx, m, "a")
				want(t, err, machinery.ErrInterrupted)
				if !errors.Is(err, tt.matches) {
					t.Errorf("%v does not match %v", err, tt.matches)
				}
				if !stopped {
					t.Error("the machine was not stopped")
				}
			})
		})
	}
}

func TestStartIsBoundedThoughStopHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &scripted{state: states(machinery.StateStarting)}
		m.stop = func(ctx context.Context) error {
			<-ctx.Done()
			return &machinery.Error{Op: machinery.OpStop, Machine: "a", Kind: machinery.ErrConnection, Err: ctx.Err()}
		}
		began := time.Now()
		err := machinery.Start(within(t, time.Second), m, "a")
		if machinery.KindOf(err) != machinery.ErrInterrupted || !errors.Is(err, machinery.ErrConnection) {
			t.Errorf("the error is %v, want why the start ended and why the stop failed", err)
		}
		if took := time.Since(began); took != time.Second+time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}
