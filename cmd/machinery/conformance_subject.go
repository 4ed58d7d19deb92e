package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// runOptions are the flags of "conformance run".
type runOptions struct {
	driver, lab        string
	accel, emulator    string
	only, exclude      []string
	known              []string
	knownFile          string
	parallel           int
	scale              float64
	require            bool
	report             string
	json               bool
	accelSet, scaleSet bool
	knownFailures      map[string]string
	registered         machinery.Driver
}

// check finds mistakes in the flags, and the lab that they name.
func (o *runOptions) check(cmd *cobra.Command) (labKind, error) {
	o.accelSet, o.scaleSet = cmd.Flags().Changed("accel"), cmd.Flags().Changed("scale")
	if o.driver == "" {
		return labKind{}, usage(cmd, "say which driver to test, with --driver; there are %s", strings.Join(driverNames(), ", "))
	}
	var err error
	if o.registered, err = machinery.Lookup(o.driver); err != nil {
		return labKind{}, usage(cmd, "there is no driver %q; %s", o.driver, meant(o.driver, driverNames()))
	}
	labs := platformLabs(o.driver)
	var names []string
	kind := labKind{}
	for _, l := range labs {
		names = append(names, l.name)
		if l.name == o.lab {
			kind = l
		}
	}
	switch {
	case o.lab == "":
		return kind, usage(cmd, "say what to test the driver on, with --lab; there are %s", strings.Join(names, ", "))
	case kind.name == "":
		return kind, usage(cmd, "there is no lab %q for the driver %q; %s", o.lab, o.driver, meant(o.lab, names))
	case !kind.real && o.emulator != "":
		return kind, usage(cmd, "--emulator is of no use with --lab %s", o.lab)
	case !kind.real && o.accelSet:
		return kind, usage(cmd, "--accel is of no use with --lab %s", o.lab)
	case o.accel != "tcg" && o.accel != "kvm":
		return kind, usage(cmd, "there is no accelerator %q; there are tcg, kvm", o.accel)
	case o.parallel < 0:
		return kind, usage(cmd, "--parallel must be 1 or more, or 0 for one worker for each processor; it is %d", o.parallel)
	case !(o.scale > 0 && o.scale <= 1000):
		return kind, usage(cmd, "--scale must be above 0 and at most 1000; it is %v", o.scale)
	}
	if o.knownFailures, err = o.readKnown(); err != nil {
		return kind, usage(cmd, "%v", err)
	}
	return kind, nil
}

// subject makes what is tested. It is the same in every process of a run.
func (o *runOptions) subject(ctx context.Context, kind labKind) (conformance.Subject, error) {
	s := conformance.Subject{
		Driver:     o.registered,
		Only:       o.only,
		Exclude:    o.exclude,
		Known:      o.knownFailures,
		RequireAll: o.require || require.Demanded("conformance"),
		Timing:     conformance.Timing{Scale: o.scale},
		Parallel:   o.parallel,
	}
	if kind.open == nil {
		return s, nil
	}
	lab, err := kind.open(ctx, labOptions{emulator: o.emulator, accel: o.accel})
	if err != nil {
		return s, err
	}
	s.Lab = lab
	return s, nil
}

// rerun is the command line that runs one requirement of this run again; its
// id has to follow.
func (o *runOptions) rerun() string {
	words := []string{"machinery", "conformance", "run", "--driver", o.driver, "--lab", o.lab}
	if o.accelSet {
		words = append(words, "--accel", o.accel)
	}
	if o.emulator != "" {
		words = append(words, "--emulator", o.emulator)
	}
	if o.scaleSet {
		words = append(words, "--scale", fmt.Sprint(o.scale))
	}
	for i, w := range words {
		words[i] = shellQuote(w)
	}
	return strings.Join(append(words, "--only"), " ")
}

// readKnown joins the known failures of --known and --known-file.
func (o *runOptions) readKnown() (map[string]string, error) {
	known := make(map[string]string)
	add := func(where, id, reason string) error {
		id, reason = strings.ToUpper(strings.TrimSpace(id)), strings.TrimSpace(reason)
		if _, ok := conformance.Find(id); !ok {
			return fmt.Errorf("%s: there is no requirement %q", where, id)
		}
		if reason == "" {
			return fmt.Errorf("%s: the known failure %s needs a reason", where, id)
		}
		if _, twice := known[id]; twice {
			return fmt.Errorf("%s: %s is listed twice", where, id)
		}
		known[id] = reason
		return nil
	}
	for _, entry := range o.known {
		id, reason, ok := strings.Cut(entry, "=")
		if !ok {
			return nil, fmt.Errorf("--known takes ID=REASON, and was given %q", entry)
		}
		if err := add("--known", id, reason); err != nil {
			return nil, err
		}
	}
	if o.knownFile == "" {
		return known, nil
	}
	text, err := os.ReadFile(o.knownFile)
	if err != nil {
		return nil, fmt.Errorf("--known-file: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, reason := line, ""
		if i := strings.IndexAny(line, " \t"); i > 0 {
			id, reason = line[:i], line[i:]
		}
		if err := add(fmt.Sprintf("%s:%d", o.knownFile, number), id, reason); err != nil {
			return nil, err
		}
	}
	return known, nil
}
