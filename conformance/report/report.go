// Package report is what a conformance run found, as data: the outcome of each
// requirement, the verdict, and what they rest on. It is written as JSON, in a
// versioned format whose schema is embedded, and as text for people.
package report

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Version is the version of the report's format. It changes when a reader of
// the old format would misread the new one.
const Version = 1

// Schema is the JSON Schema (draft 2020-12) of the format.
//
//go:embed schema-v1.json
var Schema []byte

// Outcome is what became of one requirement.
type Outcome string

// The outcomes. Only Pass is a pass.
const (
	// Pass: the driver keeps the requirement.
	Pass Outcome = "pass"
	// Fail: the driver breaks it.
	Fail Outcome = "fail"
	// Known: the driver breaks it, and the author said so beforehand, with a
	// reason.
	Known Outcome = "known failure"
	// Unsupported: it is about an optional operation that the driver does not
	// have.
	Unsupported Outcome = "unsupported"
	// Inapplicable: it is about something that the hypervisor does not have, such
	// as a daemon.
	Inapplicable Outcome = "not applicable"
	// Excluded: the user left it out.
	Excluded Outcome = "excluded"
	// NotRun: the lab could not test it; the reason says why.
	NotRun Outcome = "not run"
	// Broken: the suite or its lab failed, so nothing is known about the
	// driver.
	Broken Outcome = "error"
)

// Outcomes returns all outcomes, in the order of summaries.
func Outcomes() []Outcome {
	return []Outcome{Pass, Fail, Known, Unsupported, Inapplicable, Excluded, NotRun, Broken}
}

// Report is one run of the suite against one driver.
type Report struct {
	// SchemaVersion is [Version].
	SchemaVersion int `json:"schemaVersion"`
	// Driver names the driver under test.
	Driver Driver `json:"driver"`
	// Lab is what it was tested on.
	Lab Lab `json:"lab"`
	// Host is where.
	Host Host `json:"host"`
	// Started is when the run began, Seconds how long it took.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Interrupted is set if the run was ended before it was done.
	Interrupted bool `json:"interrupted,omitempty"`
	// Verdict is what the results come to.
	Verdict Verdict `json:"verdict"`
	// Results has one entry for each requirement of the catalogue, in its
	// order.
	Results []Result `json:"results"`
}

// Driver names a driver.
type Driver struct {
	Name string `json:"name"`
	// Capabilities are the optional operations that it has.
	Capabilities []string `json:"capabilities"`
}

// Lab describes the hypervisor that the driver was tested on.
type Lab struct {
	Name        string `json:"name"`
	Hypervisor  string `json:"hypervisor"`
	Version     string `json:"version,omitempty"`
	Accelerator string `json:"accelerator,omitempty"`
}

// NoLab is the name of the lab where there was none.
const NoLab = "no lab"

// Host describes the machine that the suite ran on.
type Host struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	CPUs      int    `json:"cpus"`
	GoVersion string `json:"goVersion"`
	Kernel    string `json:"kernel,omitempty"`
}

// Result is what became of one requirement.
type Result struct {
	ID         string   `json:"id"`
	Level      string   `json:"level"`
	Operation  string   `json:"operation"`
	Capability string   `json:"capability,omitempty"`
	Needs      []string `json:"needs,omitempty"`
	Rule       string   `json:"rule"`
	Outcome    Outcome  `json:"outcome"`
	// Reason says why it was not run, not supported, not applicable, excluded or
	// known to fail; one line.
	Reason string `json:"reason,omitempty"`
	// Message says what was seen of a failure or an error.
	Message string `json:"message,omitempty"`
	// Log is what the driver was asked and what it answered.
	Log []string `json:"log,omitempty"`
	// Seconds is how long the check took.
	Seconds float64 `json:"seconds"`
}

// Counts is how often each outcome came up.
type Counts map[Outcome]int

// Verdict is what a run comes to.
type Verdict struct {
	// Conformant is set if every MUST that was run is kept, at least one was
	// run, nothing broke, and everything that was required to run did.
	Conformant bool `json:"conformant"`
	// Text is the verdict in one sentence, naming what it rests on.
	Text string `json:"text"`
	// Problems are the reasons for a verdict that is not conformant.
	Problems []string `json:"problems,omitempty"`
	// Counts has every outcome, also those that did not come up.
	Counts Counts `json:"counts"`
}

// ExitCode is what a program that ran the suite ends with: 0 conformant, 1
// not, 2 if the suite itself failed or ran nothing.
func (r *Report) ExitCode() int {
	switch {
	case r.Interrupted, r.Verdict.Counts[Broken] > 0, !r.judged():
		return 2
	case !r.Verdict.Conformant:
		return 1
	}
	return 0
}

// ran counts the requirements of which something is known about the driver.
func (r *Report) ran() int {
	c := r.Verdict.Counts
	return c[Pass] + c[Fail] + c[Known]
}

// judged reports whether the run says anything about how the driver works.
func (r *Report) judged() bool { return r.ran() > 0 && r.Lab.Name != NoLab }

// Judge sets the verdict from the results. requireAll makes what was not run
// a reason against conformance.
func (r *Report) Judge(requireAll bool) {
	counts := make(Counts)
	for _, o := range Outcomes() {
		counts[o] = 0
	}
	var problems []string
	remarks := 0
	for _, result := range r.Results {
		counts[result.Outcome]++
		switch {
		case result.Outcome == Broken:
			problems = append(problems, fmt.Sprintf("%s could not be judged, because the suite or its lab failed", result.ID))
		case result.Outcome == Fail && result.Level == "MUST":
			problems = append(problems, result.ID+" is broken")
		case result.Outcome == Fail:
			remarks++
		case result.Outcome == NotRun && requireAll:
			problems = append(problems, fmt.Sprintf("%s was required to run and did not: %s", result.ID, result.Reason))
		}
	}
	r.Verdict.Counts = counts
	if r.ran() == 0 {
		problems = append(problems, "no requirement was run, so nothing is known about the driver")
	}
	if r.ran() > 0 && r.Lab.Name == NoLab {
		problems = append(problems, "without a lab nothing is known of how the driver works")
	}
	if r.Interrupted {
		problems = append(problems, "the run was interrupted")
	}
	r.Verdict.Problems = problems
	r.Verdict.Conformant = len(problems) == 0
	word := "conformant"
	if !r.Verdict.Conformant {
		word = "NOT conformant"
	}
	if !r.judged() || r.Interrupted {
		word = "no verdict"
	}
	r.Verdict.Text = fmt.Sprintf("%s: %s on %s: %d passed", r.Driver.Name, word, r.Lab.Name, counts[Pass])
	for _, o := range Outcomes()[1:] {
		if counts[o] == 0 {
			continue
		}
		name := string(o)
		switch o {
		case Fail:
			name = "failed"
		case Known:
			name = "known failures"
		case Broken:
			name = "errors"
		}
		r.Verdict.Text += fmt.Sprintf(", %d %s", counts[o], name)
	}
	if remarks > 0 && r.Verdict.Conformant {
		r.Verdict.Text += fmt.Sprintf(" (%d of them recommendations only)", remarks)
	}
}

// WriteJSON writes the report as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Read reads a report of this version.
func Read(in io.Reader) (*Report, error) {
	var r Report
	d := json.NewDecoder(in)
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("this is no conformance report: %w", err)
	}
	if r.SchemaVersion != Version {
		return nil, fmt.Errorf("the report has version %d of the format; this program reads version %d", r.SchemaVersion, Version)
	}
	return &r, nil
}
