//go:build linux

package conformance_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// wrecker is the reference driver with something done to the process whenever
// it is asked for the state of a paused machine.
type wrecker struct {
	*qemu.Machinery
	wreck func()
}

func (w *wrecker) State(ctx context.Context, name string) (machinery.Status, error) {
	s, err := w.Machinery.State(ctx, name)
	if s.State == machinery.StatePaused {
		w.wreck()
	}
	return s, err
}

func wrecking(wreck func()) machinery.Driver {
	d := qemu.Driver()
	open := d.Open
	d.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		m, err := open(ctx, doc, o)
		if err != nil {
			return nil, err
		}
		return &wrecker{m.(*qemu.Machinery), wreck}, nil
	}
	return d
}

func TestADriverThatWrecksTheProcessCostsItsOwnRequirementsOnly(t *testing.T) {
	cases := []struct {
		name  string
		wreck func()
		says  string
	}{
		{"panics in a goroutine", func() {
			go func() { panic("quux-4711") }()
			select {}
		}, "quux-4711"},
		{"calls os.Exit(0)", func() { os.Exit(0) }, "exit status 0"},
		{"never returns", func() { select {} }, "has not returned"},
		{"panics in the call", func() { panic("quux-4712") }, "quux-4712"},
	}
	timing := impatient
	timing.State = 2 * time.Second
	var subjects []conformance.Subject
	for _, c := range cases {
		subjects = append(subjects, conformance.Subject{Name: c.name, Driver: wrecking(c.wreck), Lab: fakeLab(t), Parallel: 1, Timing: timing,
			Only: []string{"MM-STATE-001", "MM-STATE-002", "MM-STATE-003", "MM-STATE-004", "MM-STATE-008", "MM-STOP-001"}})
	}
	worker(t, subjects...)
	broken := map[string]bool{"MM-STATE-003": true, "MM-STATE-008": true}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rep := run(t, subjects[i], i)
			byID := results(rep)
			if len(byID) != len(conformance.Requirements()) {
				t.Errorf("the report has %d results; the catalogue has %d requirements", len(byID), len(conformance.Requirements()))
			}
			for _, id := range subjects[i].Only {
				want := report.Pass
				if broken[id] {
					want = report.Fail
				}
				got := byID[id]
				if got.Outcome != want {
					t.Errorf("%s: outcome %q, want %q: %s\n%s", id, got.Outcome, want, got.Message, strings.Join(got.Log, "\n"))
				}
				if text := got.Message + strings.Join(got.Log, "\n"); want == report.Fail && !strings.Contains(text, c.says) {
					t.Errorf("%s does not say %q: %s", id, c.says, text)
				}
			}
			if rep.ExitCode() != 1 {
				t.Errorf("exit code %d; want 1", rep.ExitCode())
			}
		})
	}
}
