package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// driversCommand is "machinery drivers".
func driversCommand(a *app) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "drivers",
		Short: "Lists the drivers that this program has.",
		Long: `Lists the drivers that this program has, with the labs that the conformance
suite can test each on.`,
		Example: "  machinery drivers\n  machinery drivers --json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.driversJSON()
			}
			for _, d := range machinery.Drivers() {
				fmt.Fprint(a.out, hanging(fmt.Sprintf("%-10s ", d.Name), d.Doc, a.outTerm.width))
				for _, lab := range platformLabs(d.Name) {
					fmt.Fprint(a.out, hanging(fmt.Sprintf("           --lab %-5s ", lab.name), lab.doc, a.outTerm.width))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) driversJSON() error {
	type labJSON struct {
		Name string `json:"name"`
		Doc  string `json:"doc"`
	}
	type driverJSON struct {
		Name string    `json:"name"`
		Doc  string    `json:"doc"`
		Labs []labJSON `json:"labs"`
	}
	all := []driverJSON{}
	for _, d := range machinery.Drivers() {
		entry := driverJSON{Name: d.Name, Doc: d.Doc, Labs: []labJSON{}}
		for _, lab := range platformLabs(d.Name) {
			entry.Labs = append(entry.Labs, labJSON{lab.name, lab.doc})
		}
		all = append(all, entry)
	}
	return a.writeJSON(all)
}

// driverNames lists the registered drivers.
func driverNames() []string {
	var names []string
	for _, d := range machinery.Drivers() {
		names = append(names, d.Name)
	}
	return names
}
