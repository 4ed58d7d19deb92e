package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
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
	children := []*cobra.Command{vmListCommand(a), vmStateCommand(a), vmCheckCommand(a), vmWatchCommand(a), vmSweepCommand(a),
		vmACPIStopCommand(a), vmDumpCommand(a), vmScreenshotCommand(a)}
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
	// endless is set for a command that has no --timeout; grace is what is
	// added to it for what the command does after that.
	endless bool
	grace   time.Duration
	json    bool
	verbose bool
	strict  bool
	// problems tells what makes machines unusable, for a command that does
	// not ask for their state.
	problems bool
	// degraded is set for a command that starts nothing and has to work also
	// where something is gone that starts need.
	degraded bool
}

// flags adds the flags to a command. timeout is the default of --timeout; with 0
// there is none.
func (o *vmOptions) flags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "the configuration `file`")
	f.StringVar(&o.driver, "driver", "", "the driver's `name` (default the stem of the file's name)")
	f.StringVar(&o.runtimeDir, "runtime-dir", "", "`directory` of what belongs to running machines (default the driver's)")
	if o.endless = timeout == 0; !o.endless {
		f.DurationVar(&o.timeout, "timeout", timeout, "give up after this `time`, such as 90s or 5m")
	}
	f.BoolVar(&o.json, "json", false, "write JSON")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell on stderr what the driver does")
	f.BoolVar(&o.strict, "strict", false, "take unknown keys in the configuration for errors")
	completeMachines(cmd, o)
}

// driverName is the driver to use: the one that was named, or the stem of the
// configuration's name.
func (o *vmOptions) driverName() string {
	if o.driver != "" {
		return o.driver
	}
	base := filepath.Base(o.config)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// open opens the driver. What is doubtful in the configuration is said on
// stderr.
func (o *vmOptions) open(ctx context.Context, a *app, cmd *cobra.Command) (machinery.Machinery, error) {
	name := o.driverName()
	switch {
	case o.config == "":
		return nil, usage(cmd, "name the configuration file, with -c")
	case o.timeout <= 0 && !o.endless:
		return nil, usage(cmd, "--timeout must be more than 0; it is %v", o.timeout)
	case o.driver == "":
		// A name that leads nowhere says nothing of a driver.
		if err := isFile(o.config); err != nil {
			return nil, failed(err)
		}
		if _, err := machinery.Lookup(name); err != nil {
			return nil, usage(cmd, "the name of %s should tell the driver, and there is no driver %q; --driver says which to use: %s",
				o.config, name, strings.Join(driverNames(), ", "))
		}
	}
	if _, err := machinery.Lookup(name); err != nil {
		return nil, usage(cmd, "there is no driver %q; %s", name, meant(name, driverNames()))
	}
	var problems []config.Diagnostic
	options := o.driverOptions(a)
	options.Warn = func(d config.Diagnostic) { problems = append(problems, d) }
	m, err := machinery.DefaultRegistry.OpenAs(ctx, name, o.config, options)
	slices.SortStableFunc(problems, func(a, b config.Diagnostic) int { return cmp.Compare(a.Severity, b.Severity) })
	for _, d := range problems {
		// What makes a machine unusable is said by the operations on it, and is of
		// no interest to those on others.
		if d.Severity == config.Warning || o.problems {
			a.say("machinery: ", d.Detail())
		}
	}
	return m, failed(err)
}

// isFile tells what is wrong with the path of a configuration file, and what to do.
func isFile(path string) error {
	if path == "" {
		return errors.New("the name of the configuration file is empty")
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if to, err := os.Readlink(path); err == nil {
			return fmt.Errorf("%s is a symbolic link to %s, where there is no file", path, to)
		}
		return fmt.Errorf("there is no configuration file %s; \"machinery config init %s\" writes an example of each driver's", path, shellQuote(filepath.Dir(path)))
	case err != nil:
		return fmt.Errorf("the configuration file %s cannot be opened: %w", path, pathReason(err))
	case info.IsDir():
		return fmt.Errorf("%s is a directory, not a file with a configuration", path)
	}
	return nil
}

// driverOptions are what a driver is opened with.
func (o *vmOptions) driverOptions(a *app) machinery.Options {
	level := slog.LevelError + 100 // above all: the errors of operations are printed anyway
	if o.verbose {
		level = slog.LevelDebug
	}
	return machinery.Options{
		Logger:     slog.New(slog.NewTextHandler(printableWriter{a.err}, &slog.HandlerOptions{Level: level})),
		RuntimeDir: o.runtimeDir,
		Strict:     o.strict,
		Degraded:   o.degraded,
	}
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
	ctx := cmd.Context()
	if !o.endless {
		timed, cancel := context.WithTimeoutCause(ctx, o.timeout+o.grace, fmt.Errorf("--timeout %v is over", o.timeout))
		defer cancel()
		ctx = timed
	}
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
		return nil, usage(cmd, "name a machine, or say --all; the configuration has %s", quotedList(known))
	}
	var names []string
	for _, name := range args {
		// Before anything begins: half of what was meant is worse than nothing.
		if !slices.Contains(known, name) {
			return nil, unknownMachine(cmd, name, known)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// oneMachine returns the machine that the arguments name.
func oneMachine(cmd *cobra.Command, m machinery.Machinery, args []string) (string, error) {
	known := machinery.Names(m.Machines())
	switch {
	case len(args) != 1:
		return "", usage(cmd, "name one machine, not %d; the configuration has %s", len(args), quotedList(known))
	case !slices.Contains(known, args[0]):
		return "", unknownMachine(cmd, args[0], known)
	}
	return args[0], nil
}

// unknownMachine is the error for a name that no machine of the configuration
// has.
func unknownMachine(cmd *cobra.Command, name string, known []string) error {
	if len(known) == 0 {
		return usage(cmd, "there is no machine %q; the configuration has none at all", name)
	}
	return usage(cmd, "there is no machine %q; the configuration has %s", name, quotedList(known))
}

// wants is the error for what a command that writes a file of one machine was
// not told: all of it at once, as far as it can be known without the
// configuration. what is how to name the file, at path.
func (o *vmOptions) wants(cmd *cobra.Command, args []string, path, what string) error {
	var missing []string
	if o.config == "" {
		missing = append(missing, "the configuration file, with -c")
	}
	if len(args) == 0 && (o.config == "" || path == "") {
		missing = append(missing, "a machine")
	}
	if path == "" {
		missing = append(missing, what)
	}
	switch n := len(missing); n {
	case 0:
		return nil
	case 1:
		return usage(cmd, "name %s", missing[0])
	default:
		return usage(cmd, "name %s, and %s", strings.Join(missing[:n-1], ", "), missing[n-1])
	}
}

// noStdout refuses - for a file that is written otherwise than by writing to
// standard output.
func noStdout(cmd *cobra.Command, flag, path string) error {
	if path != "-" {
		return nil
	}
	return usage(cmd, "%s - would be a file of that name: standard output cannot be written to here; name a file, or say ./- if you mean that", flag)
}

func quotedList(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quoted, ", ")
}
