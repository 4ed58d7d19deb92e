//go:build linux

package mutants

import (
	"context"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// resumes is a mutant with another HandlePaused.
func resumes(name string, handle func(inner *qemu.Machinery, ctx context.Context, name string) error, breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, handlePaused: func(ctx context.Context, name string) error { return handle(inner, ctx, name) }}
	}, breaks...)
}

func pausedMutants() []Mutant {
	return []Mutant{
		resumes("says that it resumed, and did nothing", func(*qemu.Machinery, context.Context, string) error { return nil }, "MM-PAUSED-001", "MM-PAUSED-002"),
		resumes("ignores that the hypervisor refused to resume", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			_ = inner.HandlePaused(ctx, name)
			return nil
		}, "MM-PAUSED-003", "MM-PAUSED-002"),
		resumes("resumes whatever stands still", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			m, err := inner.Monitor(ctx, name)
			if err != nil {
				return inner.HandlePaused(ctx, name)
			}
			if err := m.Execute(ctx, "cont", nil, nil); err != nil {
				return &machinery.Error{Op: machinery.OpHandlePaused, Machine: name, Kind: machinery.ErrHypervisor, Err: err}
			}
			return nil
		}, "MM-PAUSED-004"),
	}
}
