//go:build linux

package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// crashing is a lab whose hypervisor crashes the first times that machines are made, across processes.
type crashing struct {
	conformance.Lab
	mark    string // a directory with a file for each crash
	times   int
	crashed string
}

func (c *crashing) NewBench(ctx context.Context, dir string, machines []conformance.MachineSpec) (conformance.Bench, error) {
	before, err := os.ReadDir(c.mark)
	if err != nil {
		return nil, err
	}
	if len(before) < c.times {
		c.crashed = fmt.Sprintf("crash %d", len(before)+1)
		return nil, errors.Join(errors.New("connection refused"), os.WriteFile(filepath.Join(c.mark, c.crashed), nil, 0o600))
	}
	return c.Lab.NewBench(ctx, dir, machines)
}

func (c *crashing) Crash(context.Context) string { return c.crashed }

func TestARequirementInWhichTheHypervisorCrashesIsRunOnceMore(t *testing.T) {
	const variable = "MACHINERY_TEST_CRASHES"
	mark := os.Getenv(variable)
	if mark == "" {
		mark = t.TempDir()
		t.Setenv(variable, mark)
	}
	ids := []string{"MM-STATE-001", "MM-STATE-002"}
	var subjects []conformance.Subject
	for times := range 3 {
		dir := filepath.Join(mark, fmt.Sprint(times))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, conformance.Subject{Name: fmt.Sprint(times), Driver: qemu.Driver(), Lab: &crashing{Lab: fakeLab(t), mark: dir, times: times}, Parallel: 1, Only: ids})
	}
	worker(t, subjects...)
	for times, want := range []struct {
		outcome         report.Outcome
		reason, message string
	}{
		{report.Pass, "", ""},
		{report.Pass, "it was run twice, because the hypervisor crashed the first time: crash 1", ""},
		{report.Broken, "", "the hypervisor crashed in it twice: crash 1, and then crash 2; "},
	} {
		byID := results(run(t, subjects[times], times))
		first, second := byID[ids[0]], byID[ids[1]]
		if first.Outcome != want.outcome || first.Reason != want.reason || !strings.HasPrefix(first.Message, want.message) {
			t.Errorf("%d crashes: %s %q %q", times, first.Outcome, first.Reason, first.Message)
		}
		if second.Outcome != report.Pass || second.Reason != "" {
			t.Errorf("%d crashes, the next requirement: %s %q %q", times, second.Outcome, second.Reason, second.Message)
		}
	}
}
