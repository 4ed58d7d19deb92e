package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery/config"
)

// machineListCommand is "machinery machine list".
func machineListCommand(a *app) *cobra.Command {
	var o machineOptions
	cmd := &cobra.Command{
		Use:   "list -c FILE",
		Short: "Lists the machines in a configuration.",
		Long: `Lists the machines in a configuration file, and the line that each is on (LINE).
It asks no hypervisor and looks at no other file: "vm list" tells what runs, and
"config check" what is wrong with the file. With --json it has all values of
each machine, with the defaults of keys that the file does not have; those that
are sensitive are not shown.

Exit status: 0 if nothing is wrong with the file, 1 if something is or it cannot
be read, 2 for wrong usage.`,
		Example: "  machinery machine list -c qemu.yaml\n  machinery machine list -c qemu.yaml --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, s, err := editable(cmd, o.config, o.driver)
			if err != nil {
				return err
			}
			doc, err := config.Options{Static: true}.Load(o.config, d.Schema)
			problems, _ := errors.AsType[config.Problems](err)
			if doc == nil {
				return failed(err)
			}
			for _, p := range problems.Errors() {
				a.say("machinery: ", p.Detail())
			}
			if o.json {
				list := shownSection{}
				for _, m := range doc.Machines() {
					list = append(list, shownValue{key: m.Name, value: shownValues(m.Values, s.fields)})
				}
				if err := a.writeJSON(list); err != nil {
					return err
				}
				return unusable(problems)
			}
			w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tLINE\tSYSTEM\tADDRESS\tTAGS")
			for _, m := range doc.Machines() {
				system := strings.Join(strings.Fields(strings.Join([]string{s.text(m, "platform"), s.text(m, "os_version"), s.text(m, "architecture")}, " ")), " ")
				tags := ""
				if s.has("tags") {
					tags = strings.Join(m.Strings("tags"), " ")
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", oneLine(m.Name), m.Position().Line, oneLine(system), oneLine(s.text(m, "ip")), oneLine(tags))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			return unusable(problems)
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "write JSON")
	return cmd
}

// unusable is the failure of a command that has told what is wrong with a file; nil if nothing is.
func unusable(problems config.Problems) error {
	if len(problems.Errors()) == 0 {
		return nil
	}
	return &failure{status: exitFailed}
}

// machineNames are the names of the machines in a configuration file, for a shell to complete; none if it cannot be read.
func machineNames(cmd *cobra.Command, path, driver string) []string {
	d, _, err := editable(cmd, path, driver)
	if err != nil {
		return nil
	}
	doc, _ := config.Options{Static: true}.Load(path, d.Schema)
	if doc == nil {
		return nil
	}
	var names []string
	for _, m := range doc.Machines() {
		names = append(names, m.Name)
	}
	return names
}
