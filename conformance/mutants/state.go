//go:build linux

package mutants

import (
	"context"
	"sync"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// mapped is a mutant whose State says another state than the right one.
func mapped(name string, change func(s machinery.Status, err error) (machinery.Status, error), breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
			return change(inner.State(ctx, name))
		}}
	}, breaks...)
}

// says makes one state another.
func says(from, to machinery.State) func(machinery.Status, error) (machinery.Status, error) {
	return func(s machinery.Status, err error) (machinery.Status, error) {
		if err == nil && s.State == from {
			return machinery.Status{State: to}, nil
		}
		return s, err
	}
}

func stateMutants() []Mutant {
	return []Mutant{
		mapped("says suspended for off", says(machinery.StatePoweroff, machinery.StateSuspended), "MM-STATE-001"),
		mapped("says paused for running", says(machinery.StateRunning, machinery.StatePaused), "MM-STATE-002"),
		mapped("says running for paused", says(machinery.StatePaused, machinery.StateRunning), "MM-STATE-003", "MM-RESTORE-006"),
		mapped("says error for a guest that switched itself off", says(machinery.StatePoweroff, machinery.StateError), "MM-STATE-004"),
		mapped("guesses running where it does not know", func(s machinery.Status, err error) (machinery.Status, error) {
			if err != nil || s.State == machinery.StateError {
				return machinery.Status{State: machinery.StateRunning}, nil
			}
			return s, nil
		}, "MM-STATE-006", "MM-STATE-010"),
		mapped("guesses off where it does not know", func(s machinery.Status, err error) (machinery.Status, error) {
			if err != nil || s.State == machinery.StateError {
				return machinery.Status{State: machinery.StatePoweroff}, nil
			}
			return s, nil
		}, "MM-STATE-006"),
		mapped("takes a stranger's pause for its own", says(machinery.StateError, machinery.StatePaused), "MM-STATE-010"),
		wrap("remembers that a machine runs", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			ran := make(map[string]bool)
			return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				mu.Lock()
				defer mu.Unlock()
				if ran[name] {
					return machinery.Status{State: machinery.StateRunning}, nil
				}
				s, err := inner.State(ctx, name)
				ran[name] = s.State == machinery.StateRunning
				return s, err
			}}
		}, "MM-STATE-005", "MM-STATE-004", "MM-STOP-001"),
		wrap("never forgets an error", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			bad := make(map[string]machinery.Status)
			return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				mu.Lock()
				defer mu.Unlock()
				if s, ok := bad[name]; ok {
					return s, nil
				}
				s, err := inner.State(ctx, name)
				if err != nil || s.State == machinery.StateError {
					bad[name] = machinery.Status{State: machinery.StateError, Reason: "broken"}
				}
				return s, err
			}}
		}, "MM-STATE-007"),
		wrap("resumes a paused machine when it is asked for its state", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				s, err := inner.State(ctx, name)
				if s.State == machinery.StatePaused {
					_ = inner.HandlePaused(ctx, name)
				}
				return s, err
			}}
		}, "MM-STATE-008"),
		wrap("answers for the state only when the operation is over", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			return &broken{Machinery: inner,
				restoreStart: func(ctx context.Context, name string) error {
					mu.Lock()
					defer mu.Unlock()
					return inner.RestoreStart(ctx, name)
				},
				state: func(ctx context.Context, name string) (machinery.Status, error) {
					mu.Lock()
					defer mu.Unlock()
					return inner.State(ctx, name)
				}}
		}, "MM-STATE-009"),
		mapped("says error while a machine starts", says(machinery.StateStarting, machinery.StateError), "MM-STATE-009"),
		wrap("mixes up the answers of callers", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			var last *machinery.Status
			return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				s, err := inner.State(ctx, name)
				mu.Lock()
				defer mu.Unlock()
				previous := last
				last = &s
				if previous != nil {
					return *previous, err
				}
				return s, err
			}}
		}, "MM-STATE-011"),
	}
}
