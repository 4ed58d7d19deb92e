package main

import (
	"context"
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
	o := vmOptions{problems: true}
	cmd := &cobra.Command{
		Use:   "list -c FILE",
		Short: "Lists the machines.",
		Long: `Lists the machines of a configuration as they are configured. "vm state" tells
what they do.`,
		Example: "  machinery vm list -c qemu.yaml\n  machinery vm list -c qemu.yaml --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(a, cmd, func(_ context.Context, m machinery.Machinery) error {
				machines := m.Machines()
				if o.json {
					if machines == nil {
						machines = []machinery.Machine{}
					}
					return a.writeJSON(machines)
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "NAME\tSYSTEM\tADDRESS\tTAGS")
				for _, machine := range machines {
					system := strings.TrimSpace(strings.Join([]string{machine.Platform, machine.OSVersion, machine.Architecture}, " "))
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(machine.Name), oneLine(system), oneLine(machine.IP), oneLine(strings.Join(machine.Tags, " ")))
				}
				return w.Flush()
			})
		},
	}
	o.flags(cmd, lookTimeout)
	return cmd
}
