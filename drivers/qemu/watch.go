//go:build linux

package qemu

import (
	"context"
	"sync"
	"time"

	"github.com/machineries/machineries/machinery"
)

// How often a watched machine is asked for its state though nothing was heard of it.
const (
	// watchHeld is for a machine that this driver holds. QEMU tells of its changes; that it does not answer any more, it cannot.
	watchHeld = time.Second
	// watchOthers is for a machine that this driver does not hold: another may start it, run it and stop it. What is asked
	// then is a directory and, while the machine runs, QEMU's second monitor.
	watchOthers = 100 * time.Millisecond
)

// lookTime is how long the state is waited for before news of the machine make it be asked for again. A QEMU that does not
// answer would hold up the news that it was killed.
const lookTime = 50 * time.Millisecond

// watches are those who watch one machine. The zero value is ready.
type watches struct {
	mu  sync.Mutex
	all map[*watch]bool
}

// watch is one call of Watch.
type watch struct {
	v    *vm
	out  chan machinery.Event
	news chan struct{} // has a token if something may have changed

	mu  sync.Mutex
	gap bool // changes were lost
}

// changed tells those who watch the machine that its state may be another. gap says that QEMU told something that was lost.
func (v *vm) changed(gap bool) {
	v.watches.mu.Lock()
	defer v.watches.mu.Unlock()
	for w := range v.watches.all {
		w.tell(gap)
	}
}

func (w *watch) tell(gap bool) {
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
func (w *watch) lost() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := w.gap
	w.gap = false
	return lost
}

// Watch sends the machine's present status and then each one whose state or reason differs from the last. For a machine that this driver holds,
// QEMU's events say when to look, and it is looked at every second besides; one that another process holds, or that is off, is
// looked at ten times a second. A reader that is slow gets the latest status and none of those between.
//
// Gap is set on an event before which changes may have been missed: the reader was slow, events of QEMU were lost, the state could
// not be asked for, or the machine is not held by this driver, so that what lies between two looks is not seen. Changes that
// follow each other within a millisecond, such as the short pause of a small memory dump, may be merged without that sign.
func (d *Machinery) Watch(ctx context.Context, name string) (<-chan machinery.Event, error) {
	v, err := d.lookup(ctx, machinery.OpWatch, name)
	if err != nil {
		return nil, err
	}
	w := &watch{v: v, out: make(chan machinery.Event), news: make(chan struct{}, 1)}
	d.ending.Lock()
	defer d.ending.Unlock()
	if d.isClosed() {
		return nil, &machinery.Error{Op: machinery.OpWatch, Machine: name, Kind: machinery.ErrClosed}
	}
	v.watches.mu.Lock()
	if v.watches.all == nil {
		v.watches.all = make(map[*watch]bool)
	}
	v.watches.all[w] = true
	v.watches.mu.Unlock()
	d.watchers.Go(func() { w.run(ctx) })
	return w.out, nil
}

// run looks and sends until ctx ends or the driver is closed.
func (w *watch) run(ctx context.Context) {
	defer close(w.out)
	defer func() {
		w.v.watches.mu.Lock()
		defer w.v.watches.mu.Unlock()
		delete(w.v.watches.all, w)
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(watchOthers)
	defer timer.Stop()
	var (
		last   machinery.Status // what was sent last, or waits to be
		next   machinery.Event  // what waits to be sent
		out    chan machinery.Event
		missed bool // changes may have been missed since the last event
		before bool // the machine was held at the last look
	)
	for {
		status, known := w.look(ctx)
		held := w.v.holds()
		missed = w.lost() || missed
		switch {
		case !known:
			missed = true
		case status.State != last.State || status.Reason != last.Reason:
			// What the reader has not taken is replaced. A machine that is not held was not seen between two looks.
			gap := missed || out != nil || last.State != "" && !held && !before
			next = machinery.Event{Status: status, Time: time.Now(), Gap: gap}
			last, out, missed = status, w.out, false
		case missed:
			// The same as before, but something may have been in between.
			next = machinery.Event{Status: status, Time: time.Now(), Gap: true}
			out, missed = w.out, false
		}
		before = held
		if held {
			timer.Reset(watchHeld)
		} else {
			timer.Reset(watchOthers)
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
			case <-w.v.d.closed:
				return
			}
		}
	}
}

// look asks for the state; known is false if that fails, or was given up for news of the machine.
func (w *watch) look(ctx context.Context) (status machinery.Status, known bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		status machinery.Status
		err    error
	}
	done := make(chan answer, 1)
	go func() {
		status, err := w.v.state(ctx)
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
	case <-w.v.d.closed:
	}
	cancel()
	<-done
	return status, false
}

// holds is whether this driver holds the machine, or is about to.
func (v *vm) holds() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.run != nil || v.doing != ""
}
