//go:build linux

package mutants

import (
	"context"
	"errors"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func errorMutants() []Mutant {
	return []Mutant{
		wrap("takes a name it does not know for a machine that is off", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, state: func(ctx context.Context, name string) (machinery.Status, error) {
				s, err := inner.State(ctx, name)
				if errors.Is(err, machinery.ErrNotFound) {
					return machinery.Status{State: machinery.StatePoweroff}, nil
				}
				return s, err
			}}
		}, "MM-ERROR-001"),
		stops("returns errors that are only text", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if err := inner.Stop(ctx, name); err != nil {
				return errors.New(err.Error())
			}
			return nil
		}, "MM-ERROR-002", "MM-STOP-003"),
		wrap("does not say in which state a machine was", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				err := inner.RestoreStart(ctx, name)
				var e *machinery.Error
				if errors.As(err, &e) {
					e.Status = machinery.Status{}
				}
				return err
			}}
		}, "MM-ERROR-003"),
		wrap("returns nil from an operation that it does not have", func(inner *qemu.Machinery) machinery.Machinery {
			return &pretender{broken: broken{Machinery: inner}, declared: false}
		}, "MM-OPTIONAL-001"),
		wrap("says that it dumped the memory, and did nothing", func(inner *qemu.Machinery) machinery.Machinery {
			return &pretender{broken: broken{Machinery: inner}, declared: true}
		}, "MM-OPTIONAL-002"),
	}
}

// pretender has a DumpMemory that does nothing.
type pretender struct {
	broken
	declared bool
}

func (p *pretender) DumpMemory(context.Context, string, string) error { return nil }

func (p *pretender) Supports(c machinery.Capability) bool {
	if c == machinery.CapDumpMemory {
		return p.declared
	}
	return machinery.Supports(p.Machinery, c)
}
