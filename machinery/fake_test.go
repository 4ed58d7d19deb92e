package machinery_test

import (
	"context"
	"sync"

	"github.com/machineries/machineries/machinery"
)

// scripted is a machinery with one machine, "a", that does what its functions say and notes the order of the calls. A
// function that is nil succeeds; the state is then poweroff.
type scripted struct {
	restoreStart func(ctx context.Context) error
	stop         func(ctx context.Context) error
	state        func(ctx context.Context) (machinery.Status, error)

	mu    sync.Mutex
	calls []machinery.Op
}

func (s *scripted) note(op machinery.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, op)
}

// called are the operations that were called, in their order, without State.
func (s *scripted) called() []machinery.Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]machinery.Op(nil), s.calls...)
}

func (s *scripted) Machines() []machinery.Machine { return []machinery.Machine{{Name: "a"}} }

func (s *scripted) RestoreStart(ctx context.Context, _ string) error {
	s.note(machinery.OpRestoreStart)
	return run(ctx, s.restoreStart)
}

func (s *scripted) Stop(ctx context.Context, _ string) error {
	s.note(machinery.OpStop)
	return run(ctx, s.stop)
}

func (s *scripted) State(ctx context.Context, _ string) (machinery.Status, error) {
	if s.state == nil {
		return machinery.Status{State: machinery.StatePoweroff}, nil
	}
	return s.state(ctx)
}

func (s *scripted) Shutdown(context.Context) error { s.note(machinery.OpShutdown); return nil }
func (s *scripted) Close() error                   { s.note(machinery.OpClose); return nil }

func run(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return nil
	}
	return f(ctx)
}

// pausable is a scripted machinery with HandlePaused.
type pausable struct {
	scripted
	handlePaused func(ctx context.Context) error
}

func (p *pausable) HandlePaused(ctx context.Context, _ string) error {
	p.note(machinery.OpHandlePaused)
	return run(ctx, p.handlePaused)
}

// watchable is a scripted machinery with Watch.
type watchable struct {
	scripted
	watch func(ctx context.Context) (<-chan machinery.Event, error)
}

func (w *watchable) Watch(ctx context.Context, _ string) (<-chan machinery.Event, error) {
	w.note(machinery.OpWatch)
	return w.watch(ctx)
}

// states is a State function that gives one state after the other, and then the last for ever.
func states(sequence ...machinery.State) func(context.Context) (machinery.Status, error) {
	var mu sync.Mutex
	return func(context.Context) (machinery.Status, error) {
		mu.Lock()
		defer mu.Unlock()
		now := sequence[0]
		if len(sequence) > 1 {
			sequence = sequence[1:]
		}
		return machinery.Status{State: now}, nil
	}
}
