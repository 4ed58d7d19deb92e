//go:build linux

package conformance_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/mutants"
	"github.com/machineries/machineries/conformance/report"
)

// impatient are the limits for broken drivers, which use them up. They are
// still far above what any right driver needs on the fake.
var impatient = conformance.Timing{Start: 6 * time.Second, Stop: 5 * time.Second, State: 4 * time.Second, Prompt: 3 * time.Second,
	Guest: 5 * time.Second, Clean: 3 * time.Second, Spec: 60 * time.Second}

func TestEveryMutantFailsTheRequirementsItBreaks(t *testing.T) {
	all := mutants.All()
	var subjects []conformance.Subject
	for _, m := range all {
		lab := fakeLab(t)
		if m.Daemon {
			lab = fakeLibvirtLab(t)
		}
		subjects = append(subjects, conformance.Subject{Name: m.Name, Driver: m.Driver, Lab: lab, Only: m.Breaks, Timing: impatient, Parallel: 1})
	}
	worker(t, subjects...)
	for i, m := range all {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			rep := run(t, subjects[i], i)
			byID := results(rep)
			for _, id := range m.Breaks {
				if got := byID[id]; got.Outcome != report.Fail {
					t.Errorf("%s: outcome %q; want fail: %s %s\n%s", id, got.Outcome, got.Reason, got.Message, strings.Join(got.Log, "\n"))
				} else {
					t.Logf("%s: %s", id, got.Message)
				}
			}
			must := slices.ContainsFunc(m.Breaks, func(id string) bool { return byID[id].Level == "MUST" })
			if must && rep.ExitCode() != 1 {
				t.Errorf("exit code %d for a driver that breaks a MUST; want 1 (%s)", rep.ExitCode(), rep.Verdict.Text)
			}
		})
	}
}

func TestEveryRequirementHasAMutant(t *testing.T) {
	caught := make(map[string]bool)
	for _, m := range mutants.All() {
		if len(m.Breaks) == 0 {
			t.Errorf("the mutant %q breaks nothing", m.Name)
		}
		for _, id := range m.Breaks {
			if _, ok := conformance.Find(id); !ok {
				t.Errorf("the mutant %q breaks %s, which does not exist", m.Name, id)
			}
			caught[id] = true
		}
	}
	for _, r := range conformance.Requirements() {
		if !caught[r.ID] {
			t.Errorf("%s has no mutant that it catches", r.ID)
		}
	}
}
