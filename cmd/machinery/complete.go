package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// completeMachines makes a shell complete the names of machines and drivers on
// a command line that names its configuration before them. What is wrong with
// that is told by the command itself, and gives no names here.
func completeMachines(cmd *cobra.Command, o *vmOptions) {
	// It fails for a flag that does not exist, or has a function already.
	_ = cmd.RegisterFlagCompletionFunc("driver", cobra.FixedCompletions(driverNames(), cobra.ShellCompDirectiveNoFileComp))
	if cmd.Args != nil {
		return // it takes no machines
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		name := o.driverName()
		m, err := machinery.DefaultRegistry.OpenAs(cmd.Context(), name, o.config, machinery.Options{RuntimeDir: o.runtimeDir})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer m.Close()
		var names []string
		for _, name := range machinery.Names(m.Machines()) {
			if !slices.Contains(args, name) {
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
