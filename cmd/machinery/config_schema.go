package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// configSchemaCommand is "machinery config schema".
func configSchemaCommand(a *app) *cobra.Command {
	strict, reference := false, false
	cmd := &cobra.Command{
		Use:   "schema DRIVER",
		Short: "Writes what a driver's configuration can hold, for editors or people.",
		Long: `Writes the JSON Schema of a driver's configuration. Editors complete keys with
it, show what they are for, and mark what is wrong: those with the YAML language
server find it by a first line in the configuration such as

  # yaml-language-server: $schema=qemu.schema.json

With --reference it is a page for people, in Markdown.`,
		Example: "  machinery config schema qemu > qemu.schema.json\n  machinery config schema kvm --reference",
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usage(cmd, "name one driver: %s", orWords(driverNames()))
			case strict && reference:
				return usage(cmd, "--strict and --reference exclude each other")
			}
			d, err := machinery.Lookup(args[0])
			if err != nil {
				return usage(cmd, "there is no driver %q; %s", args[0], meant(args[0], driverNames()))
			}
			if reference {
				fmt.Fprint(a.out, referenceMarkdown(d))
				return nil
			}
			text, err := d.Schema.JSONSchema(strict)
			if err != nil {
				return failed(err)
			}
			fmt.Fprint(a.out, string(text))
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return driverNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "refuse unknown keys and what else is warned of")
	cmd.Flags().BoolVar(&reference, "reference", false, "write a page for people, in Markdown")
	return cmd
}

// orWords are words of which one is to be chosen.
func orWords(words []string) string {
	text := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			text += " or "
		default:
			text += ", "
		}
		text += w
	}
	return text
}
