package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance/report"
)

// Run runs the suite against each subject as subtests of t, one for every
// requirement. It is all that a driver author's test needs:
//
//	func TestConformance(t *testing.T) {
//		conformance.Run(t, conformance.Subject{Driver: mydriver.Driver(), Lab: lab})
//	}
//
// Requirements run in worker processes, which are this test binary again; the
// test function that calls Run is run in them too, up to this call. What comes
// before it should therefore be cheap, and the same each time.
//
// A requirement that could not be tested is a skipped subtest with the reason,
// and the verdict, which is logged, counts it.
func Run(t *testing.T, subjects ...Subject) {
	t.Helper()
	Worker(func(index int) (Subject, error) {
		if index < 0 || index >= len(subjects) {
			return Subject{}, fmt.Errorf("there is no subject %d in %s", index, t.Name())
		}
		return subjects[index], nil
	})
	for i, s := range subjects {
		t.Run(s.title(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			runner := &Runner{Subject: s, Index: i, Command: func() *exec.Cmd { return again(strings.TrimSuffix(t.Name(), "/"+testName(s.title()))) }}
			rep, err := runner.Run(ctx)
			if rep != nil {
				for _, r := range rep.Results {
					t.Run(r.ID, func(t *testing.T) { show(t, r) })
				}
				t.Log(rep.Verdict.Text)
				for _, p := range rep.Verdict.Problems {
					t.Error(p)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// show makes a result a subtest's.
func show(t *testing.T, r report.Result) {
	switch r.Outcome {
	case report.Pass:
	case report.Fail, report.Broken:
		t.Errorf("%s (%s): %s\n%s\n%s", r.ID, r.Level, r.Rule, r.Message, strings.Join(r.Log, "\n"))
	default:
		t.Skipf("%s: %s", r.Outcome, r.Reason)
	}
}

// again is this test binary, to run that test alone.
func again(name string) *exec.Cmd {
	var pattern []string
	for _, part := range strings.Split(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.count=1", "-test.timeout=0")
	// A race-built binary otherwise waits a second before it ends.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

// testName is what the testing package makes of a subtest's name.
func testName(name string) string { return strings.ReplaceAll(name, " ", "_") }
