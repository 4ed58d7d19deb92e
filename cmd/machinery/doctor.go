package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// doctorOptions are the flags of "doctor".
type doctorOptions struct {
	configs    []string
	runtimeDir string
	dumps      string
	timeout    time.Duration
	deep       bool
	strict     bool
	json       bool
}

// doctorCommand is "machinery doctor".
func doctorCommand(a *app) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [DRIVER] [-c FILE]...",
		Short: "Checks the whole installation, and says what to do.",
		Long: `Checks the whole installation, and says for each thing that is wrong what to do:
the configuration, the hypervisor's programs and versions, whether a guest runs
under KVM if a machine asks for it, rights and owners of files, directories and
the room in them, network interfaces, the right to record traffic, each
machine's files and whether its snapshot fits them, what runs have left over,
and whether two configurations have machines of one name or address. It changes
nothing.

The configurations are those in the current directory that are called after a
driver (qemu.yaml), or those named with -c. With a driver for which there is
none, it tells whether this host has what that driver needs in any case.

Run it as the user that the sandbox runs as: rights are those of this user.

Exit status: 0 if there is no problem, though there may be warnings, 1 if there
is one.`,
		Example: `  machinery doctor
  machinery doctor qemu
  machinery doctor -c qemu.yaml -c kvm.yaml --deep`,
		RunE: func(cmd *cobra.Command, args []string) error {
			parts, err := o.choose(cmd, args)
			if err != nil {
				return err
			}
			if o.timeout <= 0 {
				return usage(cmd, "--timeout must be more than 0; it is %v", o.timeout)
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
			defer cancel()
			return o.examine(ctx, a, parts)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.configs, "config", "c", nil, "a configuration `file`; can be repeated")
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "`directory` of what belongs to running machines (default the driver's)")
	f.StringVar(&o.dumps, "dumps", "", "look also whether this `directory` has room for memory dumps")
	f.DurationVar(&o.timeout, "timeout", checkTimeout, "give up after this `time`, such as 90s or 5m")
	f.BoolVar(&o.deep, "deep", false, "read snapshots and changed files through, and try a guest without KVM too")
	f.BoolVar(&o.strict, "strict", false, "take unknown keys in the configuration for errors")
	f.BoolVar(&o.json, "json", false, "write JSON")
	cmd.ValidArgsFunction = cobra.FixedCompletions(driverNames(), cobra.ShellCompDirectiveNoFileComp)
	return cmd
}

// doctorPart is what was looked at with one driver, or with none in particular.
type doctorPart struct {
	Driver   string              `json:"driver,omitempty"`
	File     string              `json:"file,omitempty"`
	Findings []machinery.Finding `json:"findings"`
}

// choose finds the configurations to look at.
func (o *doctorOptions) choose(cmd *cobra.Command, args []string) ([]doctorPart, error) {
	for _, arg := range args {
		if !slices.Contains(driverNames(), arg) && (strings.ContainsRune(arg, '/') || strings.Contains(arg, ".y")) {
			return nil, usage(cmd, "%q is no driver; write -c before each configuration file", arg)
		}
	}
	if len(args) > 1 {
		return nil, usage(cmd, "name one driver at most, not %d", len(args))
	}
	drivers, named := driverNames(), ""
	if len(args) == 1 {
		named = args[0]
		if !slices.Contains(drivers, named) {
			return nil, usage(cmd, "there is no driver %q; %s", named, meant(named, drivers))
		}
		drivers = []string{named}
	}
	var parts []doctorPart
	for _, path := range o.configs {
		d, err := driverOf(cmd, path, named)
		if err != nil {
			return nil, err
		}
		// A file that is named twice, by whatever path, would have all its machines' names and addresses twice.
		if !slices.ContainsFunc(parts, func(o doctorPart) bool { return o.Driver == d.Name && sameFile(o.File, path) }) {
			parts = append(parts, doctorPart{Driver: d.Name, File: path})
		}
	}
	if len(o.configs) > 0 {
		return parts, nil
	}
	var looked []string
	for _, name := range drivers {
		looked = append(looked, name+".yaml")
		if _, err := os.Lstat(name + ".yaml"); err == nil {
			parts = append(parts, doctorPart{Driver: name, File: name + ".yaml"})
		}
	}
	switch {
	case len(parts) > 0:
		return parts, nil
	case named != "":
		return []doctorPart{{Driver: named}}, nil
	}
	return nil, usage(cmd, "there is no %s in the current directory; name a configuration with -c, or a driver", strings.Join(looked, " and no "))
}

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return a == b
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// doctorReport is what "doctor" has found, for programs.
type doctorReport struct {
	OK       bool         `json:"ok"`
	Problems int          `json:"problems"`
	Warnings int          `json:"warnings"`
	Parts    []doctorPart `json:"parts"`
	// Error is why not everything was looked at.
	Error string `json:"error,omitempty"`
}

// examine looks at all parts, and tells what was found.
func (o *doctorOptions) examine(ctx context.Context, a *app, parts []doctorPart) error {
	report := doctorReport{}
	tell := func(p doctorPart) {
		for _, f := range p.Findings {
			switch f.Level {
			case machinery.LevelProblem:
				report.Problems++
			case machinery.LevelWarning:
				report.Warnings++
			}
		}
		report.Parts = append(report.Parts, p)
		if !o.json {
			a.tellPart(p)
		}
	}
	tell(doctorPart{Findings: append(userFindings(parts), commonFindings(parts)...)})
	var ended error
	for _, p := range parts {
		options := machinery.DiagnoseOptions{Options: machinery.Options{RuntimeDir: o.runtimeDir, Strict: o.strict}, Deep: o.deep, DumpDir: o.dumps}
		found, err := machinery.Diagnose(ctx, p.Driver, p.File, options)
		p.Findings = append([]machinery.Finding{}, found...) // in JSON a list, though it be empty
		if p.File == "" {
			p.Findings = append([]machinery.Finding{{Area: machinery.AreaConfiguration, Subject: p.Driver + ".yaml", Level: machinery.LevelWarning,
				What: "it is not in the current directory, so no machine was looked at", Do: "name one with -c, or write one with \"machinery config init .\""}}, p.Findings...)
		}
		tell(p)
		if ended = err; err != nil {
			break
		}
	}
	report.OK = report.Problems == 0 && ended == nil
	if ended != nil {
		report.Error = inWords(a.command, ended)
	}
	if o.json {
		if err := a.writeJSON(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.out, "\n"+report.text(ended == nil))
	}
	if ended != nil {
		return failed(ended)
	}
	if !report.OK {
		return &failure{status: exitFailed}
	}
	return nil
}

// text is the report in one sentence. all is whether everything was looked at.
func (r doctorReport) text(all bool) string {
	var parts []string
	if r.Problems > 0 {
		parts = append(parts, counted(r.Problems, "problem"))
	}
	if r.Warnings > 0 {
		parts = append(parts, counted(r.Warnings, "warning"))
	}
	text := cmp.Or(strings.Join(parts, " and "), "no problem")
	if !all {
		return "Not everything was looked at; so far " + text + "."
	}
	return text + "."
}

// tellPart writes findings for people: by area, one line each, with what to do
// below.
func (a *app) tellPart(p doctorPart) {
	if p.Driver != "" {
		title := p.Driver
		if p.File != "" {
			title += ": " + oneLine(p.File)
		}
		fmt.Fprintf(a.out, "\n%s\n", title)
	}
	var areas []string
	for _, f := range p.Findings {
		if !slices.Contains(areas, f.Area) {
			areas = append(areas, f.Area)
		}
	}
	for _, area := range areas {
		fmt.Fprintf(a.out, "  %s\n", oneLine(area))
		for _, f := range p.Findings {
			if f.Area != area {
				continue
			}
			fmt.Fprint(a.out, hanging(fmt.Sprintf("    %-9s", f.Level), oneLine(f.Subject+": "+libraryWords.Replace(f.What)), a.outTerm.width))
			if f.Do != "" {
				fmt.Fprint(a.out, hanging("             do: ", oneLine(f.Do), a.outTerm.width))
			}
		}
	}
}
