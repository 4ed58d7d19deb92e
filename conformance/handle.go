package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery"
)

// Handle is one opened driver. Its methods call the driver's, bounded and
// noted. A call that does not return fails the check, and so they are for the
// check's own goroutine; Go is for others.
type Handle struct {
	w *World
	// M is the driver itself.
	M      machinery.Machinery
	closed bool
}

// returned fails the check if the call that gave err has not returned.
func (h *Handle) returned(err error) error {
	if errors.Is(err, errStuck) {
		h.w.Failf("%v", err)
	}
	return err
}

func (h *Handle) restoreStart(ctx context.Context, name string) error {
	return h.w.call(h.w.Timing.Start, machinery.OpRestoreStart, name, func() error { return h.M.RestoreStart(ctx, name) })
}

func (h *Handle) stop(ctx context.Context, name string) error {
	return h.w.call(h.w.Timing.Stop, machinery.OpStop, name, func() error { return h.M.Stop(ctx, name) })
}

func (h *Handle) state(ctx context.Context, name string) (s machinery.Status, err error) {
	err = h.w.call(h.w.Timing.State, machinery.OpState, name, func() (err error) {
		s, err = h.M.State(ctx, name)
		if err == nil {
			h.w.Notef("%q is %s", name, s)
		}
		return err
	})
	return s, err
}

// RestoreStart calls the driver's operation.
func (h *Handle) RestoreStart(name string) error {
	return h.returned(h.restoreStart(h.w.Ctx, name))
}

// Stop calls the driver's operation.
func (h *Handle) Stop(name string) error {
	return h.returned(h.stop(h.w.Ctx, name))
}

// State calls the driver's operation.
func (h *Handle) State(name string) (machinery.Status, error) {
	s, err := h.state(h.w.Ctx, name)
	return s, h.returned(err)
}

// HandlePaused calls the driver's operation.
func (h *Handle) HandlePaused(name string) error {
	return h.returned(h.w.call(h.w.Timing.Start, machinery.OpHandlePaused, name, func() error {
		return machinery.HandlePaused(h.w.Ctx, h.M, name)
	}))
}

// Shutdown calls the driver's operation.
func (h *Handle) Shutdown() error {
	h.closed = true
	return h.returned(h.w.call(h.w.Timing.Stop, machinery.OpShutdown, "", func() error { return h.M.Shutdown(h.w.Ctx) }))
}

// Close calls the driver's operation.
func (h *Handle) Close() error {
	h.closed = true
	return h.returned(h.w.call(h.w.Timing.Prompt, machinery.OpClose, "", func() error { return h.M.Close() }))
}

// Restored restores a machine and fails the check if that fails, or if the
// machine is not in the wanted state then.
func (h *Handle) Restored(name string, want machinery.State) {
	h.w.NoError(h.RestoreStart(name), "restoring %q", name)
	h.Settles(name, want)
}

// Settles waits until the machine is in the wanted state. A driver may return
// from a start early; so starting is waited out, and any other state fails.
func (h *Handle) Settles(name string, want machinery.State) {
	h.w.Within(h.w.Timing.Start, func() string {
		s, err := h.State(name)
		switch {
		case err != nil:
			h.w.Failf("State of the restored machine %q failed: %v", name, err)
		case s.State == want:
			return ""
		case s.State != machinery.StateStarting:
			h.w.Failf("State of the restored machine %q is %s; want %s%s", name, s, want, detail(s))
		}
		return fmt.Sprintf("the machine %q is still %s; want %s", name, s, want)
	})
}

// Is fails the check unless the machine is in one of the states now.
func (h *Handle) Is(name string, when string, want ...machinery.State) machinery.Status {
	s, err := h.State(name)
	h.w.NoError(err, "asking for the state of %q %s", name, when)
	if !slices.Contains(want, s.State) {
		h.w.Failf("%s, the state of %q is %s; want %s%s", when, name, s, list(want), detail(s))
	}
	return s
}

// Becomes waits until the machine is in one of the states.
func (h *Handle) Becomes(name, when string, want ...machinery.State) {
	h.w.Within(h.w.Timing.Guest, func() string {
		s, err := h.State(name)
		if err != nil {
			return fmt.Sprintf("%s, State of %q fails: %v", when, name, err)
		}
		if slices.Contains(want, s.State) {
			return ""
		}
		return fmt.Sprintf("%s, the state of %q is %s; want %s%s", when, name, s, list(want), detail(s))
	})
}

// Off fails the check unless nothing of the machine runs now, by the lab's
// own view.
func (h *Handle) Off(name, when string) {
	power, err := h.w.bench.Power(h.w.Ctx, name)
	h.w.Lab(err, "looking whether the machine runs")
	if power.On {
		h.w.Failf("%s, %q still runs: %s", when, name, power.Detail)
	}
}

// Guest returns the running guest of the machine and fails the check if it
// does not answer.
func (h *Handle) Guest(name string) Guest {
	g := h.connect(name)
	if _, err := h.w.counter(g); err != nil {
		h.w.Failf("the guest of %q does not answer though the machine should run: %v", name, err)
	}
	return g
}

// connect returns the guest of the machine's present run, which may stand
// still.
func (h *Handle) connect(name string) Guest {
	if h.w.guestless() {
		return newAgreeing(h.w.bench.Saved(name))
	}
	ctx, cancel := context.WithTimeout(h.w.Ctx, h.w.Timing.Guest)
	defer cancel()
	g, err := h.w.bench.Guest(ctx, name)
	if err != nil {
		h.w.Failf("the machine %q should be up, but no guest of it can be reached: %v", name, err)
	}
	return g
}

// Pending is a call that runs in a goroutine of its own.
type Pending struct {
	w     *World
	what  string
	done  chan struct{}
	began time.Time
	err   error
	took  time.Duration
}

// Go runs a call beside the check.
func (h *Handle) Go(what string, f func() error) *Pending {
	p := &Pending{w: h.w, what: what, done: make(chan struct{}), began: time.Now()}
	go func() {
		defer close(p.done)
		p.err = f()
		p.took = time.Since(p.began)
	}()
	return p
}

// Wait returns what the call returned; one that does not return within limit
// fails the check.
func (p *Pending) Wait(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.w.mu.Lock()
		p.w.stuck = true
		p.w.mu.Unlock()
		p.w.Failf("%s has not returned after %v", p.what, limit)
	}
	if errors.Is(p.err, errStuck) {
		p.w.Failf("%s: %v", p.what, p.err)
	}
	return p.err
}

// Running reports whether the call has not returned yet.
func (p *Pending) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// counter reads the guest's counter, bounded.
func (w *World) counter(g Guest) (uint32, error) {
	ctx, cancel := context.WithTimeout(w.Ctx, w.Timing.Guest)
	defer cancel()
	return g.Counter(ctx)
}

// answers calls the guest, bounded, and fails the check if it does not answer.
func answers[T any](w *World, doing string, f func(ctx context.Context) (T, error)) T {
	ctx, cancel := context.WithTimeout(w.Ctx, w.Timing.Guest)
	defer cancel()
	value, err := f(ctx)
	if err != nil {
		w.Failf("the guest does not answer (%s): %v", doing, err)
	}
	return value
}

// tells is answers for a call without a value.
func tells(w *World, doing string, f func(ctx context.Context) error) {
	answers(w, doing, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
}

// silent fails the check if the guest answers within the quiet time: a guest
// that stands still cannot.
func (w *World) silent(g Guest, when string) {
	if w.guestless() {
		return
	}
	ctx, cancel := context.WithTimeout(w.Ctx, w.Timing.Quiet)
	defer cancel()
	if n, err := g.Counter(ctx); err == nil {
		w.Failf("%s, the guest runs: it answers with its counter at %d", when, n)
	}
}

// moves fails the check unless the guest's counter goes on.
func (w *World) moves(g Guest, when string) {
	first, err := w.counter(g)
	if err != nil {
		w.Failf("%s, the guest does not answer: %v", when, err)
	}
	w.Within(w.Timing.Guest, func() string {
		next, err := w.counter(g)
		if err != nil {
			w.Failf("%s, the guest does not answer: %v", when, err)
		}
		if next == first {
			return fmt.Sprintf("%s, the guest's counter stands still at %d", when, first)
		}
		return ""
	})
}

// detail is a status' detail for the end of a sentence.
func detail(s machinery.Status) string {
	if s.Detail == "" {
		return ""
	}
	return ": " + strings.TrimSpace(s.Detail)
}

func list(states []machinery.State) string {
	words := make([]string, len(states))
	for i, s := range states {
		words[i] = string(s)
	}
	return strings.Join(words, " or ")
}
