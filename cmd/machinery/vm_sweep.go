package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmSweepCommand is "machinery vm sweep".
func vmSweepCommand(a *app) *cobra.Command {
	o := vmOptions{degraded: true}
	var s vmSweep
	cmd := &cobra.Command{
		Use:   "sweep [-c FILE] [MACHINE...]",
		Short: "Clears up what no one owns.",
		Long: `Removes what is left of machines whose driver died and whose hypervisor has
ended: sockets, ledgers, disposable disks. It shows it first and asks. What a
living program holds is left alone. So is a machine that runs on though nobody
holds it, as every machine does between two commands; --running ends those too.

It looks at all that is in the driver's directory for running machines, also of
configurations that have been changed or deleted since; without -c, at that
alone. Name machines, or the IDs that are shown for those without a name, to
clear up no others.

Exit status: 0 if nothing is left over any more, or with --dry-run, 1 if
something is, or you said no, 2 for wrong usage. A machine that runs is not left
over.`,
		Example: "  machinery vm sweep -c qemu.yaml\n  machinery vm sweep --dry-run\n  machinery vm sweep -c qemu.yaml --running --yes win10_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.json && !s.yes && !s.dry {
				return usage(cmd, "--json asks no questions; say --yes or --dry-run too")
			}
			do := func(ctx context.Context, m machinery.Machinery) error { return s.run(ctx, a, cmd, &o, m, args) }
			if o.config != "" {
				return o.with(a, cmd, do)
			}
			return o.withBare(a, cmd, do)
		},
	}
	o.flags(cmd, time.Minute)
	f := cmd.Flags()
	f.BoolVarP(&s.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&s.dry, "dry-run", false, "only show what would be done")
	f.BoolVar(&s.running, "running", false, "end machines too that run and that nobody holds")
	return cmd
}

// bareDriver is the driver that needs no configuration to find what was left: its machines are processes, not domains of a daemon that
// has to be reached.
const bareDriver = "qemu"

// withBare is with for no configuration: a driver that has no machine of its
// own and can account for those of others.
func (o *vmOptions) withBare(a *app, cmd *cobra.Command, f func(ctx context.Context, m machinery.Machinery) error) error {
	name := o.driver
	switch names := driverNames(); {
	case o.timeout <= 0:
		return usage(cmd, "--timeout must be more than 0; it is %v", o.timeout)
	case name == "" && !slices.Contains(names, bareDriver):
		return usage(cmd, "name the configuration file, with -c, or the driver, with --driver")
	case name == "":
		name = bareDriver
	case !slices.Contains(names, name):
		return usage(cmd, "there is no driver %q; %s", name, meant(name, names))
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
	defer cancel()
	m, err := platformBare(ctx, name, o.driverOptions(a))
	if err != nil {
		return failed(err)
	}
	defer m.Close()
	return f(ctx, m)
}

// vmSweep is what a user wants of a sweep.
type vmSweep struct{ yes, dry, running bool }

// sweptRun is what became of a run, for programs.
type sweptRun struct {
	machinery.Run
	// Swept is set if nothing of it is left.
	Swept bool     `json:"swept"`
	Error *vmError `json:"error,omitempty"`
}

func (s *vmSweep) run(ctx context.Context, a *app, cmd *cobra.Command, o *vmOptions, m machinery.Machinery, names []string) error {
	runs, err := machinery.Account(ctx, m)
	if err != nil {
		return failed(err)
	}
	chosen, err := chosenRuns(cmd, m, runs, names)
	if err != nil {
		return err
	}
	results := []sweptRun{}
	stuck, runsOn := 0, 0
	for _, run := range chosen {
		does := s.does(run)
		if !o.json {
			a.showRun(run, does, o.config != "")
		}
		switch {
		case does:
			results = append(results, sweptRun{Run: run})
		case run.Left != "":
			stuck++
		case !run.Held && run.Problem == "" && run.PID > 0:
			runsOn++
		}
	}
	if !o.json {
		a.showRest(len(results), stuck, runsOn)
	}
	var left error
	if stuck > 0 {
		left = &failure{status: exitFailed}
	}
	switch {
	case s.dry && o.json:
		return a.writeJSON(results)
	case s.dry:
		return nil
	case len(results) == 0 && o.json:
		return cmp.Or(a.writeJSON(results), left)
	case len(results) == 0:
		return left
	}
	if err := a.confirm(cmd, s.yes); err != nil {
		return err
	}
	// The time that the answer took is not the sweep's.
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
	defer cancel()
	swept := 0
	for i := range results {
		r := &results[i]
		if err := machinery.Sweep(ctx, m, r.ID, s.running); err != nil {
			r.Error = newVMResult(machinery.OpSweep, r.Machine, machinery.Status{}, err).Error
			a.complain(err)
			continue
		}
		r.Swept = true
		swept++
	}
	if o.json {
		if err := a.writeJSON(results); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "Cleared away: %d of %d.\n", swept, len(results))
	}
	if swept < len(results) {
		return &failure{status: exitFailed}
	}
	return left
}

// showRest tells what is not to be cleared up.
func (a *app) showRest(does, stuck, runsOn int) {
	switch {
	case runsOn == 1:
		fmt.Fprintln(a.out, "1 machine runs on, held by nobody; --running would end it.")
	case runsOn > 1:
		fmt.Fprintf(a.out, "%d machines run on, held by nobody; --running would end them.\n", runsOn)
	}
	switch {
	case stuck > 0:
		fmt.Fprintf(a.out, "Left over, and to be cleared up by hand: %d.\n", stuck)
	case does == 0 && runsOn == 0:
		fmt.Fprintln(a.out, "Nothing is to be cleared up.")
	}
}

// does is whether a run is to be swept.
func (s *vmSweep) does(run machinery.Run) bool {
	if run.Held || run.Problem != "" {
		return false
	}
	return run.Left != "" || s.running && run.PID > 0
}

// showRun tells what will become of a run. configured is whether there is a
// configuration that it could be in.
func (a *app) showRun(run machinery.Run, does, configured bool) {
	show := func(verb string) {
		fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%-6s %s\n", verb, describeRun(run, configured))))
	}
	switch {
	case run.Problem != "":
		show("leave")
		fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("       %s\n", oneLine(run.Problem))))
		return
	case !does:
		show("leave")
		return
	case run.PID > 0:
		show("end")
	default:
		show("remove")
	}
	for _, file := range run.Files {
		fmt.Fprintf(a.out, "       %s\n", oneLine(file))
	}
}

// chosenRuns are those of the named machines; all, if none is named.
func chosenRuns(cmd *cobra.Command, m machinery.Machinery, runs []machinery.Run, names []string) ([]machinery.Run, error) {
	if len(names) == 0 {
		return runs, nil
	}
	var chosen []machinery.Run
	for _, run := range runs {
		if slices.Contains(names, run.Machine) || slices.Contains(names, run.ID) {
			chosen = append(chosen, run)
		}
	}
	for _, name := range names {
		known := slices.Contains(machinery.Names(m.Machines()), name) ||
			slices.ContainsFunc(runs, func(run machinery.Run) bool { return run.Machine == name || run.ID == name })
		if !known {
			return nil, usage(cmd, "there is no machine %q, and no run of one", name)
		}
	}
	return chosen, nil
}
