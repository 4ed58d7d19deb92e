package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot makes the command tree.
func newRoot(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use:   "machinery",
		Short: "Tests drivers of virtual machines, and drives the machines of one.",
		Long: `Tests drivers of virtual machines for malware sandboxes against a contract,
and drives the machines of one.`,
		Example: `  machinery conformance run --driver qemu --lab fake
  machinery vm start -c qemu.yaml win10_1`,
	}, conformanceCommand(a), vmCommand(a), machineCommand(a), configCommand(a), doctorCommand(a), fakeCommand(a), driversCommand(a), versionCommand(a))
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	needsCommand := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			// Who types the bare name wants to know what it is.
			cmd.InitDefaultHelpFlag()
			fmt.Fprint(a.err, helpText(cmd))
			return &failure{status: exitUsage}
		}
		return needsCommand(cmd, args)
	}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(a.out, helpText(cmd)) })
	root.SetHelpCommand(helpCommand(root))
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { a.command = cmd }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if before := cmd.Flags().Args(); cmd.HasAvailableSubCommands() && len(before) > 0 {
			return cmd.RunE(cmd, before) // a command that there is not is why its flags are not known
		}
		return usage(cmd, "%s", flagWords(err))
	})
	return root
}

// group makes a command of others. Called without one of them it is used
// wrongly: a script whose variable is empty must not take that for success.
func group(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(children...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var names []string
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		if len(args) == 0 {
			return usage(cmd, "%q needs a command: %s", cmd.CommandPath(), strings.Join(names, ", "))
		}
		return usage(cmd, "there is no command %q; %s", cmd.CommandPath()+" "+args[0], meant(args[0], names))
	}
	return cmd
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "%q takes no argument, and was given %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// helpCommand is "machinery help", which unlike Cobra's own fails for a
// command that does not exist.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Tells what a command does.",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd := root
			for _, name := range args {
				var names []string
				var next *cobra.Command
				for _, child := range cmd.Commands() {
					names = append(names, child.Name())
					if child.Name() == name {
						next = child
					}
				}
				if next == nil {
					return usage(cmd, "there is no command %q; %s", cmd.CommandPath()+" "+name, meant(name, names))
				}
				cmd = next
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
