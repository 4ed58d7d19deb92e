package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// vmCommand is "machinery vm".
func vmCommand(a *app) *cobra.Command {
	children := []*cobra.Command{vmListCommand(a), vmStateCommand(a)}
	for _, op := range vmOperations {
		children = append(children, vmOperationCommand(a, op))
	}
	children = append(children, vmCaptureCommand(a))
	return group(&cobra.Command{
		Use:   "vm",
		Short: "Drives the machines of a configuration.",
		Long: `Drives the machines of a configuration file, which also says by its name which
driver to use: qemu.yaml is for the driver "qemu".

Machines run on when a command ends; the next one finds them again.`,
		Example: `  machinery vm start -c qemu.yaml win10_1
  machinery vm state -c qemu.yaml
  machinery vm stop -c qemu.yaml --all`,
	}, append(children, platformVM(a)...)...)
}

// vmOptions are the flags that all commands about machines have.
type vmOptions struct {
	config     string
	driver     string
	runtimeDir string
	timeout    time.Duration
	json       bool
	verbose    bool
	strict     bool
	// problems tells what makes machines unusable, for a command that does
	// not ask for their state.
	problems bool
}

// flags adds the flags to a command.
func (o *vmOptions) flags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "the configuration `file`")
	f.StringVar(&o.driver, "driver", "", "the driver's `name` (default the stem of the file's name)")
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "`directory` of what belongs to running machines (default the driver's)")
	f.DurationVar(&o.timeout, "timeout", timeout, "give up after this `time`, such as 90s or 5m")
	f.BoolVar(&o.json, "json", false, "write JSON")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell on stderr what the driver does")
	f.BoolVar(&o.strict, "strict", false, "take unknown keys in the configuration for errors")
}

// open opens the driver. What is doubtful in the configuration is said on
// stderr.
func (o *vmOptions) open(ctx context.Context, a *app, cmd *cobra.Command) (machinery.Machinery, error) {
	name := o.driver
	switch {
	case o.config == "":
		return nil, usage(cmd, "name the configuration file, with -c")
	case o.timeout <= 0:
		return nil, usage(cmd, "--timeout must be more than 0; it is %v", o.timeout)
	case name == "":
		base := filepath.Base(o.config)
		name = strings.TrimSuffix(base, filepath.Ext(base))
		if _, err := machinery.Lookup(name); err != nil {
			return nil, usage(cmd, "the name of %s should tell the driver, and there is no driver %q; --driver says which to use: %s",
				o.config, name, strings.Join(driverNames(), ", "))
		}
	}
	if _, err := machinery.Lookup(name); err != nil {
		return nil, usage(cmd, "there is no driver %q; %s", name, meant(name, driverNames()))
	}
	level := slog.LevelError + 100 // above all: the errors of operations are printed anyway
	if o.verbose {
		level = slog.LevelDebug
	}
	m, err := machinery.DefaultRegistry.OpenAs(ctx, name, o.config, machinery.Options{
		Logger:     slog.New(slog.NewTextHandler(printableWriter{a.err}, &slog.HandlerOptions{Level: level})),
		RuntimeDir: o.runtimeDir,
		Strict:     o.strict,
		Warn: func(d config.Diagnostic) {
			// What makes a machine unusable is said by the operations on it, and
			// is of no interest to those on others.
			if d.Severity == config.Warning || o.problems {
				a.say("machinery: ", d.Detail())
			}
		},
	})
	return m, failed(err)
}

// printableWriter makes a log safe for a terminal.
type printableWriter struct{ w io.Writer }

func (p printableWriter) Write(b []byte) (int, error) {
	_, err := io.WriteString(p.w, printable(string(b)))
	return len(b), err
}

// with opens the driver, calls f and lets go of the driver, so that machines
// run on.
func (o *vmOptions) with(a *app, cmd *cobra.Command, f func(ctx context.Context, m machinery.Machinery) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("--timeout %v is over", o.timeout))
	defer cancel()
	m, err := o.open(ctx, a, cmd)
	if err != nil {
		return err
	}
	defer func() {
		if closing := m.Close(); closing != nil {
			// Both are said; the operation's decides the status, if it failed.
			if err != nil {
				a.complain(closing)
				return
			}
			err = failed(closing)
		}
	}()
	return f(ctx, m)
}

// chosenMachines returns the machines that the arguments name, each once.
func chosenMachines(cmd *cobra.Command, m machinery.Machinery, args []string, all bool) ([]string, error) {
	known := machinery.Names(m.Machines())
	switch {
	case all && len(args) > 0:
		return nil, usage(cmd, "--all and names exclude each other")
	case all && len(known) == 0:
		return nil, failed(errors.New("the configuration has no machine"))
	case all:
		return known, nil
	case len(args) == 0:
		quoted := make([]string, len(known))
		for i, name := range known {
			quoted[i] = fmt.Sprintf("%q", name)
		}
		return nil, usage(cmd, "name a machine, or say --all; the configuration has %s", strings.Join(quoted, ", "))
	}
	var names []string
	for _, name := range args {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}
