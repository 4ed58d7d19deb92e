//go:build linux

package mutants

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// boots is a mutant with another NoRestoreStart.
func boots(name string, boot func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) error, breaks ...string) Mutant {
	return rewire(name, nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		return &broken{Machinery: inner, noRestoreStart: func(ctx context.Context, name string) error { return boot(inner, c, ctx, name) }}
	}, breaks...)
}

func bootMutants() []Mutant {
	return []Mutant{
		boots("restores when it is to boot", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) error {
			return inner.RestoreStart(ctx, name)
		}, "MM-BOOT-001"),
		boots("writes to the configured disk when it boots", func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) error {
			if err := inner.NoRestoreStart(ctx, name); err != nil {
				return err
			}
			disk, err := os.OpenFile(machine(c, name).Disk, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer disk.Close()
			_, err = disk.WriteString("written by a guest")
			return err
		}, "MM-BOOT-002"),
		boots("resets a machine that runs when it is to boot it", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) error {
			if m, err := inner.Monitor(ctx, name); err == nil {
				return m.Execute(ctx, "system_reset", nil, nil)
			}
			return inner.NoRestoreStart(ctx, name)
		}, "MM-BOOT-003"),
		boots("leaves a file beside the overlay when it boots", func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) error {
			if err := os.WriteFile(filepath.Join(c.DisposableDir, "booted"), nil, 0o600); err != nil {
				return err
			}
			return inner.NoRestoreStart(ctx, name)
		}, "MM-BOOT-004", "MM-BOOT-005"),
		boots("does not say why a machine did not boot", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) error {
			if err := inner.NoRestoreStart(ctx, name); err != nil {
				return fail(machinery.OpNoRestoreStart, name, machinery.KindOf(err))
			}
			return nil
		}, "MM-BOOT-005"),
		boots("wants a snapshot even to boot", func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) error {
			if _, err := os.Stat(machine(c, name).Snapshot); err != nil {
				return fail(machinery.OpNoRestoreStart, name, machinery.ErrConfig)
			}
			return inner.NoRestoreStart(ctx, name)
		}, "MM-BOOT-006"),
	}
}

func hostMutants() []Mutant {
	versioned := func(name string, version func(inner *qemu.Machinery, c qemu.Config, ctx context.Context) (string, error), breaks ...string) Mutant {
		return rewire(name, nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
			return &broken{Machinery: inner, version: func(ctx context.Context) (string, error) { return version(inner, c, ctx) }}
		}, breaks...)
	}
	checks := func(name string, check func(inner *qemu.Machinery, ctx context.Context) error, breaks ...string) Mutant {
		return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, dependencies: func(ctx context.Context) error { return check(inner, ctx) }}
		}, breaks...)
	}
	return []Mutant{
		versioned("returns all that the emulator says as its version", func(_ *qemu.Machinery, c qemu.Config, ctx context.Context) (string, error) {
			said, err := exec.CommandContext(ctx, c.QEMU, "--version").Output()
			return strings.TrimSpace(string(said)), err
		}, "MM-VERSION-001"),
		versioned("tells another version while a machine runs", func(inner *qemu.Machinery, c qemu.Config, ctx context.Context) (string, error) {
			version, err := inner.Version(ctx)
			for _, m := range c.Machines {
				if _, running := inner.Monitor(ctx, m.Name); running == nil {
					version += ".1"
				}
			}
			return version, err
		}, "MM-VERSION-002"),
		versioned("returns no version where it does not know", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context) (string, error) {
			version, _ := inner.Version(ctx)
			return version, nil
		}, "MM-VERSION-003"),
		checks("starts a machine to see whether it can", func(inner *qemu.Machinery, ctx context.Context) error {
			for _, m := range inner.Machines() {
				_ = inner.NoRestoreStart(ctx, m.Name)
			}
			return inner.CheckDependencies(ctx)
		}, "MM-DEPS-001"),
		checks("finds everything there", func(*qemu.Machinery, context.Context) error { return nil }, "MM-DEPS-002"),
		checks("ends machines that run to check the host", func(inner *qemu.Machinery, ctx context.Context) error {
			for _, m := range inner.Machines() {
				_ = inner.Stop(ctx, m.Name)
			}
			return inner.CheckDependencies(ctx)
		}, "MM-DEPS-003"),
	}
}
