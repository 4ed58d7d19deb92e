package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
)

// listCommand is "machinery conformance list".
func listCommand(a *app) *cobra.Command {
	var asJSON, asMarkdown bool
	cmd := &cobra.Command{
		Use:   "list [PATTERN...]",
		Short: "Lists the requirements.",
		Long: `Lists the requirements: the id, how binding it is, and the rule. A pattern is
an id, with * for any characters.`,
		Example: `  machinery conformance list
  machinery conformance list 'MM-STOP-*'
  machinery conformance list --json`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			if asJSON && asMarkdown {
				return usage(cmd, "--json and --markdown exclude each other")
			}
			chosen, err := chosenRequirements(cmd, patterns)
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.writeJSON(chosen)
			case asMarkdown:
				fmt.Fprint(a.out, catalogueMarkdown(chosen))
				return nil
			}
			for _, r := range chosen {
				fmt.Fprint(a.out, hanging(fmt.Sprintf("%-15s  %-6s  ", r.ID, r.Level), r.Rule, a.outTerm.width))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON, with all that is known of each")
	cmd.Flags().BoolVar(&asMarkdown, "markdown", false, "write Markdown, with all that is known of each")
	return cmd
}

// chosenRequirements returns the requirements that match one of the patterns,
// or all if there is none. A pattern that matches nothing is a mistake.
func chosenRequirements(cmd *cobra.Command, patterns []string) ([]conformance.Requirement, error) {
	all := conformance.Requirements()
	if len(patterns) == 0 {
		return all, nil
	}
	matches := func(pattern, id string) bool {
		ok, err := path.Match(strings.ToUpper(pattern), id)
		return err == nil && ok
	}
	for _, p := range patterns {
		if !slices.ContainsFunc(all, func(r conformance.Requirement) bool { return matches(p, r.ID) }) {
			return nil, usage(cmd, "there is no requirement %q; %q shows their ids", p, "machinery conformance list")
		}
	}
	return slices.DeleteFunc(all, func(r conformance.Requirement) bool {
		return !slices.ContainsFunc(patterns, func(p string) bool { return matches(p, r.ID) })
	}), nil
}
