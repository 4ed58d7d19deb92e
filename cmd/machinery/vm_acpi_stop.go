package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

const (
	// obeyTimeout is what Cuckoo3's manager gives a guest to switch itself off.
	obeyTimeout = 2 * time.Minute
	// forceTimeout is what Stop may take after that.
	forceTimeout = time.Minute
)

// vmACPIStopCommand is "machinery vm acpi-stop".
func vmACPIStopCommand(a *app) *cobra.Command {
	o := vmOptions{grace: forceTimeout, degraded: true}
	all, noStop := false, false
	cmd := &cobra.Command{
		Use:   "acpi-stop -c FILE MACHINE...",
		Short: "Presses power buttons, and waits until the machines are off.",
		Long: `Presses the power buttons of machines and waits until their guests have
switched them off. A guest that has not done so within --timeout is not waited
for any longer: its machine is stopped as by "vm stop", and the output says so.
With --no-stop it is left running, and that is a failure.

A machine that is off already is a success; one that is paused is refused.
Several machines are worked on at once. Ctrl-C ends the waiting; the buttons
have been pressed then, and nothing is stopped.

Exit status: 0 if every machine is off, 1 if not, 2 for wrong usage.`,
		Example: `  machinery vm acpi-stop -c qemu.yaml win10_1
  machinery vm acpi-stop -c qemu.yaml --all --timeout 30s
  machinery vm acpi-stop -c qemu.yaml win10_1 --no-stop`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				names, err := chosenMachines(cmd, m, args, all)
				if err != nil {
					return err
				}
				return a.report(names, o.json, func(name string) vmResult {
					return o.press(ctx, m, name, noStop)
				})
			})
		},
	}
	o.flags(cmd, obeyTimeout)
	cmd.Flags().Lookup("timeout").Usage = "how much `time` the guest has, such as 90s or 5m"
	cmd.Flags().BoolVar(&all, "all", false, "all machines of the configuration")
	cmd.Flags().BoolVar(&noStop, "no-stop", false, "leave a machine running whose guest does not obey")
	return cmd
}

// press presses one machine's power button.
func (o *vmOptions) press(ctx context.Context, m machinery.Machinery, name string, noStop bool) vmResult {
	off := machinery.Status{State: machinery.StatePoweroff}
	var err error
	var began time.Time
	forced := false
	if noStop {
		if err = machinery.ACPIStop(ctx, m, name); err == nil {
			waiting, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
			defer cancel()
			_, err = machinery.WaitState(waiting, m, name, machinery.StatePoweroff)
			err = o.disobeyed(ctx, name, err)
		}
	} else {
		began = time.Now()
		forced, err = machinery.StopGently(ctx, m, name, o.timeout)
		err = o.disobeyed(ctx, name, err)
	}
	if errors.Is(err, machinery.ErrStateReached) {
		r := newVMResult(machinery.OpACPIStop, name, off, nil)
		r.Already, r.already = true, "was off already"
		return r
	}
	r := newVMResult(machinery.OpACPIStop, name, off, err)
	if err != nil {
		r.Status = nil
	} else if forced && time.Since(began) < o.timeout {
		r.Forced, r.already = true, "poweroff; its guest broke down, and it was stopped"
	} else if forced {
		r.Forced, r.already = true, fmt.Sprintf("poweroff; its guest did not obey within %v, and it was stopped", o.timeout)
	}
	return r
}

// disobeyed makes the error of a wait that was given up one that says what is the
// case: nothing of the machine was ended.
func (o *vmOptions) disobeyed(ctx context.Context, name string, err error) error {
	e, is := err.(*machinery.Error)
	if !is || e.Op != machinery.OpWait || e.Kind != machinery.ErrInterrupted {
		return err
	}
	status := "the machine runs on"
	if e.Status.State != "" && e.Status.State != machinery.StateRunning {
		status = fmt.Sprintf("the machine is %s", e.Status)
	}
	if ctx.Err() == nil {
		return &machinery.Error{Op: machinery.OpACPIStop, Machine: name, Kind: machinery.ErrUnexpectedState, Status: e.Status,
			Reason: fmt.Sprintf("the guest did not switch the machine off within %v; %s, and nothing was stopped", o.timeout, status)}
	}
	return &machinery.Error{Op: machinery.OpACPIStop, Machine: name, Kind: machinery.ErrInterrupted, Status: e.Status,
		Reason: fmt.Sprintf("the wait for the guest was given up; its power button has been pressed, %s, and nothing was stopped", status), Err: ctx.Err()}
}
