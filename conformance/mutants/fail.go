//go:build linux

package mutants

import (
	"context"
	"errors"
	"os/exec"
	"syscall"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

func failMutants() []Mutant {
	return []Mutant{
		wrap("does not say why a start failed", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if err := inner.RestoreStart(ctx, name); err != nil {
					return fail(machinery.OpRestoreStart, name, machinery.KindOf(err))
				}
				return nil
			}}
		}, "MM-FAIL-001", "MM-FAIL-002", "MM-FAIL-003", "MM-FAIL-004"),
		wrap("does not heed its context in a start", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				return inner.RestoreStart(context.WithoutCancel(ctx), name)
			}}
		}, "MM-FAIL-005", "MM-QUEUE-003", "MM-QUEUE-004", "MM-QUEUE-005", "MM-QUEUE-006"),
		mapped("says off after a failed start", says(machinery.StateError, machinery.StatePoweroff), "MM-FAIL-006"),
		wrap("cannot start a machine after a failed start", func(inner *qemu.Machinery) machinery.Machinery {
			failed := newSet()
			return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
				if failed.has(name) {
					return fail(machinery.OpRestoreStart, name, machinery.ErrUnexpectedState)
				}
				err := inner.RestoreStart(ctx, name)
				if err != nil {
					failed.add(name)
				}
				return err
			}}
		}, "MM-FAIL-007", "MM-QUEUE-006"),
		leavesQEMU(),
	}
}

// leavesQEMU lets an emulator run on after a start failed.
func leavesQEMU() Mutant {
	return rewire("leaves QEMU behind after a failed start", nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		return &broken{Machinery: inner, restoreStart: func(ctx context.Context, name string) error {
			err := inner.RestoreStart(ctx, name)
			if err != nil && !errors.Is(err, machinery.ErrUnexpectedState) {
				// The machine's disk is on the command line, as it is of a
				// QEMU that was not ended; nothing waits for this one.
				left := exec.Command(c.QEMU, "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-S", "-name", machine(c, name).Disk)
				left.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if startErr := left.Start(); startErr == nil {
					go func() { _ = left.Wait() }()
				}
			}
			return err
		}}
	}, "MM-FAIL-008")
}
