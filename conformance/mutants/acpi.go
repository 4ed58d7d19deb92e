//go:build linux

package mutants

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// presses is a mutant with another ACPIStop.
func presses(name string, press func(inner *qemu.Machinery, ctx context.Context, name string) error, breaks ...string) Mutant {
	return wrap(name, func(inner *qemu.Machinery) machinery.Machinery {
		return &broken{Machinery: inner, acpiStop: func(ctx context.Context, name string) error { return press(inner, ctx, name) }}
	}, breaks...)
}

func acpiMutants() []Mutant {
	return []Mutant{
		presses("pulls the cord instead of pressing the button", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			return inner.Stop(ctx, name)
		}, "MM-ACPI-001", "MM-ACPI-002"),
		presses("takes a guest that ignores the button for a failure", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if err := inner.ACPIStop(ctx, name); err != nil {
				return err
			}
			waiting, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			if _, err := machinery.WaitState(waiting, inner, name, machinery.StatePoweroff); err != nil {
				return fail(machinery.OpACPIStop, name, machinery.ErrHypervisor)
			}
			return nil
		}, "MM-ACPI-002"),
		presses("waits until the guest has obeyed", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if err := inner.ACPIStop(ctx, name); err != nil {
				return err
			}
			_, err := machinery.WaitState(ctx, inner, name, machinery.StatePoweroff)
			// The end of the guest's connection is seen a moment after.
			moment(100 * time.Millisecond)
			return err
		}, "MM-ACPI-003", "MM-ACPI-002"),
		presses("says nothing when the machine was off", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			if err := inner.ACPIStop(ctx, name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
				return err
			}
			return nil
		}, "MM-ACPI-004"),
		presses("presses the button of whatever is up", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			err := inner.ACPIStop(ctx, name)
			if errors.Is(err, machinery.ErrUnexpectedState) {
				if m, monitorErr := inner.Monitor(ctx, name); monitorErr == nil {
					_ = m.Execute(ctx, "system_powerdown", nil, nil)
				}
			}
			return err
		}, "MM-ACPI-005"),
		presses("waits for the hypervisor's answer for ever", func(inner *qemu.Machinery, ctx context.Context, name string) error {
			m, err := inner.Monitor(ctx, name)
			if err != nil {
				return inner.ACPIStop(ctx, name)
			}
			return m.Execute(context.WithoutCancel(ctx), "system_powerdown", nil, nil)
		}, "MM-ACPI-006"),
	}
}
