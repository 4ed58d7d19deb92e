package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// vmCheckCommand is "machinery vm check".
func vmCheckCommand(a *app) *cobra.Command {
	var o vmOptions
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Tells whether the machines could be started here.",
		Long: `Tells whether the machines of a configuration could be started on this host: it
reads the configuration and the files that it names, asks the hypervisor for its
version, and checks what the driver needs. It starts no machine.

A disk that was changed since its snapshot was made is found as a restore would
find it, if there is a manifest beside the snapshot ("vm snapshot seal"). Files
whose times are not those in it, as after a copy, are read through, which takes
as long as copying them.

Exit status: 0 if nothing is missing, 1 if something is.`,
		Example: "  machinery vm check -c qemu.yaml\n  machinery vm check -c qemu.yaml --strict --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error { return a.check(ctx, m, o.driverName(), o.json) })
		},
	}
	o.flags(cmd, checkTimeout)
	return cmd
}

// checkTimeout is enough to read some hundred gigabytes.
const checkTimeout = 15 * time.Minute

// snapshotChecker is a driver that can tell whether a restore would find a
// machine's files to be what its snapshot was made with.
type snapshotChecker interface {
	CheckSnapshot(ctx context.Context, name string) error
}

// checked is what "vm check" has found, for programs.
type checked struct {
	OK       bool       `json:"ok"`
	Version  string     `json:"version,omitempty"`
	Missing  *vmError   `json:"missing,omitempty"`
	Machines []vmResult `json:"machines"`
}

func (a *app) check(ctx context.Context, m machinery.Machinery, driver string, asJSON bool) error {
	c := checked{OK: true, Machines: []vmResult{}}
	say := func(format string, args ...any) {
		if !asJSON {
			fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf(format, args...)))
		}
	}
	found := func(what string, err error) {
		switch {
		case err == nil:
			say("%s\n", what)
		case !errors.Is(err, machinery.ErrUnsupported): // else there is nothing to check
			c.OK = false
			c.Missing = newVMResult("", "", machinery.Status{}, err).Error
			a.complain(err)
		}
	}
	version, err := machinery.Version(ctx, m)
	if err == nil {
		c.Version = version
		say("hypervisor: %s %s\n", driver, oneLine(version))
	}
	// Where the version cannot be told, the check of what is needed says why.
	found("dependencies: all there", machinery.CheckDependencies(ctx, m))
	for _, name := range machinery.Names(m.Machines()) {
		status, err := m.State(ctx, name)
		if err == nil && status.State == machinery.StateError {
			err = &machinery.Error{Op: machinery.OpState, Machine: name, Kind: machinery.ErrConfig, Status: status, Reason: status.String(), Err: errors.New(status.Detail)}
		}
		if d, is := m.(snapshotChecker); is && err == nil {
			err = d.CheckSnapshot(ctx, name)
		}
		r := newVMResult(machinery.OpState, name, status, err)
		c.Machines = append(c.Machines, r)
		if err != nil {
			c.OK = false
			a.complain(err)
			continue
		}
		say("%s", r.text())
	}
	if asJSON {
		if err := a.writeJSON(c); err != nil {
			return err
		}
	}
	if !c.OK {
		return &failure{status: exitFailed}
	}
	return nil
}
