package machinery_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
)

// The example is there to be copied; these tests hold it to the package documentation.

// openedToy opens the example's driver with a machine "run", saved running, "hold", saved paused, and "bad", which cannot be
// used. A restore takes a second.
func openedToy(t *testing.T) machinery.Machinery {
	t.Helper()
	r := registry(t, toyDriver)
	m, err := r.Open(t.Context(), write(t, "toy.yaml", `
load_time: 1s
machines:
  run: {ip: 10.0.0.1, snapshot: running, tags: [a, b]}
  hold: {ip: 10.0.0.2, snapshot: paused}
  bad: {ip: 10.0.0.2, snapshot: running}
`), machinery.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func is(t *testing.T, m machinery.Machinery, name string, want machinery.State) {
	t.Helper()
	if s, err := m.State(t.Context(), name); err != nil || s.State != want {
		t.Errorf("%q is %s, %v; want %s", name, s, err, want)
	}
}

// calls are all operations on one machine.
func calls(ctx context.Context, m machinery.Machinery, name string) map[machinery.Op]func() error {
	return map[machinery.Op]func() error{
		machinery.OpRestoreStart: func() error { return m.RestoreStart(ctx, name) },
		machinery.OpHandlePaused: func() error { return machinery.HandlePaused(ctx, m, name) },
		machinery.OpStop:         func() error { return m.Stop(ctx, name) },
		machinery.OpState:        func() error { _, err := m.State(ctx, name); return err },
	}
}

// allFail checks that every operation fails in the same way and says what it was.
func allFail(t *testing.T, ctx context.Context, m machinery.Machinery, name string, kind error, parts ...string) {
	t.Helper()
	for op, call := range calls(ctx, m, name) {
		err := call()
		want(t, err, kind, parts...)
		if e, _ := errors.AsType[*machinery.Error](err); e.Op != op || e.Machine != name {
			t.Errorf("the error of %s of %q says it is of %s of %q", op, name, e.Op, e.Machine)
		}
	}
}

func TestTheExampleRefusesWhatCannotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openedToy(t)
		dead, cancel := context.WithCancel(t.Context())
		cancel()
		allFail(t, t.Context(), m, "win10", machinery.ErrNotFound, `"run", "hold", "bad"`)
		allFail(t, dead, m, "run", machinery.ErrInterrupted, "context canceled")
		want(t, m.Shutdown(dead), machinery.ErrInterrupted, "shutdown: ")
		is(t, m, "run", machinery.StatePoweroff)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		allFail(t, t.Context(), m, "run", machinery.ErrClosed)
		want(t, m.Shutdown(t.Context()), machinery.ErrClosed)
		if err := m.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		if got := machinery.Names(m.Machines()); len(got) != 3 {
			t.Errorf("after Close Machines lists %q", got)
		}
	})
}

func TestTheExampleListsCopiesAndTheMachineThatCannotBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openedToy(t)
		list := m.Machines()
		list[0].Name, list[0].Tags[0] = "x", "x"
		if diff := cmp.Diff(machinery.Machine{Name: "run", IP: "10.0.0.1", Tags: []string{"a", "b"}}, m.Machines()[0]); diff != "" {
			t.Errorf("a caller changed the driver's list:\n%s", diff)
		}
		s, err := m.State(t.Context(), "bad")
		if err != nil || s.State != machinery.StateError || s.Reason == "" || s.Detail == "" {
			t.Errorf("the machine that cannot be used is %#v, %v", s, err)
		}
		err = m.RestoreStart(t.Context(), "bad")
		want(t, err, machinery.ErrConfig, "10.0.0.2")
		if e, _ := errors.AsType[*machinery.Error](err); e.Status != s {
			t.Errorf("the error has the status %s", e.Status)
		}
		want(t, m.Stop(t.Context(), "bad"), machinery.ErrStateReached)
		is(t, m, "bad", machinery.StateError)
	})
}

func TestTheExampleTakesAMachineThroughItsStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, m := t.Context(), openedToy(t)
		want(t, m.Stop(ctx, "hold"), machinery.ErrStateReached)
		want(t, machinery.HandlePaused(ctx, m, "hold"), machinery.ErrUnexpectedState)
		if err := m.RestoreStart(ctx, "hold"); err != nil {
			t.Fatal(err)
		}
		is(t, m, "hold", machinery.StatePaused)
		want(t, m.RestoreStart(ctx, "hold"), machinery.ErrUnexpectedState, "paused")
		if err := machinery.HandlePaused(ctx, m, "hold"); err != nil {
			t.Fatal(err)
		}
		is(t, m, "hold", machinery.StateRunning)
		want(t, machinery.HandlePaused(ctx, m, "hold"), machinery.ErrStateReached)
		if err := m.Stop(ctx, "hold"); err != nil {
			t.Fatal(err)
		}
		is(t, m, "hold", machinery.StatePoweroff)
		if err := machinery.Start(ctx, m, "hold"); err != nil {
			t.Fatal(err)
		}
		is(t, m, "hold", machinery.StateRunning)
		is(t, m, "run", machinery.StatePoweroff)
	})
}

// beside runs an operation in a goroutine of its own, and waits until it is at work or waits for its turn.
func beside(f func() error) (result chan error) {
	result = make(chan error, 1)
	go func() { result <- f() }()
	synctest.Wait()
	return result
}

func TestTheExampleUndoesAStartThatIsInterrupted(t *testing.T) {
	for _, tt := range []struct {
		name      string
		interrupt func(t *testing.T, m machinery.Machinery, cancel func())
		matches   error
		closed    bool
	}{
		{"by Stop", func(t *testing.T, m machinery.Machinery, _ func()) {
			if err := m.Stop(t.Context(), "run"); err != nil {
				t.Errorf("Stop of a machine that is starting: %v", err)
			}
		}, errStopped, false},
		{"by its context", func(_ *testing.T, _ machinery.Machinery, cancel func()) { cancel() }, context.Canceled, false},
		{"by Close", func(t *testing.T, m machinery.Machinery, _ func()) {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}, errClosed, true},
		{"by Shutdown", func(t *testing.T, m machinery.Machinery, _ func()) {
			if err := m.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}, errClosed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := openedToy(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				start := beside(func() error { return m.RestoreStart(ctx, "run") })
				is(t, m, "run", machinery.StateStarting)
				tt.interrupt(t, m, cancel)
				err := <-start
				want(t, err, machinery.ErrInterrupted)
				if !errors.Is(err, tt.matches) {
					t.Errorf("%v does not match %v", err, tt.matches)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
				if tt.closed {
					return
				}
				is(t, m, "run", machinery.StatePoweroff)
				if err := m.RestoreStart(t.Context(), "run"); err != nil {
					t.Errorf("starting the machine again: %v", err)
				}
			})
		})
	}
}

func TestTheExampleRunsOneOperationOfAMachineAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openedToy(t)
		first := beside(func() error { return m.RestoreStart(t.Context(), "run") })
		second := beside(func() error { return m.RestoreStart(t.Context(), "run") })
		impatient := beside(func() error { return m.RestoreStart(within(t, time.Millisecond), "run") })
		other := beside(func() error { return m.RestoreStart(t.Context(), "hold") })
		is(t, m, "run", machinery.StateStarting)
		is(t, m, "hold", machinery.StateStarting)
		err := <-impatient
		want(t, err, machinery.ErrInterrupted, "its turn")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not match its context's error", err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		want(t, <-second, machinery.ErrUnexpectedState, "running")
		if err := <-other; err != nil {
			t.Error(err)
		}
	})
}

func TestTheExamplesStopGoesBeforeWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openedToy(t)
		var starts []chan error
		for range 5 {
			starts = append(starts, beside(func() error { return m.RestoreStart(t.Context(), "run") }))
		}
		began := time.Now()
		if err := m.Stop(t.Context(), "run"); err != nil || time.Since(began) != 0 {
			t.Errorf("Stop took %v: %v", time.Since(began), err)
		}
		want(t, <-starts[0], machinery.ErrInterrupted)
		// The next one starts the machine after the Stop, and the others find it running.
		ran := 0
		for _, start := range starts[1:] {
			if err := <-start; err == nil {
				ran++
			} else {
				want(t, err, machinery.ErrUnexpectedState)
			}
		}
		if ran != 1 {
			t.Errorf("%d of the 4 starts that waited succeeded, want 1", ran)
		}
		is(t, m, "run", machinery.StateRunning)
	})
}

func TestTheExampleHoldsUnderManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openedToy(t)
		legal := []error{machinery.ErrUnexpectedState, machinery.ErrStateReached, machinery.ErrInterrupted}
		done := make(chan struct{})
		var watcher, callers sync.WaitGroup
		watcher.Go(func() {
			for {
				s, err := m.State(t.Context(), "hold")
				if err != nil || !s.State.Valid() || s.State == machinery.StateError {
					t.Errorf("the machine is %s, %v", s, err)
				}
				select {
				case <-done:
					return
				case <-time.After(7 * time.Millisecond):
				}
			}
		})
		for i := range 8 {
			callers.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range 100 {
					began := time.Now()
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+random.IntN(2000))*time.Millisecond)
					operation := []machinery.Op{machinery.OpRestoreStart, machinery.OpHandlePaused, machinery.OpStop}[random.IntN(3)]
					err := calls(ctx, m, "hold")[operation]()
					if err != nil && !matches(err, legal) {
						t.Errorf("%s: %v", operation, err)
					}
					if took := time.Since(began); ctx.Err() == nil && operation == machinery.OpStop && took != 0 {
						t.Errorf("Stop waited %v for another operation", took)
					}
					cancel()
					time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // the bubble's time: it spreads the calls
				}
			})
		}
		callers.Wait()
		close(done)
		watcher.Wait()
		if err := m.Stop(t.Context(), "hold"); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			t.Error(err)
		}
		is(t, m, "hold", machinery.StatePoweroff)
	})
}

func matches(err error, kinds []error) bool {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func TestTheExamplesTemplateHasEveryKeyOfItsSchema(t *testing.T) {
	if err := conftemplates.Check(toyDriver.Template, toyDriver.Schema); err != nil {
		t.Error(err)
	}
}
