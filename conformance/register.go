package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/machinery"
)

// Register adds the suite to an existing Ginkgo tree: one container with one
// spec for each requirement, labelled with its id, level, operation and
// capability. Call it where a Describe may stand.
//
// Inside a foreign tree there are no worker processes: a driver that panics in
// a goroutine of its own or calls os.Exit takes the whole run with it, and one
// that never returns leaves a goroutine behind. [Run] has that isolation.
func Register(s Subject) bool {
	if err := s.check(); err != nil {
		panic("conformance: " + err.Error())
	}
	s.Timing = s.Timing.withDefaults()
	run, _ := s.selected()
	return describe(&s, run, "", nil)
}

// outcomeEntry is the name of the report entry that carries an outcome.
const outcomeEntry = "machinery-outcome"

// outcome is what a spec says about itself beyond Ginkgo's pass and fail.
type outcome struct {
	ID      string         `json:"id"`
	Outcome report.Outcome `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
	Message string         `json:"message,omitempty"`
	Log     []string       `json:"log,omitempty"`
	// Stuck is set if the driver still is in a call that should have
	// returned.
	Stuck bool `json:"stuck,omitempty"`
	// Crash says how the hypervisor crashed meanwhile; empty if it did not.
	Crash string `json:"crash,omitempty"`
}

// describe builds the tree for the given specs. Benches are made below dir, or
// in a temporary directory if it is empty. opened, if not nil, is told of the
// first driver that was opened.
func describe(s *Subject, specs []spec, dir string, opened func(machinery.Machinery)) bool {
	return ginkgo.Describe("machinery "+s.title(), ginkgo.Serial, func() {
		for i, sp := range specs {
			labels := ginkgo.Label(sp.ID, string(sp.Level), string(sp.Op))
			if sp.Capability != "" {
				labels = append(labels, string(sp.Capability))
			}
			ginkgo.It(sp.ID+" "+sp.Rule, labels, ginkgo.SpecTimeout(s.Timing.Spec), ginkgo.GracePeriod(s.Timing.Prompt), func(ctx ginkgo.SpecContext) {
				here := dir
				if here == "" {
					made, err := os.MkdirTemp(tempRoot(), runPrefix)
					if err != nil {
						ginkgo.Fail("making a directory for the machines: " + err.Error())
					}
					here = made
					defer os.RemoveAll(made)
				}
				o := perform(ctx, s, sp, fmt.Sprintf("%s/%d", here, i), opened)
				text, _ := json.Marshal(o)
				ginkgo.AddReportEntry(outcomeEntry, string(text), ginkgo.ReportEntryVisibilityNever)
				switch o.Outcome {
				case report.Pass:
				case report.NotRun, report.Unsupported, report.Inapplicable:
					ginkgo.Skip(string(o.Outcome) + ": " + o.Reason)
				default:
					message := o.Message
					for _, line := range o.Log {
						message += "\n  " + line
					}
					ginkgo.Fail(message)
				}
			})
		}
	})
}

// perform runs one check and says what became of it.
func perform(ctx context.Context, s *Subject, sp spec, dir string, opened func(machinery.Machinery)) (o outcome) {
	o.ID = sp.ID
	if why, reason := s.missing(sp.Requirement); reason != "" {
		o.Outcome, o.Reason = why, reason
		return o
	}
	w := &World{Ctx: ctx, Timing: s.Timing, subject: s, req: sp.Requirement, dir: dir, started: time.Now(), onOpen: opened}
	defer func() {
		if err := w.close(); err != nil && o.Outcome == report.Pass {
			o.Outcome, o.Message = report.Broken, "clearing up after the check: "+err.Error()
		}
		w.mu.Lock()
		o.Log, o.Stuck = w.log, w.stuck
		w.mu.Unlock()
	}()
	err := w.run(sp.check)
	var f failed
	var n notRun
	switch {
	case err == nil:
		o.Outcome = report.Pass
	case errors.As(err, &n):
		o.Outcome, o.Reason = n.outcome, n.reason
	case errors.As(err, &f):
		o.Outcome, o.Message = report.Fail, f.message
	default:
		o.Outcome, o.Message = report.Broken, err.Error()
	}
	if o.Outcome == report.Broken && ctx.Err() != nil {
		// The lab's calls failed because the driver had used up the time.
		o.Outcome = report.Fail
		o.Message = fmt.Sprintf("the requirement was not met within %v; at the end: %s", s.Timing.Spec, o.Message)
	}
	return o
}

// run calls the check and turns the ways in which it can end into an error.
func (w *World) run(check func(*World)) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failed:
			err = r
		case notRun:
			err = r
		case harness:
			err = r
		default:
			err = fmt.Errorf("the check itself panicked: %v\n%s", r, debug.Stack())
		}
	}()
	check(w)
	return nil
}

// failureText is what Ginkgo has to say of a spec that ended by itself.
func failureText(r types.SpecReport) string {
	text := r.Failure.Message
	if r.Failure.ForwardedPanic != "" {
		text += ": " + r.Failure.ForwardedPanic
	}
	return text
}
