//go:build linux

package mutants

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func queueMutants() []Mutant {
	return []Mutant{
		wrap("takes a start that came too late for one that succeeded", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil && !errors.Is(err, machinery.ErrUnexpectedState) {
					return err
				}
				return nil
			}}
		}, "MM-QUEUE-001", "MM-RESTORE-007"),
		wrap("lets machines wait for each other", func(inner *qemu.Machinery) machinery.Machinery {
			var mu sync.Mutex
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				mu.Lock()
				defer mu.Unlock()
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-QUEUE-002", "MM-QUEUE-003"),
		rewire("leaves a file behind when a start is cancelled", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				err := inner.RestoreStart(ctx, name)
				if errors.Is(err, machinery.ErrInterrupted) {
					_ = os.WriteFile(filepath.Join(c.DisposableDir, "half"), nil, 0o600)
				}
				return err
			}}
		}, "MM-QUEUE-005"),
		wrap("says that a machine is off which another call is stopping", func(inner *qemu.Machinery) machinery.Machinery {
			stopping := newSet()
			return &broken{Machinery: inner, stop: func(ctx context.Context, name string) error {
				if stopping.has(name) {
					return fail(machinery.OpStop, name, machinery.ErrStateReached)
				}
				stopping.add(name)
				defer stopping.remove(name)
				moment(100 * 1e6)
				return inner.Stop(ctx, name)
			}}
		}, "MM-QUEUE-007"),
	}
}
