package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/machinery"
)

// workerEnv is the environment variable that makes a process a worker. Its
// value is an order as JSON.
const workerEnv = "MACHINERY_CONFORMANCE_WORKER"

// The descriptors that a worker inherits: events go to the first; the second
// reads end of file when the runner is gone.
const (
	eventsFD = 3
	leashFD  = 4
)

// order tells a worker what to do.
type order struct {
	// Subject is the index of the subject, where a program tests several.
	Subject int `json:"subject"`
	// IDs are the requirements to run, in this order.
	IDs []string `json:"ids"`
	// Dir is where benches are made.
	Dir string `json:"dir"`
	// Timing has the limits.
	Timing Timing `json:"timing"`
}

// event is one line from a worker to its runner.
type event struct {
	// Type is "lab", "driver", "begin", "end" or "done".
	Type string `json:"type"`
	// ID is the requirement of begin and end.
	ID string `json:"id,omitempty"`
	// Outcome and Seconds belong to end.
	Outcome *outcome `json:"outcome,omitempty"`
	Seconds float64  `json:"seconds,omitempty"`
	// Lab belongs to lab, Capabilities to driver.
	Lab          *LabInfo `json:"lab,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	// Error belongs to done: why the worker could not do its work.
	Error string `json:"error,omitempty"`
}

// workerOrder returns the order of this process, if it is a worker.
func workerOrder() (*order, error) {
	text, ok := os.LookupEnv(workerEnv)
	if !ok {
		return nil, nil
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("%s: %w", workerEnv, err)
	}
	// What the driver starts must not take itself for a worker.
	os.Unsetenv(workerEnv)
	return &o, nil
}

// work is a worker's whole life: it runs the requirements of its order and
// streams what became of them. It does not return if the runner goes away or
// the driver gets stuck.
func work(s *Subject, o *order) {
	sink := &eventSink{out: os.NewFile(eventsFD, "events")}
	leash := os.NewFile(leashFD, "leash")
	go func() {
		// Reads nothing, ever, but the end: the runner is gone.
		_, _ = io.Copy(io.Discard, leash)
		os.Exit(exitLeash)
	}()
	s.Timing = o.Timing
	if err := s.work(o, sink); err != nil {
		sink.send(event{Type: "done", Error: err.Error()})
		return
	}
	sink.send(event{Type: "done"})
}

// exitLeash is the exit status of a worker whose runner went away.
const exitLeash = 3

func (s *Subject) work(o *order, sink *eventSink) error {
	if s.Lab != nil {
		if lab, ok := s.Lab.(Homed); ok {
			lab.Home(filepath.Join(o.Dir, "lab"))
		}
		info, err := s.Lab.Info(context.Background())
		if err != nil {
			return fmt.Errorf("the lab: %w", err)
		}
		sink.send(event{Type: "lab", Lab: &info})
		defer s.Lab.Close()
	}
	specs := slices.DeleteFunc(catalogue(), func(sp spec) bool { return !slices.Contains(o.IDs, sp.ID) })
	var once sync.Once
	describe(s, specs, o.Dir, func(m machinery.Machinery) {
		once.Do(func() {
			have := []string{}
			for _, c := range machinery.Capabilities() {
				if machinery.Supports(m, c) {
					have = append(have, string(c))
				}
			}
			sink.send(event{Type: "driver", Capabilities: have})
		})
	})
	ginkgo.ReportBeforeEach(func(r types.SpecReport) {
		sink.send(event{Type: "begin", ID: specID(r)})
	})
	ginkgo.ReportAfterEach(func(r types.SpecReport) {
		end := ended(r)
		if lab, ok := s.Lab.(Crasher); ok && (end.Outcome == report.Fail || end.Outcome == report.Broken) {
			end.Crash = lab.Crash(context.Background())
		}
		sink.send(event{Type: "end", ID: specID(r), Outcome: &end, Seconds: r.RunTime.Seconds()})
		if end.Stuck {
			// Whatever the driver's call still holds would disturb the next
			// requirement; another worker takes the rest.
			os.Exit(exitStuck)
		}
		if end.Crash != "" {
			// The lab has lost its hypervisor; another worker makes both anew.
			os.Exit(exitCrashed)
		}
	})
	config := types.NewDefaultSuiteConfig()
	config.RandomSeed = 1
	reporter := types.NewDefaultReporterConfig()
	reporter.NoColor, reporter.Succinct, reporter.SilenceSkips = true, true, true
	ginkgo.RunSpecs(deaf{}, "machinery "+s.title(), config, reporter)
	return nil
}

// exitStuck is the exit status of a worker whose driver does not return.
const exitStuck = 4

// exitCrashed is the exit status of a worker whose hypervisor has crashed.
const exitCrashed = 5

// deaf is Ginkgo's view of a test: failures are told by events.
type deaf struct{}

func (deaf) Fail() {}

// ended reads what became of a spec.
func ended(r types.SpecReport) outcome {
	o := outcome{ID: specID(r), Outcome: report.Broken, Message: failureText(r)}
	for _, entry := range r.ReportEntries {
		if entry.Name == outcomeEntry {
			var own outcome
			if err := json.Unmarshal([]byte(entry.GetRawValue().(string)), &own); err != nil {
				o.Message = err.Error()
				return o
			}
			return own
		}
	}
	switch r.State {
	case types.SpecStateTimedout, types.SpecStateInterrupted:
		// The check did not even come to its end when its context ended.
		o.Outcome, o.Stuck = report.Fail, true
		o.Message = "the requirement was not met in time, and the driver did not heed the end of its context: " + o.Message
	case types.SpecStateSkipped, types.SpecStatePending:
		o.Outcome, o.Reason, o.Message = report.NotRun, "skipped by Ginkgo: "+o.Message, ""
	}
	return o
}

// specID finds the requirement's id among a spec's labels.
func specID(r types.SpecReport) string {
	for _, label := range r.LeafNodeLabels {
		if _, ok := Find(label); ok {
			return label
		}
	}
	return ""
}

// eventSink writes events, a line each.
type eventSink struct {
	mu  sync.Mutex
	out io.Writer
}

func (s *eventSink) send(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.out.Write(append(line, '\n'))
}
