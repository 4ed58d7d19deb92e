package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance/report"
	"github.com/machineries/machineries/machinery"
)

// World is what the check of one requirement works with: a bench of machines,
// the driver under test, and helpers that fail the check with a sentence. It
// undoes all that it made when the check is over, in reverse.
type World struct {
	// Ctx ends when the check has used up its time or the run is interrupted.
	Ctx context.Context
	// Timing has the limits, scaled.
	Timing Timing

	subject *Subject
	req     Requirement
	dir     string
	bench   Bench
	// parts counts the benches that were made and cleared away again.
	parts int

	mu      sync.Mutex
	log     []string
	started time.Time
	opened  []*Handle
	// stuck is set once a call of the driver has not returned: what it holds
	// is unknown, so the process is not fit for further checks.
	stuck bool
	// onOpen is told of every driver that was opened.
	onOpen func(machinery.Machinery)
}

// A check ends early by panicking with one of these; World.run turns them into
// an outcome.
type (
	// failed: the driver breaks the requirement.
	failed struct{ message string }
	// notRun: nothing can be said about the driver, and it is not to blame.
	notRun struct {
		outcome report.Outcome
		reason  string
	}
	// harness: the suite or its lab failed.
	harness struct{ err error }
)

func (f failed) Error() string  { return f.message }
func (n notRun) Error() string  { return n.reason }
func (h harness) Error() string { return h.err.Error() }
func (h harness) Unwrap() error { return h.err }

// Failf ends the check: the driver breaks the requirement. The text says what
// was seen and what should have been.
func (w *World) Failf(format string, args ...any) {
	panic(failed{fmt.Sprintf(format, args...)})
}

// Lab ends the check if the lab failed: nothing is known about the driver
// then.
func (w *World) Lab(err error, doing string) {
	if err != nil {
		panic(harness{fmt.Errorf("%s: %w", doing, err)})
	}
}

// NoError fails the check if err is not nil. The text says what was done.
func (w *World) NoError(err error, format string, args ...any) {
	if err != nil {
		w.Failf("%s, it failed: %v", fmt.Sprintf(format, args...), err)
	}
}

// Kind fails the check unless err is a *machinery.Error of that kind.
func (w *World) Kind(err, kind error, format string, args ...any) {
	when := fmt.Sprintf(format, args...)
	var e *machinery.Error
	switch {
	case err == nil:
		w.Failf("%s, it returned nil; want an error of kind %q", when, kind)
	case !errors.Is(err, kind):
		w.Failf("%s, the error is not of kind %q: %v", when, kind, err)
	case !errors.As(err, &e):
		w.Failf("%s, the error is a %T; want a *machinery.Error: %v", when, err, err)
	}
}

// Bench makes machines. A spec without a name is called "a".
func (w *World) Bench(machines ...MachineSpec) Bench {
	if len(machines) == 0 {
		machines = []MachineSpec{{}}
	}
	for i := range machines {
		if machines[i].Name == "" {
			machines[i].Name = "a"
		}
	}
	dir := filepath.Join(w.dir, fmt.Sprintf("b%d", w.parts))
	w.Lab(os.MkdirAll(dir, 0o700), "making the bench's directory")
	bench, err := w.subject.Lab.NewBench(w.Ctx, dir, machines)
	w.Lab(err, "making the machines")
	w.bench = bench
	return bench
}

// Open makes machines and opens the driver on them.
func (w *World) Open(machines ...MachineSpec) *Handle {
	w.Bench(machines...)
	return w.OpenAgain()
}

// OpenAgain opens the driver on the bench as it is, beside those that are
// open.
func (w *World) OpenAgain() *Handle {
	h, err := w.tryOpen(machinery.Options{RuntimeDir: w.bench.RuntimeDir()})
	w.NoError(err, "opening the driver with a right configuration")
	return h
}

func (w *World) tryOpen(o machinery.Options) (*Handle, error) {
	var m machinery.Machinery
	err := w.call(w.Timing.Start, machinery.OpOpen, w.bench.ConfigPath(), func() (err error) {
		var r machinery.Registry
		if err := r.Register(w.subject.Driver); err != nil {
			return err
		}
		m, err = r.OpenAs(w.Ctx, w.subject.Driver.Name, w.bench.ConfigPath(), o)
		return err
	})
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("Open returned neither a driver nor an error")
	}
	if w.onOpen != nil {
		w.onOpen(m)
	}
	h := &Handle{w: w, M: m}
	w.opened = append(w.opened, h)
	return h, nil
}

// errStuck is what a call that has not returned in time gives.
var errStuck = errors.New("the call has not returned")

// Requires ends the check as unsupported unless the driver has the optional
// operation that the requirement is about.
func (h *Handle) Requires(c machinery.Capability) {
	if !machinery.Supports(h.M, c) {
		panic(notRun{report.Unsupported, fmt.Sprintf("the driver does not have %s", c)})
	}
}

// call runs one call of the driver, notes it, and bounds it: a driver that
// does not return fails its requirement instead of holding up the run. A panic
// in the call is an error with its stack.
func (w *World) call(limit time.Duration, op machinery.Op, what string, f func() error) error {
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("the driver panicked: %v\n%s", r, debug.Stack())
			}
		}()
		done <- f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		w.note(began, op, what, err)
		return err
	case <-timer.C:
	}
	w.mu.Lock()
	w.stuck = true
	w.mu.Unlock()
	err := fmt.Errorf("%s %q: %w after %v", op, what, errStuck, limit)
	w.note(began, op, what, err)
	return err
}

// note writes a line of the check's log.
func (w *World) note(began time.Time, op machinery.Op, what string, err error) {
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	w.Notef("%s %q took %.3f s: %s", op, what, time.Since(began).Seconds(), text)
}

// maxLog bounds the log of one check.
const maxLog = 200

// Notef adds a line to the log that a failure is reported with.
func (w *World) Notef(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.log) < maxLog {
		line := strings.TrimSpace(fmt.Sprintf(format, args...))
		w.log = append(w.log, fmt.Sprintf("%8.3f  %s", time.Since(w.started).Seconds(), line))
	}
}

// Within waits until f returns an empty string, asking every few milliseconds,
// and fails the check with the last string if that takes longer than limit.
// The string says what is still wrong.
func (w *World) Within(limit time.Duration, f func() string) {
	if wrong := w.await(limit, f); wrong != "" {
		w.Failf("after %v: %s", limit, wrong)
	}
}

// await is Within that returns instead of failing.
func (w *World) await(limit time.Duration, f func() string) string {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		wrong := f()
		if wrong == "" {
			return ""
		}
		select {
		case <-ticker.C:
		case <-w.Ctx.Done():
			return wrong + " (and the time for this requirement is up)"
		case <-deadline.C:
			return wrong
		}
	}
}

// close undoes everything: first the driver is asked, then the lab makes sure.
func (w *World) close() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Ctx), w.Timing.Stop)
	defer cancel()
	for i := len(w.opened) - 1; i >= 0; i-- {
		h := w.opened[i]
		if !h.closed && !w.stuck {
			_ = w.call(w.Timing.Stop, machinery.OpShutdown, "", func() error { return h.M.Shutdown(ctx) })
		}
	}
	var err error
	if w.bench != nil {
		// The lab gets time of its own: a stuck driver may have used up ours.
		labCtx, labCancel := context.WithTimeout(context.WithoutCancel(w.Ctx), w.Timing.Clean)
		defer labCancel()
		err = w.bench.Close(labCtx)
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}
