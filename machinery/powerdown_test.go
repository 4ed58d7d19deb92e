package machinery_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/machineries/machineries/machinery"
)

// buttoned is a scripted machinery with a power button.
type buttoned struct {
	scripted
	press func(ctx context.Context) error
}

func (b *buttoned) ACPIStop(ctx context.Context, _ string) error {
	b.note(machinery.OpACPIStop)
	return run(ctx, b.press)
}

func TestStopGently(t *testing.T) {
	const running, poweroff, broken = machinery.StateRunning, machinery.StatePoweroff, machinery.StateError
	const press, stop = machinery.OpACPIStop, machinery.OpStop
	const patience = 2 * time.Minute
	type ops = []machinery.Op
	for _, tt := range []struct {
		name   string
		m      *buttoned
		calls  ops
		forced bool
		took   time.Duration // at least, and less than a second more
		kind   error
	}{
		{name: "a guest that obeys is not stopped", m: &buttoned{scripted: scripted{state: states(running, running, poweroff)}}, calls: ops{press}},
		{name: "one that ignores the button is stopped when the time is over", m: &buttoned{scripted: scripted{state: states(running)}},
			calls: ops{press, stop}, forced: true, took: patience},
		{name: "one that breaks down is stopped at once", m: &buttoned{scripted: scripted{state: states(running, broken)}}, calls: ops{press, stop}, forced: true},
		{name: "one that goes off in the last moment was not stopped",
			m: &buttoned{scripted: scripted{state: states(running), stop: fails(stop, machinery.ErrStateReached, "")}}, calls: ops{press, stop}, took: patience},
		{name: "a stop that fails is an error",
			m:     &buttoned{scripted: scripted{state: states(running), stop: fails(stop, machinery.ErrHypervisor, "it hangs")}},
			calls: ops{press, stop}, forced: true, took: patience, kind: machinery.ErrHypervisor},
		{name: "a button that cannot be pressed leads to no stop", m: &buttoned{press: fails(press, machinery.ErrUnexpectedState, "it is paused")},
			calls: ops{press}, kind: machinery.ErrUnexpectedState},
		{name: "a machine that is off is said to be", m: &buttoned{press: fails(press, machinery.ErrStateReached, "")}, calls: ops{press}, kind: machinery.ErrStateReached},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				forced, err := machinery.StopGently(t.Context(), tt.m, "a", patience)
				if forced != tt.forced || machinery.KindOf(err) != tt.kind {
					t.Errorf("forced %v, error %v; want %v, %v", forced, err, tt.forced, tt.kind)
				}
				if took := time.Since(began); took < tt.took || took > tt.took+time.Second {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if got := tt.m.called(); !slices.Equal(got, tt.calls) {
					t.Errorf("it called %v, want %v", got, tt.calls)
				}
			})
		})
	}
}

func TestStopGentlyThatIsInterruptedDoesNotStopTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &buttoned{scripted: scripted{state: states(machinery.StateRunning)}}
		_, err := machinery.StopGently(within(t, time.Second), m, "a", time.Minute)
		want(t, err, machinery.ErrInterrupted)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not match its context's error", err)
		}
		if got := m.called(); !slices.Equal(got, []machinery.Op{machinery.OpACPIStop}) {
			t.Errorf("it called %v", got)
		}
	})
}

func TestStopGentlyOfADriverWithoutThePowerButtonIsUnsupported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := machinery.StopGently(t.Context(), openedToy(t), "run", time.Minute)
		want(t, err, machinery.ErrUnsupported)
	})
}
