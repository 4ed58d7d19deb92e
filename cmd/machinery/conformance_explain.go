package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
)

// explainCommand is "machinery conformance explain".
func explainCommand(a *app) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "explain ID...",
		Short: "Explains requirements: the rule, why it matters, how to run it.",
		Long: `Explains requirements: the rule, what happens to a sandbox whose driver breaks
it, where it comes from, what is needed to test it, and how to run it alone.`,
		Example: `  machinery conformance explain MM-RESTORE-003
  machinery conformance explain 'MM-STOP-*'`,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			if len(patterns) == 0 {
				return usage(cmd, "name a requirement; %q shows their ids", "machinery conformance list")
			}
			chosen, err := chosenRequirements(cmd, patterns)
			if err != nil {
				return err
			}
			if asJSON {
				return a.writeJSON(chosen)
			}
			for i, r := range chosen {
				if i > 0 {
					fmt.Fprintln(a.out)
				}
				fmt.Fprint(a.out, explanation(r, a.outTerm.width))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// explanation is all that is known of a requirement, for people.
func explanation(r conformance.Requirement, width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", r.ID, r.Level)
	for _, field := range [][2]string{
		{"Rule", r.Rule},
		{"Why", r.Why},
		{"Source", r.Source},
		{"Operation", string(r.Op)},
		{"Applies to", appliesTo(r)},
		{"Lab needs", labNeeds(r)},
	} {
		b.WriteString(hanging(fmt.Sprintf("  %-11s ", field[0]), field[1], width))
	}
	b.WriteString("  Run it      machinery conformance run --driver NAME --lab NAME \\\n" +
		"                --only " + r.ID + "\n")
	return b.String()
}

// appliesTo says which drivers a requirement is about.
func appliesTo(r conformance.Requirement) string {
	if r.Capability == "" {
		return "every driver"
	}
	return fmt.Sprintf("drivers that have the optional operation %s (%s)", r.Capability, r.Capability.Doc())
}

// labNeeds says what a lab has to offer.
func labNeeds(r conformance.Requirement) string {
	if len(r.Needs) == 0 {
		return "nothing: it runs without a lab"
	}
	needs := make([]string, len(r.Needs))
	for i, n := range r.Needs {
		needs[i] = string(n)
	}
	return strings.Join(needs, ", ")
}
