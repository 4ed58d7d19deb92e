package conformance_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/machinery"
)

func TestEveryRequirementIsWholeAndItsIDIsItsOwn(t *testing.T) {
	form := regexp.MustCompile(`^MM-[A-Z]+-[0-9]{3}$`)
	seen := make(map[string]bool)
	rules := make(map[string]string)
	for _, r := range conformance.Requirements() {
		if !form.MatchString(r.ID) {
			t.Errorf("%q is no id", r.ID)
		}
		if seen[r.ID] {
			t.Errorf("%s is there twice", r.ID)
		}
		seen[r.ID] = true
		if other := rules[r.Rule]; other != "" {
			t.Errorf("%s and %s have the same rule", r.ID, other)
		}
		rules[r.Rule] = r.ID
		for what, text := range map[string]string{"rule": r.Rule, "reason": r.Why} {
			if !strings.HasSuffix(text, ".") || strings.Contains(text, "\n") {
				t.Errorf("%s: the %s is no sentence on one line: %q", r.ID, what, text)
			}
		}
		if r.Source == "" || r.Op == "" {
			t.Errorf("%s has no source or no operation", r.ID)
		}
		if !slices.Contains([]conformance.Level{conformance.Must, conformance.Should, conformance.May}, r.Level) {
			t.Errorf("%s has the level %q", r.ID, r.Level)
		}
		if r.Capability != "" && !slices.Contains(machinery.Capabilities(), r.Capability) {
			t.Errorf("%s is about the capability %q, which does not exist", r.ID, r.Capability)
		}
	}
	if len(seen) < 60 {
		t.Errorf("the catalogue has %d requirements only", len(seen))
	}
}

func TestASubjectThatNamesNoRequirementIsRefused(t *testing.T) {
	for _, s := range []conformance.Subject{
		{Only: []string{"MM-NOTHING-*"}},
		{Exclude: []string{"MM-STOP-999"}},
		{Known: map[string]string{"MM-STOP-999": "because"}},
		{Known: map[string]string{"MM-STOP-001": " "}},
	} {
		r := conformance.Runner{Subject: s}
		if _, err := r.Run(t.Context()); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}
