//go:build linux

package mutants

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func ownerMutants() []Mutant {
	return []Mutant{
		rewire("does not look whether someone else holds a machine", func(c *qemu.Config, o *machinery.Options) error {
			dir, err := os.MkdirTemp(filepath.Dir(c.DisposableDir), "r")
			o.RuntimeDir = dir
			return err
		}, nil, "MM-OWNER-001", "MM-OWNER-002", "MM-OWNER-003"),
		wrap("stops its machines when it is closed", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, close: func() error { return inner.Shutdown(context.Background()) }}
		}, "MM-OWNER-003"),
		wrap("leaves its machines running at a shutdown", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, shutdown: func(context.Context) error { return inner.Close() }}
		}, "MM-OWNER-004", "MM-OWNER-005", "MM-CLEAN-004"),
		wrap("shuts down only what answers", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, shutdown: func(ctx context.Context) error {
				var errs []error
				for _, m := range inner.Machines() {
					s, err := inner.State(ctx, m.Name)
					if err != nil || s.State == machinery.StateError {
						errs = append(errs, fail(machinery.OpShutdown, m.Name, machinery.ErrConnection))
						continue
					}
					if err := inner.Stop(ctx, m.Name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
						errs = append(errs, err)
					}
				}
				return errors.Join(append(errs, inner.Close())...)
			}}
		}, "MM-OWNER-005"),
	}
}
