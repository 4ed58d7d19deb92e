package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/report"
)

// runCommand is "machinery conformance run".
func runCommand(a *app) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --driver NAME --lab NAME [flags]",
		Short: "Tests a driver.",
		Long: `Tests a driver on a lab: prints each requirement as it finishes, what was not
run and why, and the verdict. "machinery drivers" lists drivers and labs.

Exit status: 0 the driver is conformant, 1 it is not, 2 wrong usage, the suite
or its lab failed, nothing was run, or the run was interrupted.

A requirement that the lab cannot test is "not run" and is named in the
verdict. With --require, or with "conformance" or "all" in the list of the
environment variable MACHINERY_REQUIRE, that counts against the driver.

The file of --known-file has an id and a reason on each line; lines that are
empty or begin with # are skipped.`,
		Example: `  machinery conformance run --driver qemu --lab fake
  machinery conformance run --driver qemu --lab host --accel kvm
  machinery conformance run --driver qemu --lab fake --only 'MM-STOP-*'
  machinery conformance run --driver qemu --lab host --report report.json
  machinery conformance run --driver qemu --lab fake --known \
      'MM-STATE-004=the monitor of version 3 cannot tell'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.conformanceRun(cmd, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", "", "the driver's `name`")
	f.StringVar(&o.lab, "lab", "", "the `lab` to test it on: fake, host or none")
	f.StringVar(&o.accel, "accel", "tcg", "`accelerator` of the host lab: tcg or kvm")
	f.StringVar(&o.emulator, "emulator", "", "`path` of the emulator of the host lab (default from PATH)")
	f.StringArrayVar(&o.only, "only", nil, "run only what matches this `pattern`, an id with * for any characters; may be repeated")
	f.StringArrayVar(&o.exclude, "exclude", nil, "leave out what matches this `pattern`; may be repeated")
	f.StringArrayVar(&o.known, "known", nil, "a failure that is known, as `ID=REASON`; it is one no more when it passes; may be repeated")
	f.StringVar(&o.knownFile, "known-file", "", "`file` of known failures")
	f.IntVar(&o.parallel, "parallel", 0, "`number` of worker processes at once (default one for each processor)")
	f.Float64Var(&o.scale, "scale", 1, "`factor` for every time limit, for a slow host")
	f.BoolVar(&o.require, "require", false, "count what was not run against the driver")
	f.StringVar(&o.report, "report", "", "write the report to this `file`, as JSON")
	f.BoolVar(&o.json, "json", false, "write the report to stdout, as JSON, and all else to stderr")
	return cmd
}

// conformanceRun runs the suite. In a worker process, which is this command
// again with the same arguments, it does the worker's part and does not
// return.
func (a *app) conformanceRun(cmd *cobra.Command, o *runOptions) error {
	kind, err := o.check(cmd)
	if err != nil {
		return err
	}
	conformance.Worker(func(int) (conformance.Subject, error) {
		a.release()
		return o.subject(context.Background(), kind)
	})
	ctx := cmd.Context()
	file, err := newReportFile(o.report)
	if err != nil {
		return broken(err)
	}
	defer file.discard()
	subject, err := o.subject(ctx, kind)
	if err != nil {
		return broken(err)
	}
	if subject.Lab != nil {
		defer subject.Lab.Close()
	}
	if kind.check != nil {
		if err := kind.check(ctx, subject.Lab); err != nil {
			return broken(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return broken(err)
	}
	out, terminal := a.out, a.outTerm
	if o.json {
		out, terminal = a.err, a.errTerm
	}
	printer := &report.Printer{Out: out, Color: terminal.color, Width: terminal.width, Rerun: o.rerun()}
	progress := newProgress(printer, terminal)
	runner := &conformance.Runner{
		Subject:  subject,
		Command:  func() *exec.Cmd { return exec.Command(self, os.Args[1:]...) },
		Begun:    progress.begun,
		Progress: progress.result,
	}
	rep, err := runner.Run(ctx)
	progress.close()
	if rep == nil {
		return broken(err)
	}
	printer.Summary(rep)
	return o.finish(a, rep, file, errors.Join(err, interruption(ctx)))
}

// interruption is why a run was interrupted, where that is not plain to the
// user anyway.
func interruption(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errOutputGone) {
		return cause
	}
	return nil
}

// finish writes the report and makes the exit status.
func (o *runOptions) finish(a *app, rep *report.Report, file *reportFile, err error) error {
	if o.json {
		err = errors.Join(err, rep.WriteJSON(a.out))
	}
	err = errors.Join(err, file.write(rep))
	switch {
	case err != nil:
		return broken(err)
	case rep.ExitCode() != 0:
		return &failure{status: rep.ExitCode()}
	}
	return nil
}

// reportFile is the file of --report. It is made before the run, so that a
// path that cannot be written is known at once, and gets its name when it is
// whole.
type reportFile struct {
	path string
	temp *os.File
}

// newReportFile returns nil, which does nothing, for an empty path.
func newReportFile(path string) (*reportFile, error) {
	if path == "" {
		return nil, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("the report cannot be written: %s is a directory", path)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".report-*.json")
	if err != nil {
		return nil, fmt.Errorf("the report cannot be written: %w", err)
	}
	return &reportFile{path, temp}, nil
}

func (f *reportFile) write(rep *report.Report) error {
	if f == nil {
		return nil
	}
	err := errors.Join(rep.WriteJSON(io.Writer(f.temp)), f.temp.Chmod(0o644), f.temp.Close())
	if err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("the report was not written: %w", err)
	}
	f.temp = nil
	return nil
}

// discard removes what was not written whole.
func (f *reportFile) discard() {
	if f != nil && f.temp != nil {
		_ = f.temp.Close()
		_ = os.Remove(f.temp.Name())
	}
}

// shellQuote makes a word that a shell takes as it is.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,+@%", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
