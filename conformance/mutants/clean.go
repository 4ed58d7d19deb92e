//go:build linux

package mutants

import (
	"context"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// litter is a mutant that makes a file at each start, and removes it only when
// keep says so after a Stop.
func litter(name string, remove func(before machinery.Status, stopErr error) bool, breaks ...string) Mutant {
	return rewire(name, nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		path := func(name string) string { return filepath.Join(c.DisposableDir, name+"_disposable.qcow2") }
		return &broken{Machinery: inner,
			restoreStart: func(ctx context.Context, name string) error {
				if err := os.WriteFile(path(name), []byte("overlay"), 0o600); err != nil {
					return err
				}
				return inner.RestoreStart(ctx, name)
			},
			stop: func(ctx context.Context, name string) error {
				before, _ := inner.State(ctx, name)
				err := inner.Stop(ctx, name)
				if remove(before, err) {
					_ = os.Remove(path(name))
				}
				return err
			}}
	}, breaks...)
}

func cleanMutants() []Mutant {
	return []Mutant{
		litter("leaks the overlay", func(machinery.Status, error) bool { return false }, "MM-CLEAN-001", "MM-CLEAN-002", "MM-CLEAN-003", "MM-CLEAN-004"),
		litter("clears up only when it is told to stop", func(machinery.Status, error) bool { return true }, "MM-CLEAN-002"),
		litter("clears up only after what it stopped itself", func(before machinery.Status, err error) bool {
			return err == nil && before.State == machinery.StateRunning
		}, "MM-CLEAN-003"),
		wrap("leaks a goroutine with each start", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				go func() { select {} }()
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-CLEAN-005"),
		wrap("leaks a descriptor with each start", func(inner *qemu.Machinery) machinery.Machinery {
			var kept []*os.File
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if f, err := os.Open(os.DevNull); err == nil {
					kept = append(kept, f)
				}
				return inner.RestoreStart(ctx, name)
			}}
		}, "MM-CLEAN-005"),
	}
}
