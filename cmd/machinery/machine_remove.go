package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config/edit"
)

// machineRemoveCommand is "machinery machine remove".
func machineRemoveCommand(a *app) *cobra.Command {
	o := vmOptions{degraded: true}
	force := false
	cmd := &cobra.Command{
		Use:   "remove -c FILE NAME...",
		Short: "Removes machines from a configuration.",
		Long: `Removes machines from a configuration file, with the comments that belong to
them. Their disks, snapshots and other files are not touched.

A machine that runs, or that a program holds, stays: without its configuration
it could not be stopped by its name any more. With --force the driver is not
asked, and it is removed all the same. If one cannot be removed, none is. A file
whose last machine is gone cannot be used until another is added.

Exit status: 0 if all were removed, 1 if none was, 2 for wrong usage.`,
		Example: "  machinery machine remove -c qemu.yaml win10_1 win10_2\n  machinery machine remove -c kvm.yaml --force win10_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			d, _, err := editable(cmd, o.config, o.driver)
			if err != nil {
				return err
			}
			known := machineNames(cmd, o.config, o.driver)
			if len(args) == 0 {
				if len(known) == 0 {
					return usage(cmd, "name the machines to remove; the configuration has none at all")
				}
				return usage(cmd, "name the machines to remove; the configuration has %s", quotedList(known))
			}
			var names []string
			for _, name := range args {
				if !slices.Contains(known, name) && known != nil { // a file that cannot be read says itself why
					return unknownMachine(cmd, name, known)
				}
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			if !force && known != nil {
				if err := o.idle(cmd, a, names); err != nil {
					return err
				}
			}
			if err := edit.Update(o.config, d.Schema, func(f *edit.File) error {
				var problems []error
				for _, name := range names {
					problems = append(problems, f.RemoveMachine(name))
				}
				return errors.Join(problems...)
			}); err != nil {
				return failed(err)
			}
			for _, name := range names {
				fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s: removed from %s\n", oneLine(name), oneLine(o.config))))
			}
			if len(names) == len(known) {
				a.say("machinery: ", fmt.Sprintf("%s has no machine any more, and cannot be used until one is added, with \"machinery machine add\"", oneLine(o.config)))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "the configuration `file`")
	f.StringVar(&o.driver, "driver", "", "the driver's `name` (default the stem of the file's name)")
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "`directory` of what belongs to running machines (default the driver's)")
	f.DurationVar(&o.timeout, "timeout", lookTimeout, "give up asking the driver after this `time`, such as 90s or 5m")
	f.BoolVar(&force, "force", false, "do not ask the driver whether they run")
	_ = cmd.RegisterFlagCompletionFunc("driver", cobra.FixedCompletions(driverNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		left := slices.DeleteFunc(machineNames(cmd, o.config, o.driver), func(name string) bool { return slices.Contains(args, name) })
		return left, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// forceHint is what to do where it cannot be told whether a machine runs.
const forceHint = "nothing was removed; if you know that it is off, say --force"

// idle is an error unless none of the machines runs or is held by a program.
func (o *vmOptions) idle(cmd *cobra.Command, a *app, names []string) error {
	var problems []error
	err := o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
		runs, err := machinery.Account(ctx, m)
		if err != nil && !errors.Is(err, machinery.ErrUnsupported) {
			return failed(err)
		}
		for _, name := range names {
			problems = append(problems, busyMachine(ctx, m, runs, name))
		}
		return nil
	})
	if f, is := errors.AsType[*failure](err); is && f.err != nil {
		return failed(also(f.err, "so it cannot be told whether a machine runs: %s", forceHint))
	}
	if err != nil {
		return err
	}
	return failed(errors.Join(problems...))
}

// busyMachine is why a machine must not be removed; nil if it is off and nobody's.
func busyMachine(ctx context.Context, m machinery.Machinery, runs []machinery.Run, name string) error {
	for _, run := range runs {
		if run.Configured && run.Machine == name && run.Held {
			return fmt.Errorf("%q is held by process %d and was not removed; wait until that lets go of it, or end it", name, run.Owner)
		}
	}
	if isOff(ctx, m, name) {
		return nil
	}
	status, err := m.State(ctx, name)
	switch {
	case err != nil:
		return fmt.Errorf("%q may run: %w\n%s", name, err, forceHint)
	case status.State == machinery.StateError:
		return fmt.Errorf("%q may run: its state is %s\n%s", name, status, forceHint)
	}
	return fmt.Errorf("%q is %s and was not removed; switch it off first, with \"machinery vm stop\"", name, status)
}
