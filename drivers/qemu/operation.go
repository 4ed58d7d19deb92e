//go:build linux

package qemu

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/machineries/machineries/machinery"
)

// Why an operation was ended from outside; the cause of its context.
var (
	errStopped = errors.New("the machine was stopped meanwhile")
	errClosing = errors.New("the driver was closed meanwhile")
)

// errStuck says that an operation did not end though it was told to: something in the kernel keeps it, such as a network file
// system that does not answer.
var errStuck = errors.New("the operation before it does not end")

// turns serialises the operations of one machine. An operation holds its turn until it is done; the others wait in
// line. Stop goes to the head of the line and cancels what runs. The zero value is ready.
type turns struct {
	mu      sync.Mutex
	current *turn
	line    []*turn
	closed  bool
}

// turn is an operation's right to the machine.
type turn struct {
	turns  *turns
	op     machinery.Op
	first  bool // goes before those that are not
	ready  chan struct{}
	ended  error // set with ready closed: the turn was never had, because the driver closed
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// take waits until the operation may go on, for as long as ctx lets it. The operation works with the turn's ctx, which
// also ends when Stop or Close want the machine, and calls done at its end.
func (q *turns) take(ctx context.Context, op machinery.Op) (*turn, error) {
	t, err := q.enqueue(ctx, op, false, false)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ready:
		return t, t.ended
	case <-ctx.Done():
		if q.leave(t) {
			t.cancel(nil)
			return nil, ctx.Err()
		}
		<-t.ready // the turn came at the same moment
		if t.ended == nil {
			t.done()
		}
		return nil, ctx.Err()
	}
}

// overtake is take for Stop: it cancels the operation that has the turn and comes next. If ctx ends while it waits,
// even another Stop that has the turn is made to hurry, and overtake waits on: what has the turn is in its clean-up,
// which is bounded. If it takes longer than atMost all the same, the error is errStuck. cancelled is the operation that was
// cancelled, or empty.
func (q *turns) overtake(ctx context.Context, op machinery.Op, atMost time.Duration) (t *turn, cancelled machinery.Op, err error) {
	q.mu.Lock()
	if q.current != nil && !q.current.first {
		cancelled = q.current.op
		q.current.cancel(errStopped)
	}
	q.mu.Unlock()
	t, err = q.enqueue(ctx, op, true, false)
	if err != nil {
		return nil, cancelled, err
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-t.ready:
		return t, cancelled, t.ended
	case <-timer.C:
		return t, cancelled, q.giveUp(t)
	case <-ctx.Done():
	}
	q.mu.Lock()
	if q.current != nil && q.current != t {
		q.current.cancel(context.Cause(ctx))
	}
	q.mu.Unlock()
	select {
	case <-t.ready:
		return t, cancelled, t.ended
	case <-timer.C:
		return t, cancelled, q.giveUp(t)
	}
}

// takeClosed waits for the machine after close has been called, for the driver's own last work on it. The error is errStuck if
// that takes longer than atMost.
func (q *turns) takeClosed(op machinery.Op, atMost time.Duration) (*turn, error) {
	t, _ := q.enqueue(context.Background(), op, true, true)
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-t.ready:
		return t, nil
	case <-timer.C:
		return t, q.giveUp(t)
	}
}

// giveUp takes t out of the line and returns errStuck, unless its turn came at the same moment.
func (q *turns) giveUp(t *turn) error {
	if q.leave(t) {
		t.cancel(errStuck)
		return errStuck
	}
	<-t.ready
	return t.ended
}

// enqueue puts an operation in line; it may have its turn at once.
func (q *turns) enqueue(ctx context.Context, op machinery.Op, first, evenClosed bool) (*turn, error) {
	t := &turn{turns: q, op: op, first: first, ready: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed && !evenClosed {
		return nil, errClosing
	}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	at := len(q.line)
	if first {
		at = slices.IndexFunc(q.line, func(w *turn) bool { return !w.first })
		if at < 0 {
			at = len(q.line)
		}
	}
	q.line = slices.Insert(q.line, at, t)
	q.next()
	return t, nil
}

// next gives the turn to the head of the line, if nobody has it. The caller holds mu.
func (q *turns) next() {
	if q.current != nil || len(q.line) == 0 {
		return
	}
	q.current, q.line = q.line[0], q.line[1:]
	close(q.current.ready)
}

// leave takes t out of the line; false if it is not there any more.
func (q *turns) leave(t *turn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.line, t)
	if i < 0 {
		return false
	}
	q.line = slices.Delete(q.line, i, i+1)
	return true
}

// done ends the turn.
func (t *turn) done() {
	t.cancel(nil)
	q := t.turns
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	q.next()
}

// close ends the operation that has the turn, and all that wait, and lets no new one in.
func (q *turns) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.current != nil {
		q.current.cancel(errClosing)
	}
	for _, t := range q.line {
		t.ended = errClosing
		t.cancel(errClosing)
		close(t.ready)
	}
	q.line = nil
}
