package machinery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/machineries/machineries/machinery"
)

// within is a context of the bubble that ends after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestWaitStateByPolling(t *testing.T) {
	const (
		starting, running, paused = machinery.StateStarting, machinery.StateRunning, machinery.StatePaused
		poweroff, broken          = machinery.StatePoweroff, machinery.StateError
	)
	for _, tt := range []struct {
		name  string
		seen  []machinery.State
		want  []machinery.State
		state machinery.State // that it returns
		kind  error
		took  time.Duration
	}{
		{"a machine that is there already is not waited for", []machinery.State{running}, []machinery.State{running}, running, nil, 0},
		{"each of several states ends the wait", []machinery.State{paused}, []machinery.State{running, paused}, paused, nil, 0},
		{"a change is seen within 10 ms", []machinery.State{poweroff, starting, running}, []machinery.State{running}, running, nil, 20 * time.Millisecond},
		{"a machine that flaps is waited for", []machinery.State{paused, starting, paused, starting, running}, []machinery.State{running}, running, nil, 40 * time.Millisecond},
		{"the error state ends the wait", []machinery.State{starting, broken}, []machinery.State{running}, broken, machinery.ErrUnexpectedState, 10 * time.Millisecond},
		{"the error state may be what is wanted", []machinery.State{starting, broken}, []machinery.State{broken}, broken, nil, 10 * time.Millisecond},
		{"the context ends the wait", []machinery.State{starting, paused}, []machinery.State{running}, paused, machinery.ErrInterrupted, 55 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				m := &pausable{scripted: scripted{state: states(tt.seen...)}}
				status, err := machinery.WaitState(within(t, 55*time.Millisecond), m, "a", tt.want...)
				if status.State != tt.state {
					t.Errorf("it returned %s, want %s", status, tt.state)
				}
				if tt.kind == nil && err != nil {
					t.Errorf("it failed: %v", err)
				}
				if tt.kind != nil {
					want(t, err, tt.kind, `wait_state "a": `)
					if e, _ := errors.AsType[*machinery.Error](err); e.Status != status {
						t.Errorf("the error has the status %s, and %s was returned", e.Status, status)
					}
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if calls := m.called(); len(calls) != 0 {
					t.Errorf("waiting called %v", calls)
				}
			})
		})
	}
}

func TestTheErrorOfAWaitTellsTheStatesSeenWithTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &scripted{state: states(machinery.StatePoweroff, machinery.StateStarting, machinery.StateStarting, machinery.StatePaused)}
		_, err := machinery.WaitState(within(t, 2*time.Second+5*time.Millisecond), m, "a", machinery.StateRunning, machinery.StateSuspended)
		const text = `wait_state "a": waited 2.005 s for running or suspended; ` +
			`seen: poweroff after 0.000 s, starting after 0.010 s, paused after 0.030 s: context deadline exceeded`
		if err == nil || err.Error() != text {
			t.Errorf("the error reads\n%v\nwant\n%s", err, text)
		}
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%v does not match the context's error alone", err)
		}
	})
}

func TestTheErrorStateIsToldWithItsReasonAndDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &scripted{state: func(context.Context) (machinery.Status, error) {
			return machinery.Status{State: machinery.StateError, Reason: "io-error", Detail: "No space left on device"}, nil
		}}
		_, err := machinery.WaitState(within(t, time.Second), m, "a", machinery.StateRunning)
		const text = `wait_state "a": waited for running, but the machine is in state error (io-error); ` +
			`seen: error (io-error) after 0.000 s: No space left on device`
		if err == nil || err.Error() != text {
			t.Errorf("the error reads\n%v\nwant\n%s", err, text)
		}
	})
}

func TestTheHistoryOfAMachineThatFlapsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		m := &scripted{state: func(context.Context) (machinery.Status, error) {
			n++
			return machinery.Status{State: machinery.StatePaused, Reason: fmt.Sprintf("change %d", n)}, nil
		}}
		_, err := machinery.WaitState(within(t, 10*time.Second), m, "a", machinery.StateRunning)
		want(t, err, machinery.ErrInterrupted, "seen: paused (change 1) after 0.000 s, ", " more, paused (change ", fmt.Sprintf("(change %d)", n))
		if got := err.Error(); len(got) > 2000 {
			t.Errorf("the error is %d bytes long: %s", len(got), got)
		}
		var told, more int
		told = strings.Count(err.Error(), "(change ")
		if _, scanErr := fmt.Sscanf(strings.SplitN(err.Error(), ", ", 2)[1], "%d more", &more); scanErr != nil || told+more != n {
			t.Errorf("%d states are told and %d counted, of %d: %v", told, more, n, err)
		}
	})
}

func TestAWaitThatCannotSucceedEndsAtOnce(t *testing.T) {
	for _, kind := range []error{machinery.ErrNotFound, machinery.ErrClosed} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own := &machinery.Error{Op: machinery.OpState, Machine: "a", Kind: kind}
				began := time.Now()
				m := &scripted{state: func(context.Context) (machinery.Status, error) { return machinery.Status{}, own }}
				_, err := machinery.WaitState(within(t, time.Minute), m, "a", machinery.StateRunning)
				if err != error(own) || time.Since(began) != 0 {
					t.Errorf("after %v it returned %v, want State's own error at once", time.Since(began), err)
				}
			})
		})
	}
}

func TestAWaitOutlivesFailuresOfState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 3
		m := &scripted{state: func(context.Context) (machinery.Status, error) {
			if failures--; failures >= 0 {
				return machinery.Status{}, &machinery.Error{Op: machinery.OpState, Machine: "a", Kind: machinery.ErrConnection}
			}
			return machinery.Status{State: machinery.StateRunning}, nil
		}}
		status, err := machinery.WaitState(within(t, time.Second), m, "a", machinery.StateRunning)
		if err != nil || status.State != machinery.StateRunning {
			t.Errorf("got %s, %v", status, err)
		}
	})
}

func TestAWaitDuringWhichStateFailsTellsWhy(t *testing.T) {
	for _, tt := range []struct {
		name string
		// last is what State does in its last call, when the wait is about to end.
		last func(ctx context.Context) error
	}{
		{"to the end", func(context.Context) error { return errors.New("connection refused") }},
		{"until a State is under way as the wait ends", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				m := &scripted{state: func(ctx context.Context) (machinery.Status, error) {
					err := errors.New("connection refused")
					if time.Since(began) > 80*time.Millisecond {
						err = tt.last(ctx)
					}
					return machinery.Status{}, &machinery.Error{Op: machinery.OpState, Machine: "a", Kind: machinery.ErrConnection, Err: err}
				}}
				_, err := machinery.WaitState(within(t, 95*time.Millisecond), m, "a", machinery.StateRunning)
				want(t, err, machinery.ErrInterrupted, "seen: no state at all; asking for the state failed at last: ", "connection refused")
				if errors.Is(err, machinery.ErrConnection) {
					t.Errorf("the error is of two kinds: %v", err)
				}
			})
		})
	}
}

func TestAFailureOfStateThatIsOverIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		m := &scripted{state: func(context.Context) (machinery.Status, error) {
			if calls++; calls == 1 {
				return machinery.Status{}, errors.New("connection refused")
			}
			return machinery.Status{State: machinery.StatePaused}, nil
		}}
		_, err := machinery.WaitState(within(t, 50*time.Millisecond), m, "a", machinery.StateRunning)
		want(t, err, machinery.ErrInterrupted, "seen: paused after 0.010 s")
		if strings.Contains(err.Error(), "refused") {
			t.Errorf("the error tells a failure that is over: %v", err)
		}
	})
}

func TestAWaitWhoseContextHasEndedAsksNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &watchable{watch: func(context.Context) (<-chan machinery.Event, error) {
		t.Error("it watched")
		return nil, errors.ErrUnsupported
	}}
	m.state = func(context.Context) (machinery.Status, error) {
		t.Error("it asked")
		return machinery.Status{State: machinery.StateRunning}, nil
	}
	_, err := machinery.WaitState(ctx, m, "a", machinery.StateRunning)
	want(t, err, machinery.ErrInterrupted, "seen: no state at all")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not match context.Canceled", err)
	}
}

// feed is a Watch that sends one state every 3 ms, and then closes its channel or, if it stays, waits for its context, as the
// contract has it. ended is closed when it has.
func feed(stays bool, sequence ...machinery.State) (watch func(context.Context) (<-chan machinery.Event, error), ended chan struct{}) {
	ended = make(chan struct{})
	return func(ctx context.Context) (<-chan machinery.Event, error) {
		events := make(chan machinery.Event)
		go func() {
			defer close(ended)
			defer close(events)
			for _, s := range sequence {
				select {
				case events <- machinery.Event{Status: machinery.Status{State: s}, Time: time.Now()}:
				case <-ctx.Done():
					return
				}
				select {
				case <-time.After(3 * time.Millisecond):
				case <-ctx.Done():
					return
				}
			}
			if stays {
				<-ctx.Done()
			}
		}()
		return events, nil
	}, ended
}

func TestWaitStateByWatching(t *testing.T) {
	const starting, running, paused = machinery.StateStarting, machinery.StateRunning, machinery.StatePaused
	for _, tt := range []struct {
		name   string
		stays  bool
		events []machinery.State
		polled []machinery.State // by State, after the events; nil if State must not be asked
		kind   error
		took   time.Duration
		text   string
	}{
		{name: "the event ends the wait at once", stays: true, events: []machinery.State{starting, paused, running}, took: 6 * time.Millisecond},
		{name: "a machine that flaps is waited for", stays: true, events: []machinery.State{paused, starting, paused, running, paused}, took: 9 * time.Millisecond},
		{name: "the error state ends the wait", stays: true, events: []machinery.State{starting, machinery.StateError, running}, took: 3 * time.Millisecond,
			kind: machinery.ErrUnexpectedState, text: "seen: starting after 0.000 s, error after 0.003 s"},
		{name: "the context ends the wait", stays: true, events: []machinery.State{starting}, took: 95 * time.Millisecond,
			kind: machinery.ErrInterrupted, text: "waited 0.095 s for running; seen: starting after 0.000 s: context deadline exceeded"},
		{name: "events that end half-way are followed by polling", events: []machinery.State{starting, paused}, polled: []machinery.State{paused, running},
			took: 16 * time.Millisecond},
		{name: "the history spans events and polling", events: []machinery.State{starting}, polled: []machinery.State{paused}, took: 95 * time.Millisecond,
			kind: machinery.ErrInterrupted, text: "seen: starting after 0.000 s, paused after 0.003 s: "},
		{name: "a channel that is closed from the first is followed by polling", polled: []machinery.State{running}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				watch, ended := feed(tt.stays, tt.events...)
				m := &watchable{watch: watch}
				if tt.polled != nil {
					m.state = states(tt.polled...)
				} else {
					m.state = func(context.Context) (machinery.Status, error) {
						t.Error("State was asked")
						return machinery.Status{State: running}, nil
					}
				}
				status, err := machinery.WaitState(within(t, 95*time.Millisecond), m, "a", running)
				if tt.kind == nil && (err != nil || status.State != running) {
					t.Errorf("got %s, %v; want running", status, err)
				}
				if tt.kind != nil {
					want(t, err, tt.kind, tt.text)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				<-ended
				if took := time.Since(began); took != tt.took {
					t.Errorf("the watch was ended %v after the wait", took-tt.took)
				}
			})
		})
	}
}

func TestADriverThatCannotBeWatchedAfterAllIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &watchable{watch: func(context.Context) (<-chan machinery.Event, error) { return nil, errors.New("no events here") }}
		m.state = states(machinery.StateStarting, machinery.StateRunning)
		status, err := machinery.WaitState(within(t, time.Second), m, "a", machinery.StateRunning)
		if err != nil || status.State != machinery.StateRunning {
			t.Errorf("got %s, %v", status, err)
		}
	})
}

// unwatchable has Watch, and denies it.
type unwatchable struct{ *watchable }

func (unwatchable) Supports(c machinery.Capability) bool { return c != machinery.CapWatch }

func TestADriverThatDeniesWatchIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := unwatchable{&watchable{}}
		m.state = states(machinery.StateStarting, machinery.StateRunning)
		if _, err := machinery.WaitState(within(t, time.Second), m, "a", machinery.StateRunning); err != nil {
			t.Error(err)
		}
		if calls := m.called(); len(calls) != 0 {
			t.Errorf("it called %v", calls)
		}
	})
}
