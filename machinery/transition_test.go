package machinery_test

import (
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
)

// printedTable reads the table of steps that the package documentation prints.
func printedTable(t *testing.T) []machinery.Transition {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^\t([a-z]+) +([a-z]+) +(\S.*)$`)
	var table []machinery.Transition
	for line := range strings.SplitSeq(file.Doc.Text(), "\n") {
		if m := row.FindStringSubmatch(line); m != nil && m[1] != "from" {
			table = append(table, machinery.Transition{From: machinery.State(m[1]), To: machinery.State(m[2]), Why: m[3]})
		}
	}
	return table
}

func TestThePackageDocumentationPrintsTheTableOfSteps(t *testing.T) {
	printed := printedTable(t)
	if len(printed) == 0 {
		t.Fatal("no table was found in doc.go")
	}
	if diff := cmp.Diff(machinery.Transitions(), printed); diff != "" {
		t.Errorf("the table in doc.go is not the one in transition.go (- code, + documentation):\n%s", diff)
	}
}

func TestEveryStepIsBetweenTwoKnownStatesForAReasonAndListedOnce(t *testing.T) {
	seen := map[[2]machinery.State]bool{}
	for _, step := range machinery.Transitions() {
		pair := [2]machinery.State{step.From, step.To}
		switch {
		case !step.From.Valid() || !step.To.Valid():
			t.Errorf("%q to %q: not both are states", step.From, step.To)
		case step.From == step.To:
			t.Errorf("%q to itself is listed", step.From)
		case step.Why == "":
			t.Errorf("%q to %q has no reason", step.From, step.To)
		case seen[pair]:
			t.Errorf("%q to %q is listed twice", step.From, step.To)
		}
		seen[pair] = true
	}
}

func TestTransitionsReturnsACopy(t *testing.T) {
	machinery.Transitions()[0].To = machinery.StateSuspended
	if got := machinery.Transitions()[0].To; got != machinery.StateStarting {
		t.Errorf("a caller changed the table: the first step leads to %q", got)
	}
}

func TestStopLeadsOutOfEveryStateThatIsNotOff(t *testing.T) {
	for _, s := range machinery.States() {
		if s == machinery.StatePoweroff || s == machinery.StateStopping {
			continue
		}
		if !machinery.CanStep(s, machinery.StateStopping) {
			t.Errorf("a machine that is %s cannot be stopped", s)
		}
	}
	if !machinery.CanStep(machinery.StateStopping, machinery.StatePoweroff) {
		t.Error("a machine that is being stopped cannot go off")
	}
}

func TestCanStepIsTheTableAndStandingStill(t *testing.T) {
	listed := map[[2]machinery.State]bool{}
	for _, step := range printedTable(t) {
		listed[[2]machinery.State{step.From, step.To}] = true
	}
	for _, from := range machinery.States() {
		for _, to := range machinery.States() {
			want := from == to || listed[[2]machinery.State{from, to}]
			if got := machinery.CanStep(from, to); got != want {
				t.Errorf("CanStep(%s, %s) = %v, want %v", from, to, got, want)
			}
		}
	}
}

// What an observer that misses steps may see is everything but a second beginning: a run that has begun to run is never
// starting again before the machine was off or in error.
func TestCanReachForbidsASecondStartWithinOneRunAndNothingElse(t *testing.T) {
	begun := []machinery.State{machinery.StateRunning, machinery.StatePaused, machinery.StateStopping, machinery.StateSuspended}
	for _, from := range machinery.States() {
		for _, to := range machinery.States() {
			want := !(to == machinery.StateStarting && slices.Contains(begun, from))
			if got := machinery.CanReach(from, to); got != want {
				t.Errorf("CanReach(%s, %s) = %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestWhatIsNoStateIsNeverReached(t *testing.T) {
	for _, none := range []machinery.State{"", "unknown", "Running"} {
		if none.Valid() {
			t.Errorf("%q counts as a state", none)
		}
		for _, other := range append(machinery.States(), none) {
			if machinery.CanStep(none, other) || machinery.CanStep(other, none) || machinery.CanReach(none, other) || machinery.CanReach(other, none) {
				t.Errorf("there is a way between %q and %q", none, other)
			}
		}
	}
}

func TestAStatusReadsAsItsStateAndReason(t *testing.T) {
	for want, s := range map[string]machinery.Status{
		"unknown":                  {},
		"running":                  {State: machinery.StateRunning, Detail: "not shown"},
		"paused (from snapshot)":   {State: machinery.StatePaused, Reason: "from snapshot"},
		"error (guest-panicked)":   {State: machinery.StateError, Reason: "guest-panicked", Detail: "two\nlines"},
		"poweroff (killed by oom)": {State: machinery.StatePoweroff, Reason: "killed by oom"},
	} {
		if got := s.String(); got != want {
			t.Errorf("%#v reads %q, want %q", s, got, want)
		}
	}
}
