package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery/config"
)

// configCheckCommand is "machinery config check".
func configCheckCommand(a *app) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Tells all that is wrong with configuration files.",
		Long: `Tells all that is wrong with configuration files, each problem with its place,
its line and what to do. Errors come first. The name of a file says which driver
it is for: qemu.yaml is for the driver "qemu".

Exit status: 0 if the files can be used, though there may be warnings, 1 if one
cannot.`,
		Example: "  machinery config check qemu.yaml\n  machinery config check --strict --static qemu.yaml kvm.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "name the files to check")
			}
			return a.checkConfigs(cmd, o, args)
		},
	}
	o.flags(cmd)
	return cmd
}

// checkedFile is what "config check" has found, for programs.
type checkedFile struct {
	File     string        `json:"file"`
	OK       bool          `json:"ok"`
	Machines int           `json:"machines"`
	Error    string        `json:"error,omitempty"` // why it could not be read at all
	Problems []problemJSON `json:"problems"`
}

type problemJSON struct {
	Severity string `json:"severity"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Path     string `json:"path,omitempty"`
	Problem  string `json:"problem"`
	Hint     string `json:"hint,omitempty"`
	Text     string `json:"text,omitempty"`
}

func (a *app) checkConfigs(cmd *cobra.Command, o configOptions, paths []string) error {
	all := []checkedFile{}
	status := 0
	for _, path := range paths {
		if len(paths) > 1 && strings.HasSuffix(path, schemaSuffix) {
			continue // "config init --schemas" writes those beside the files, where a pattern such as conf/* finds them too
		}
		doc, err := o.load(cmd, path)
		c := checkedFile{File: path, OK: err == nil, Problems: []problemJSON{}}
		problems, told := errors.AsType[config.Problems](err)
		if f, is := errors.AsType[*failure](err); is {
			c.Error = f.Error()
		} else if err != nil && !told {
			if len(paths) == 1 || o.driver != "" {
				return err // of usage: nothing is known of any file then
			}
			c.Error, status = err.Error(), exitUsage
		}
		if doc != nil {
			c.Machines, problems = len(doc.Machines()), doc.Problems()
		}
		problems = slices.Clone(problems)
		slices.SortStableFunc(problems, func(a, b config.Diagnostic) int { return cmp.Compare(a.Severity, b.Severity) })
		for _, p := range problems {
			c.Problems = append(c.Problems, problemJSON{p.Severity.String(), p.Line, p.Column, p.Path, p.Problem, p.Hint, p.Text})
		}
		if !c.OK {
			status = max(status, exitFailed)
		}
		all = append(all, c)
		if !o.json {
			a.tellChecked(c, problems)
		}
	}
	if o.json {
		if err := a.writeJSON(all); err != nil {
			return err
		}
	}
	if status != 0 {
		return &failure{status: status}
	}
	return nil
}

// tellChecked tells people what was found in a file.
func (a *app) tellChecked(c checkedFile, problems config.Problems) {
	if c.Error != "" {
		a.complain(errors.New(c.Error))
		return
	}
	for _, p := range problems {
		fmt.Fprint(a.out, a.outTerm.fold(printable(p.Detail())+"\n"))
	}
	result := "no problem"
	if errs, warnings := len(problems.Errors()), len(problems.Warnings()); errs+warnings > 0 {
		var parts []string
		for _, n := range []struct {
			n    int
			what string
		}{{errs, "error"}, {warnings, "warning"}} {
			if n.n > 0 {
				parts = append(parts, counted(n.n, n.what))
			}
		}
		result = strings.Join(parts, " and ")
	}
	fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s: %s, %s\n", oneLine(c.File), counted(c.Machines, "machine"), result)))
}

// counted is a number of things.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
