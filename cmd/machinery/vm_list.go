package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// lookTimeout is how long the commands may take that only look.
const lookTimeout = 30 * time.Second

// vmListCommand is "machinery vm list".
func vmListCommand(a *app) *cobra.Command {
	o := vmOptions{problems: true, degraded: true}
	cmd := &cobra.Command{
		Use:   "list -c FILE",
		Short: "Lists the machines.",
		Long: `Lists the machines of a configuration: for how long they have been running
(AGE), and the process of the driver that holds them (OWNER; "-" is nobody).
"vm state" tells what they do. A machine whose network traffic is recorded is
named below, with the file. What is left over of runs whose driver died is
listed below, also of machines that are not in the configuration (any more);
"vm sweep" clears it up.`,
		Example: "  machinery vm list -c qemu.yaml\n  machinery vm list -c qemu.yaml --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				runs, err := machinery.Account(ctx, m)
				if err != nil && !errors.Is(err, machinery.ErrUnsupported) {
					return failed(err)
				}
				list := listed(m.Machines(), runs)
				for i := range list {
					list[i].Recording = recording(ctx, m, list[i].Name)
				}
				if o.json {
					return a.writeJSON(list)
				}
				return a.listMachines(list, runs)
			})
		},
	}
	o.flags(cmd, lookTimeout)
	return cmd
}

// listedMachine is a machine, and its run if there is one or something is left
// of one.
type listedMachine struct {
	machinery.Machine
	Run *machinery.Run `json:"run,omitempty"`
	// Recording is the file to which its traffic is being recorded.
	Recording string `json:"recording,omitempty"`
}

func listed(machines []machinery.Machine, runs []machinery.Run) []listedMachine {
	list := make([]listedMachine, len(machines))
	for i, machine := range machines {
		list[i].Machine = machine
		for j, run := range runs {
			if run.Configured && run.Machine == machine.Name {
				list[i].Run = &runs[j]
			}
		}
	}
	return list
}

// listMachines writes the table of machines, and below it what is left over or
// not in the configuration.
func (a *app) listMachines(machines []listedMachine, runs []machinery.Run) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tOWNER\tAGE\tSYSTEM\tADDRESS\tTAGS")
	for _, machine := range machines {
		owner, since := "-", "-"
		if run := machine.Run; run != nil {
			if run.Held {
				owner = "?"
				if run.Owner > 0 {
					owner = fmt.Sprint(run.Owner)
				}
			}
			if run.PID > 0 {
				since = age(time.Since(run.Since))
			}
		}
		system := strings.TrimSpace(strings.Join([]string{machine.Platform, machine.OSVersion, machine.Architecture}, " "))
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(machine.Name), owner, since, oneLine(system), oneLine(machine.IP), oneLine(strings.Join(machine.Tags, " ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, machine := range machines {
		if machine.Recording != "" {
			fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s: its traffic is recorded to %s\n", oneLine(machine.Name), oneLine(machine.Recording))))
		}
	}
	for _, run := range runs {
		if run.Left != "" || !run.Configured {
			fmt.Fprint(a.out, a.outTerm.fold(describeRun(run, true)+"\n"))
		}
	}
	return nil
}

// describeRun says on one line what there is of a run. configured is whether
// there is a configuration for it to be in.
func describeRun(run machinery.Run, configured bool) string {
	name := runName(run)
	text := fmt.Sprintf("%s: left over for %s: %s", name, age(time.Since(run.Since)), oneLine(run.Left))
	if run.Left == "" {
		text = fmt.Sprintf("%s: %s (process %d) for %s, held by ", name, oneLine(run.Status.String()), run.PID, age(time.Since(run.Since)))
		switch {
		case !run.Held:
			text += "nobody"
		case run.Owner == 0:
			text += "another driver"
		default:
			text += fmt.Sprintf("process %d", run.Owner)
		}
	}
	if configured && !run.Configured {
		text += "; not configured here"
	}
	return text
}

// runName is what a run is called on the command line and in what is said: by
// its machine, or by its ID where that is not known.
func runName(run machinery.Run) string {
	if run.Machine == "" {
		return oneLine(run.ID)
	}
	return oneLine(run.Machine)
}

// age is a time as a number of its largest unit, such as "5m".
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
