package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmOperation is a command that changes machines.
type vmOperation struct {
	name, short, long string
	op                machinery.Op
	// timeout is the default of --timeout.
	timeout time.Duration
	do      func(ctx context.Context, m machinery.Machinery, name string) error
	// already is what is said of a machine that was where the operation leads;
	// empty if that is an error.
	already string
	// ready is set if the command has --wait-ready: it leads to a machine that
	// runs.
	ready bool
}

// startTimeout is what Cuckoo3's manager gives a machine to start.
const startTimeout = 3 * time.Minute

// vmOperations are those commands.
var vmOperations = []vmOperation{
	{name: "restore", ready: true, short: "Restores machines to their snapshots.",
		long: `Restores machines to their snapshots and starts them from there. A machine
whose snapshot was saved paused is paused afterwards; "vm resume" lets it run.`,
		op: machinery.OpRestoreStart, timeout: startTimeout,
		do: func(ctx context.Context, m machinery.Machinery, name string) error { return m.RestoreStart(ctx, name) }},
	{name: "start", ready: true, short: "Restores machines and sees to it that they run.",
		long: `Restores machines to their snapshots and starts them from there, and resumes
those whose snapshot was saved paused. A machine that does not get to run is
off again afterwards.`,
		op: machinery.OpRestoreStart, timeout: startTimeout, do: machinery.Start},
	{name: "boot", ready: true, short: "Boots machines without their snapshots.",
		long: `Boots machines from their disks, without restoring their snapshots. A machine
need not have a snapshot for that; "vm snapshot create" makes one. As always,
what the machine writes is thrown away when it is stopped.`,
		op: machinery.OpNoRestoreStart, timeout: startTimeout, do: machinery.NoRestoreStart},
	{name: "stop", short: "Switches machines off.",
		long: `Switches machines off as pulling the cord would; the guests are not asked. It
works in every state, and is a success for a machine that is off already, even
if it could not be started. When
the time of --timeout is over, the machine is killed at once.`,
		op: machinery.OpStop, timeout: time.Minute,
		do:      func(ctx context.Context, m machinery.Machinery, name string) error { return m.Stop(ctx, name) },
		already: "was off already"},
	{name: "resume", short: "Lets machines run that were restored paused.",
		long: `Lets machines run that are paused because their snapshots were saved so. One
that stands still for any other reason is left alone.`,
		op: machinery.OpHandlePaused, timeout: startTimeout, do: machinery.HandlePaused,
		already: "was running already"},
}

// readyHelp says what --wait-ready does.
const readyHelp = `With --wait-ready it waits until something answers an HTTP request at the
machine's ip and agent_port. If nothing does within --timeout that is a
failure, and the machine runs on, to be looked at.`

// vmOperationCommand is the command of an operation.
func vmOperationCommand(a *app, op vmOperation) *cobra.Command {
	o := vmOptions{degraded: op.op == machinery.OpStop}
	var capture captureFlags
	all, ready := false, false
	starts := op.op == machinery.OpRestoreStart || op.op == machinery.OpNoRestoreStart
	long := op.long
	if op.ready {
		long += "\n\n" + readyHelp
	}
	cmd := &cobra.Command{
		Use:     op.name + " -c FILE MACHINE...",
		Short:   op.short,
		Long:    long + "\n\nSeveral machines are worked on at once. Ctrl-C ends the operation and clears up.\n\nExit status: 0 if it was done to every machine, 1 if not, 2 for wrong usage.",
		Example: "  machinery vm " + op.name + " -c qemu.yaml win10_1\n  machinery vm " + op.name + " -c qemu.yaml --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				names, err := chosenMachines(cmd, m, args, all)
				if err != nil {
					return err
				}
				op := op
				if op.do, err = capture.around(cmd, names, op.do); err != nil {
					return err
				}
				return a.report(names, o.json, func(name string) vmResult { return op.on(ctx, m, name, ready) })
			})
		},
	}
	o.flags(cmd, op.timeout)
	if starts {
		capture.startFlags(cmd)
	}
	cmd.Flags().BoolVar(&all, "all", false, "all machines of the configuration")
	if op.ready {
		cmd.Flags().BoolVar(&ready, "wait-ready", false, "wait until the agent in the guest answers")
	}
	return cmd
}

// isOff is whether a machine that cannot be used is known to be off: nothing of
// a run of it is there.
func isOff(ctx context.Context, m machinery.Machinery, name string) bool {
	status, err := m.State(ctx, name)
	if err != nil || status.State != machinery.StateError {
		return err == nil && status.State == machinery.StatePoweroff
	}
	runs, err := machinery.Account(ctx, m)
	return err == nil && !slices.ContainsFunc(runs, func(run machinery.Run) bool {
		return run.Configured && run.Machine == name && (run.Held || run.PID > 0 || run.Problem != "")
	})
}

// on does the operation to one machine.
func (op vmOperation) on(ctx context.Context, m machinery.Machinery, name string, ready bool) vmResult {
	err := op.do(ctx, m, name)
	unready := false
	if err == nil && ready {
		err = machinery.WaitReady(ctx, m, name)
		unready = err != nil
	}
	// The operation may have used up its time; to look afterwards has its own.
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	if unready {
		if status, stateErr := m.State(look, name); stateErr == nil && status.State != machinery.StatePoweroff {
			err = also(err, "the machine was started, and is %s; \"vm stop\" switches it off", status)
		}
	}
	if op.op == machinery.OpStop && errors.Is(err, machinery.ErrConfig) && isOff(look, m, name) {
		// There is nothing to stop, whatever is wrong with its files.
		r := newVMResult(op.op, name, machinery.Status{State: machinery.StatePoweroff}, nil)
		r.Already, r.already = true, op.already+"; \"vm check\" tells why it cannot be used"
		return r
	}
	if err != nil && (op.already == "" || !errors.Is(err, machinery.ErrStateReached)) {
		return newVMResult(op.op, name, machinery.Status{}, err)
	}
	status, stateErr := m.State(look, name)
	if stateErr != nil {
		return newVMResult(op.op, name, machinery.Status{}, stateErr)
	}
	r := newVMResult(op.op, name, status, nil)
	if err != nil {
		r.Already, r.already = true, op.already
	}
	return r
}
