package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/machineries/machineries/conformance/report"
)

// sample is a report with every outcome in it.
func sample(outcomes ...report.Outcome) *report.Report {
	r := &report.Report{SchemaVersion: report.Version, Driver: report.Driver{Name: "toy", Capabilities: []string{"version"}},
		Lab:  report.Lab{Name: "fake-qemu", Hypervisor: "the fake QEMU"},
		Host: report.Host{OS: "linux", Arch: "amd64", CPUs: 2, GoVersion: "go1.26"}, Started: time.Unix(1, 0).UTC(), Seconds: 1.5}
	ids := []string{"MM-STOP-001", "MM-STOP-002", "MM-STOP-003", "MM-STOP-004", "MM-STOP-005", "MM-STOP-006", "MM-STOP-007", "MM-STOP-008"}
	for i, o := range outcomes {
		result := report.Result{ID: ids[i], Level: "MUST", Operation: "stop", Rule: strings.Repeat("A machine that is off is off. ", 4), Outcome: o, Seconds: 0.25}
		switch o {
		case report.Fail, report.Broken:
			result.Message = "it still runs: process 4711, which was started by the driver for the machine \"win10\" some time ago\nand a second line"
			result.Log = []string{"0.001 stop"}
		case report.Pass:
		default:
			result.Reason = "a reason that is somewhat longer than what a line of eighty columns can hold, and goes on"
		}
		r.Results = append(r.Results, result)
	}
	r.Judge(false)
	return r
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(report.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("report.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("report.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryReportFitsTheSchemaAndReadsBack(t *testing.T) {
	s := compiled(t)
	for _, r := range []*report.Report{sample(report.Outcomes()...), sample(report.Pass), sample()} {
		var out bytes.Buffer
		if err := r.WriteJSON(&out); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Results) == 0 {
			doc.(map[string]any)["results"] = []any{}
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%v\n%s", err, out.String())
		}
		back, err := report.Read(&out)
		if err != nil || back.Verdict.Text != r.Verdict.Text {
			t.Errorf("read back: %v, %+v", err, back)
		}
	}
}

func TestTheSchemaRefusesWhatIsNoReport(t *testing.T) {
	s := compiled(t)
	var whole map[string]any
	var out bytes.Buffer
	if err := sample(report.Outcomes()...).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(map[string]any){
		"another version":        func(d map[string]any) { d["schemaVersion"] = 2.0 },
		"no verdict":             func(d map[string]any) { delete(d, "verdict") },
		"an unknown key":         func(d map[string]any) { d["extra"] = true },
		"an unknown outcome":     func(d map[string]any) { d["results"].([]any)[0].(map[string]any)["outcome"] = "skipped" },
		"a failure without text": func(d map[string]any) { delete(d["results"].([]any)[1].(map[string]any), "message") },
		"not run without reason": func(d map[string]any) { delete(d["results"].([]any)[5].(map[string]any), "reason") },
	} {
		if err := json.Unmarshal(out.Bytes(), &whole); err != nil {
			t.Fatal(err)
		}
		change(whole)
		if s.Validate(whole) == nil {
			t.Errorf("the schema takes a report with %s", what)
		}
	}
	if _, err := report.Read(strings.NewReader(`{"schemaVersion": 2}`)); err == nil {
		t.Error("Read takes a report of another version")
	}
	if _, err := report.Read(strings.NewReader(`nonsense`)); err == nil {
		t.Error("Read takes nonsense")
	}
}

func TestOnlyAWholeRunOfKeptRequirementsIsConformant(t *testing.T) {
	should := sample(report.Pass, report.Fail)
	should.Results[1].Level = "SHOULD"
	should.Judge(false)
	strict := sample(report.Pass, report.NotRun)
	strict.Judge(true)
	interrupted := sample(report.Pass)
	interrupted.Interrupted = true
	interrupted.Judge(false)
	for _, c := range []struct {
		name string
		r    *report.Report
		ok   bool
		exit int
	}{
		{"all pass", sample(report.Pass, report.Pass), true, 0},
		{"one fails", sample(report.Pass, report.Fail), false, 1},
		{"a recommendation fails", should, true, 0},
		{"a known failure", sample(report.Pass, report.Known), true, 0},
		{"some not run", sample(report.Pass, report.NotRun, report.Unsupported, report.Excluded), true, 0},
		{"not run though required", strict, false, 1},
		{"the suite broke", sample(report.Pass, report.Broken), false, 2},
		{"nothing was run", sample(report.NotRun, report.Excluded), false, 2},
		{"no results", sample(), false, 2},
		{"interrupted", interrupted, false, 2},
	} {
		if c.r.Verdict.Conformant != c.ok || c.r.ExitCode() != c.exit {
			t.Errorf("%s: conformant %v, exit %d; want %v, %d (%s)", c.name, c.r.Verdict.Conformant, c.r.ExitCode(), c.ok, c.exit, c.r.Verdict.Text)
		}
		if c.ok != strings.Contains(c.r.Verdict.Text, ": conformant on fake-qemu: ") {
			t.Errorf("%s: the verdict reads %q", c.name, c.r.Verdict.Text)
		}
	}
}

func TestWhatIsPrintedFitsEightyColumns(t *testing.T) {
	r := sample(report.Outcomes()...)
	for _, width := range []int{0, 80, 100} {
		var out bytes.Buffer
		p := report.Printer{Out: &out, Width: width, Rerun: "machinery conformance run --driver toy --only"}
		for _, result := range r.Results {
			p.Result(result)
		}
		p.Summary(r)
		limit := max(width, 80)
		for _, line := range strings.Split(out.String(), "\n") {
			if utf8.RuneCountInString(line) > limit {
				t.Errorf("%d columns at width %d: %q", utf8.RuneCountInString(line), width, line)
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Error("colours without being asked for")
		}
	}
	var out bytes.Buffer
	p := report.Printer{Out: &out, Color: true}
	p.Result(r.Results[0])
	if !strings.Contains(out.String(), "\x1b[32m") {
		t.Errorf("no colours though asked for: %q", out.String())
	}
}
