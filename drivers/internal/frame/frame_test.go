package frame

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// plain is a machine of which nothing is known but its description.
type plain struct {
	described machinery.Machine
	refusal   error
	turns     turns.Turns
	watches   watching.Hub
}

func (p *plain) Describe() machinery.Machine { return p.described }
func (p *plain) Refuse(machinery.Op) error   { return p.refusal }
func (p *plain) Turns() *turns.Turns         { return &p.turns }
func (p *plain) Watches() *watching.Hub      { return &p.watches }
func (p *plain) Patience() time.Duration     { return time.Minute }
func (p *plain) Log() *slog.Logger           { return slog.New(slog.DiscardHandler) }

func of(t *testing.T, names ...string) *Frame[*plain] {
	t.Helper()
	f := New[*plain]()
	for _, name := range names {
		if err := f.Add(&plain{described: machinery.Machine{Name: name, Tags: []string{"office"}}}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func nothing(*plain) error { return nil }
func none() error          { return nil }

func mustKind(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("the error is %v; want %v", err, want)
	}
}

func TestMachinesWithoutANameOrWithTheSameAreRefused(t *testing.T) {
	f := of(t, "a")
	mustKind(t, f.Add(&plain{}), machinery.ErrConfig)
	mustKind(t, f.Add(&plain{described: machinery.Machine{Name: "a"}}), machinery.ErrConfig)
	if len(f.All()) != 1 {
		t.Errorf("there are %d machines; want 1", len(f.All()))
	}
}

func TestWhatACallerDoesToTheListChangesNoMachine(t *testing.T) {
	f := of(t, "a", "b")
	f.Machines()[0].Tags[0] = "changed"
	if got := f.Machines(); len(got) != 2 || got[0].Name != "a" || got[0].Tags[0] != "office" {
		t.Errorf("the machines are %+v", got)
	}
}

func TestWhatCannotBeginIsRefusedBeforeTheMachineIsTouched(t *testing.T) {
	f := of(t, "a", "broken")
	broken := errors.New("it is broken")
	f.Named("broken").refusal = broken
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	touched := func(*plain, context.Context) error { t.Error("the operation was begun"); return nil }
	mustKind(t, f.Operate(t.Context(), machinery.OpRestoreStart, "c", touched), machinery.ErrNotFound)
	mustKind(t, f.Operate(ended, machinery.OpRestoreStart, "a", touched), machinery.ErrInterrupted)
	mustKind(t, f.Operate(t.Context(), machinery.OpRestoreStart, "broken", touched), broken)
	mustKind(t, f.Begin(ended, machinery.OpVersion), machinery.ErrInterrupted)
	if err := f.Close(nothing, none); err != nil {
		t.Fatal(err)
	}
	mustKind(t, f.Operate(t.Context(), machinery.OpRestoreStart, "a", touched), machinery.ErrClosed)
	mustKind(t, f.Begin(t.Context(), machinery.OpVersion), machinery.ErrClosed)
	mustKind(t, f.Shutdown(t.Context(), nothing, none), machinery.ErrClosed)
}

func TestStopEndsTheStartThatRunsAndIsToldOfIt(t *testing.T) {
	f := of(t, "a")
	begun, started := make(chan struct{}), make(chan error, 1)
	go func() {
		started <- f.Operate(t.Context(), machinery.OpRestoreStart, "a", func(_ *plain, ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	<-begun
	err := f.Stop(t.Context(), "a", func(_ *plain, _ context.Context, cancelled bool) error {
		if !cancelled {
			t.Error("Stop is not told that a start was ended for it")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	mustKind(t, <-started, turns.ErrStopped)
}

func TestCloseEndsWhatRunsDoesTheLastWorkOnEachMachineAndThenTheRest(t *testing.T) {
	f := of(t, "a", "b")
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- f.Operate(t.Context(), machinery.OpRestoreStart, "a", func(_ *plain, ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			return context.Cause(ctx)
		})
	}()
	<-begun
	watched, err := f.Watch(t.Context(), "b", func(*plain) watching.Source {
		return watching.Source{
			Status: func(context.Context) (machinery.Status, error) {
				return machinery.Status{State: machinery.StateRunning}, nil
			},
			Followed:      func() bool { return true },
			FollowedEvery: time.Hour, OtherwiseEvery: time.Hour,
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	lived := make(chan struct{})
	f.Go(func() { <-f.Life().Done(); close(lived) })
	last := make(chan string, 2)
	wrong := errors.New("b cannot be let go of")
	err = f.Close(func(p *plain) error {
		if f.Life().Err() != nil {
			t.Error("what works beside the operations was ended before the machines were let go of")
		}
		last <- p.described.Name
		if p.described.Name == "b" {
			return wrong
		}
		return nil
	}, func() error {
		select {
		case <-lived:
		default:
			t.Error("the rest was done while something worked on")
		}
		return nil
	})
	mustKind(t, err, wrong)
	mustKind(t, <-ended, turns.ErrClosing)
	if got := <-last + <-last; got != "ab" && got != "ba" {
		t.Errorf("the last work was done on %q", got)
	}
	for range watched { // it ends
	}
	if err := f.Close(nothing, none); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
