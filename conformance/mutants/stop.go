//go:build linux

package mutants

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// stops is a mutant with another Stop.
func stops(name string, stop func(inner *qemu.Machinery, ctx context.Context, name string) error, breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error { return stop(inner, ctx, name) }}
	}, breaks...)
}

// moment lets time pass: the mistakes here are about what happens meanwhile.
func moment(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
}

func stopMutants() []Mutant {
	return []Mutant{
		stops("says stopped before the machine is off", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			go func() {
				moment(300 * time.Millisecond)
				_ = inner.Stop(context.WithoutCancel(ctx), name)
			}()
			return nil
		}, "MM-STOP-001", "MM-RESTORE-012"),
		stops("stops only what runs", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if s, err := inner.State(ctx, name); err != nil || s.State != machinery.StateRunning && s.State != machinery.StatePoweroff {
				return fail(machinery.OpStop, name, machinery.ErrUnexpectedState)
			}
			return inner.Stop(ctx, name)
		}, "MM-STOP-002", "MM-STOP-004", "MM-STOP-012"),
		stops("says nothing when there was nothing to stop", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if err := inner.Stop(ctx, name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
				return err
			}
			return nil
		}, "MM-STOP-003"),
		stops("needs an answer from the hypervisor to stop", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			s, err := inner.State(ctx, name)
			if err != nil {
				return err
			}
			if s.State == machinery.StateError {
				return &machinery.Error{Op: machinery.OpStop, Machine: name, Kind: machinery.ErrConnection, Reason: s.Reason}
			}
			return inner.Stop(ctx, name)
		}, "MM-STOP-004"),
		stops("asks the guest before it stops it", asksFirst, "MM-STOP-005"),
		stops("stops by asking the guest", asksOnly, "MM-STOP-005", "MM-STOP-006"),
		wrap("waits for a start before it stops", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			return &broken{Machinery: inner,
				restoreStart: func(ctx context.Context, name string) error {
					mu.Lock()
					defer mu.Unlock()
					return inner.RestoreStart(ctx, name)
				},
				stop: func(ctx context.Context, name string) error {
					mu.Lock()
					defer mu.Unlock()
					return inner.Stop(ctx, name)
				}}
		}, "MM-STOP-007", "MM-QUEUE-002"),
		stops("gives up when its context ends", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			done := make(chan error, 1)
			go func() { done <- inner.Stop(context.WithoutCancel(ctx), name) }()
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return &machinery.Error{Op: machinery.OpStop, Machine: name, Kind: machinery.ErrInterrupted, Err: ctx.Err()}
			}
		}, "MM-STOP-008"),
		stops("only ever asks the hypervisor to end", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			m, err := inner.Monitor(ctx, name)
			if err != nil {
				return inner.Stop(ctx, name)
			}
			quit, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			if err := m.Quit(quit); err != nil {
				return fail(machinery.OpStop, name, machinery.ErrHypervisor)
			}
			if err := inner.Stop(ctx, name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
				return err
			}
			return nil
		}, "MM-STOP-009"),
		stops("takes a machine that is off for a broken one", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			// By then a machine that is going off by itself has gone.
			moment(300 * time.Millisecond)
			if s, err := inner.State(ctx, name); err == nil && s.State == machinery.StatePoweroff {
				return fail(machinery.OpStop, name, machinery.ErrConnection)
			}
			return inner.Stop(ctx, name)
		}, "MM-STOP-010", "MM-STOP-011"),
		wrap("stops every machine", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error {
				err := inner.Stop(ctx, name)
				for _, m := range inner.Machines() {
					if m.Name != name {
						_ = inner.Stop(ctx, m.Name)
					}
				}
				return err
			}}
		}, "MM-STOP-013"),
	}
}

// asksFirst presses the power button, and gives the guest a moment before it
// stops the machine.
func asksFirst(inner *qemu.Machinery, ctx context.Context, name string) error {
	if m, err := inner.Monitor(ctx, name); err == nil {
		_ = m.Execute(ctx, "system_powerdown", nil, nil)
		moment(300 * time.Millisecond)
	}
	if err := inner.Stop(ctx, name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
		return err
	}
	return nil
}

// asksOnly presses the power button and hopes.
func asksOnly(inner *qemu.Machinery, ctx context.Context, name string) error {
	m, err := inner.Monitor(ctx, name)
	if err != nil {
		return inner.Stop(ctx, name)
	}
	if err := m.Execute(ctx, "system_powerdown", nil, nil); err != nil {
		return fail(machinery.OpStop, name, machinery.ErrHypervisor)
	}
	waiting, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := machinery.WaitState(waiting, inner, name, machinery.StatePoweroff); err != nil {
		return fail(machinery.OpStop, name, machinery.ErrHypervisor)
	}
	return nil
}
