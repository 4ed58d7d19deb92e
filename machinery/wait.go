package machinery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pollInterval is how often a driver that cannot be watched is asked. A
// hypervisor answers in well under a millisecond, so this costs a few percent
// of one processor for as long as someone waits.
const pollInterval = 10 * time.Millisecond

// WaitState waits until the machine is in one of the wanted states and returns
// the status it was seen in. It watches the machine if the driver can, and
// asks every 10 ms otherwise. It never resumes a machine or changes it
// otherwise. A machine that is or gets in the error state is not waited for,
// unless that state is wanted: as a rule it takes a Stop to leave it.
//
// Errors: of kind [ErrInterrupted] when ctx ends, saying which states were
// seen and when, and why State failed if it did to the end; [ErrUnexpectedState]
// for the error state; what State returns if it cannot succeed ([ErrNotFound],
// [ErrClosed]).
func WaitState(ctx context.Context, m Machinery, name string, want ...State) (Status, error) {
	w := waiter{name: name, want: want, start: time.Now()}
	if err := ctx.Err(); err != nil {
		return Status{}, w.interrupted(err)
	}
	if Supports(m, CapWatch) {
		if status, done, err := w.watch(ctx, m); done {
			return status, err
		}
	}
	return w.poll(ctx, m)
}

// waiter is one call of WaitState.
type waiter struct {
	name  string
	want  []State
	start time.Time
	seen  []sighting
	// dropped is how many sightings were left out after the first.
	dropped int
	// failed is why State failed, since it last succeeded.
	failed error
}

// sighting is a status and when it was first seen, from the waiter's start.
type sighting struct {
	status Status
	after  time.Duration
}

// maxSightings bounds the history for a machine that flaps: the first state and
// the latest ones are told.
const maxSightings = 16

// saw notes a status and says whether the wait is over.
func (w *waiter) saw(s Status) (done bool, err error) {
	if n := len(w.seen); n == 0 || w.seen[n-1].status != s {
		if n == maxSightings {
			w.seen = append(w.seen[:1], w.seen[2:]...)
			w.dropped++
		}
		w.seen = append(w.seen, sighting{s, time.Since(w.start)})
	}
	if slices.Contains(w.want, s.State) {
		return true, nil
	}
	if s.State == StateError {
		return true, &Error{Op: OpWait, Machine: w.name, Kind: ErrUnexpectedState, Status: s,
			Reason: fmt.Sprintf("waited for %s, but the machine is in state %s%s", w.wanted(), s, w.history(s.Detail))}
	}
	return false, nil
}

// watch waits by the driver's events. done is false if the driver cannot be
// watched after all, and polling has to go on.
func (w *waiter) watch(ctx context.Context, m Machinery) (status Status, done bool, err error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := Watch(watching, m, w.name)
	if err != nil {
		return Status{}, false, nil
	}
	for {
		select {
		case <-ctx.Done():
			return w.last(), true, w.interrupted(ctx.Err())
		case event, open := <-events:
			if !open {
				return Status{}, false, nil
			}
			if done, err := w.saw(event.Status); done {
				return event.Status, true, err
			}
		}
	}
}

// poll waits by asking.
func (w *waiter) poll(ctx context.Context, m Machinery) (Status, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		status, err := m.State(ctx, w.name)
		switch {
		case err == nil:
			w.failed = nil
			if done, err := w.saw(status); done {
				return status, err
			}
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrClosed):
			return w.last(), err
		case ctx.Err() == nil: // else it is the wait's end that made State fail
			w.failed = err
		}
		select {
		case <-ctx.Done():
			return w.last(), w.interrupted(ctx.Err())
		case <-ticker.C:
		}
	}
}

// last returns the status seen last.
func (w *waiter) last() Status {
	if len(w.seen) == 0 {
		return Status{}
	}
	return w.seen[len(w.seen)-1].status
}

func (w *waiter) wanted() string {
	words := make([]string, len(w.want))
	for i, s := range w.want {
		words[i] = string(s)
	}
	return strings.Join(words, " or ")
}

// history tells the states seen, with the time of each.
func (w *waiter) history(detail string) string {
	var b strings.Builder
	b.WriteString("; seen: ")
	if len(w.seen) == 0 {
		b.WriteString("no state at all")
	}
	for i, s := range w.seen {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == 1 && w.dropped > 0 {
			fmt.Fprintf(&b, "%d more, ", w.dropped)
		}
		fmt.Fprintf(&b, "%s after %.3f s", s.status, s.after.Seconds())
	}
	if detail != "" {
		b.WriteString(": " + detail)
	}
	return b.String()
}

// interrupted is the error for a wait that its context ended.
func (w *waiter) interrupted(cause error) error {
	reason := fmt.Sprintf("waited %.3f s for %s%s", time.Since(w.start).Seconds(), w.wanted(), w.history(w.last().Detail))
	if w.failed != nil {
		reason += fmt.Sprintf("; asking for the state failed at last: %v", w.failed)
	}
	return &Error{Op: OpWait, Machine: w.name, Kind: ErrInterrupted, Status: w.last(), Reason: reason, Err: cause}
}
