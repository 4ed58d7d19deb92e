package conformance

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/machinery"
)

// Subject is a driver under test and what it is tested on.
type Subject struct {
	// Driver is the driver under test.
	Driver machinery.Driver
	// Lab is what it is tested on. Without one, only what needs no machine is
	// run.
	Lab Lab
	// Name is the name in reports; empty means the driver's.
	Name string

	// Only, if not empty, leaves out every requirement that matches none of
	// these patterns. A pattern is an id, or has * for any run of characters:
	// "MM-STOP-*".
	Only []string
	// Exclude leaves out the requirements that match one of these patterns.
	Exclude []string
	// Known has the requirements that the driver is known to break, with the
	// reason. One that passes all the same is a failure, so that the list
	// stays true.
	Known map[string]string
	// RequireAll makes every requirement that could not be run count against
	// the driver.
	RequireAll bool

	// Timing has the limits for what is waited for.
	Timing Timing
	// Parallel is how many worker processes run at once; 0 means as many as
	// there are processors.
	Parallel int
}

// title is the name in reports.
func (s *Subject) title() string {
	if s.Name != "" {
		return s.Name
	}
	return s.Driver.Name
}

// check finds mistakes in what the author or the user asked for. A pattern
// that matches nothing is one: silently it would leave a run without tests, or
// with those that were to be left out.
func (s *Subject) check() error {
	all := Requirements()
	for _, list := range [][]string{s.Only, s.Exclude, slices.Sorted(mapsKeys(s.Known))} {
		for _, pattern := range list {
			if !slices.ContainsFunc(all, func(r Requirement) bool { return matches(pattern, r.ID) }) {
				return fmt.Errorf("no requirement matches %q; \"machinery conformance list\" shows their ids", pattern)
			}
		}
	}
	for id, reason := range s.Known {
		if strings.TrimSpace(reason) == "" {
			return fmt.Errorf("the known failure %s has no reason", id)
		}
	}
	return nil
}

// mapsKeys yields the keys of a map of strings.
func mapsKeys(m map[string]string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// matches reports whether a pattern names the id.
func matches(pattern, id string) bool {
	ok, err := path.Match(strings.ToUpper(pattern), id)
	return err == nil && ok
}

// selected splits the catalogue into what to run and why the rest is not.
func (s *Subject) selected() (run []spec, left map[string]string) {
	left = make(map[string]string)
	match := func(patterns []string, id string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, id) })
	}
	for _, sp := range catalogue() {
		switch {
		case len(s.Only) > 0 && !match(s.Only, sp.ID):
			left[sp.ID] = "not among those asked for"
		case match(s.Exclude, sp.ID):
			left[sp.ID] = "excluded by the user"
		default:
			run = append(run, sp)
		}
	}
	return run, left
}

// missing says why the subject's lab cannot test a requirement, and what becomes
// of it for that; the reason is empty if it can.
func (s *Subject) missing(r Requirement) (o report.Outcome, reason string) {
	if lab, ok := s.Lab.(Exempter); ok {
		for _, need := range r.Needs {
			if reason := lab.Exempt(need); reason != "" {
				return report.Inapplicable, reason
			}
		}
	}
	return report.NotRun, s.lacking(r)
}

// lacking says what a requirement needs that the subject's lab does not offer;
// empty if it offers all.
func (s *Subject) lacking(r Requirement) string {
	for _, need := range r.Needs {
		if s.Lab == nil {
			return fmt.Sprintf("there is no lab, and this needs %q of one", need)
		}
		if ok, reason := s.Lab.Offers(need); !ok {
			if reason == "" {
				reason = "the lab does not offer it"
			}
			return fmt.Sprintf("needs %q: %s", need, reason)
		}
	}
	return ""
}
