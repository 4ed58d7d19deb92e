// Package watching tells those who watch a machine of its status, from whatever a driver hears and can ask: each change while the
// reader keeps up, and always the latest.
package watching

import (
	"context"
	"sync"
	"time"

	"github.com/machineries/machineries/machinery"
)

// Source is what a driver knows of a machine.
type Source struct {
	// Status asks for the machine's present status.
	Status func(context.Context) (machinery.Status, error)
	// Followed is whether the driver hears of the machine's changes, and calls Changed then.
	Followed func() bool
	// FollowedEvery and OtherwiseEvery are how often the machine is asked for its status though nothing was heard of it: where the driver hears of its
	// changes, and where it does not.
	FollowedEvery, OtherwiseEvery time.Duration
	// Closed ends every watch when it is closed.
	Closed <-chan struct{}
}

// lookTime is how long the status is waited for before news of the machine make it be asked for again. A hypervisor that does not
// answer would hold up the news that it was killed.
const lookTime = 50 * time.Millisecond

// Hub is all that watch one machine. The zero value is ready.
type Hub struct {
	mu  sync.Mutex
	all map[*Watch]bool
}

// Watch is one who watches.
type Watch struct {
	hub    *Hub
	source Source
	out    chan machinery.Event
	news   chan struct{} // has a token if something may have changed

	mu  sync.Mutex
	gap bool // changes were lost
}

// Changed tells those who watch the machine that its status may be another. gap says that something the hypervisor told was lost.
func (h *Hub) Changed(gap bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.all {
		w.tell(gap)
	}
}

// Watch begins to watch. Somebody has to call Run.
func (h *Hub) Watch(source Source) *Watch {
	w := &Watch{hub: h, source: source, out: make(chan machinery.Event), news: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all == nil {
		h.all = make(map[*Watch]bool)
	}
	h.all[w] = true
	return w
}

// Len is how many watch.
func (h *Hub) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// Events is where the present status is sent, and then each that differs from the last in its state or reason. It is closed when
// Run returns. A reader that is slow gets the latest status and none of those between. Gap is set on an event before which changes may
// have been missed: the reader was slow, something was lost, the status could not be asked for, or the machine's changes are not heard of.
func (w *Watch) Events() <-chan machinery.Event { return w.out }

func (w *Watch) tell(gap bool) {
	if gap {
		w.mu.Lock()
		w.gap = true
		w.mu.Unlock()
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// lost takes the mark that changes were lost.
func (w *Watch) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.gap
	w.gap = false
	return lost
}

// Run looks and sends until ctx ends or the source is closed.
func (w *Watch) Run(ctx context.Context) {
	defer close(w.out)
	defer func() {
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		delete(w.hub.all, w)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(w.source.OtherwiseEvery)
	defer timer.Stop()
	var (
		last   machinery.Status // what was sent last, or waits to be
		next   machinery.Event  // what waits to be sent
		out    chan machinery.Event
		missed bool // changes may have been missed since the last event
		before bool // the machine was followed at the last look
	)
	for {
		status, known := w.look(ctx)
		followed := w.source.Followed()
		missed = w.lost() || missed
		switch {
		case !known:
			missed = true
		case status.State != last.State || status.Reason != last.Reason:
			// What the reader has not taken is replaced. A machine that is not followed was not seen between two looks.
			gap := missed || out != nil || last.State != "" && !followed && !before
			next = machinery.Event{Status: status, Time: time.Now(), Gap: gap}
			last, out, missed = status, w.out, false
		case missed:
			// The same as before, but something may have been in between.
			next = machinery.Event{Status: status, Time: time.Now(), Gap: true}
			out, missed = w.out, false
		}
		before = followed
		if followed {
			timer.Reset(w.source.FollowedEvery)
		} else {
			timer.Reset(w.source.OtherwiseEvery)
		}
		for again := false; !again; {
			select {
			case out <- next:
				out = nil
			case <-w.news:
				again = true
			case <-timer.C:
				again = true
			case <-ctx.Done():
				return
			case <-w.source.Closed:
				return
			}
		}
	}
}

// look asks for the state; known is false if that fails, or was given up for news of the machine.
func (w *Watch) look(ctx context.Context) (status machinery.Status, known bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		status machinery.Status
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		status, err := w.source.Status(ctx)
		done <- answer{status, err}
	}()
	patience := time.NewTimer(lookTime)
	defer patience.Stop()
	select {
	case a := <-done:
		return a.status, a.err == nil
	case <-patience.C:
	}
	select {
	case a := <-done:
		return a.status, a.err == nil
	case <-w.news:
		w.tell(false) // to look again
	case <-ctx.Done():
	case <-w.source.Closed:
	}
	cancel()
	<-done
	return status, false
}
