// Package turns gives each machine to one operation at a time: the others wait in line for as long as their callers let them, Stop goes
// first and ends what runs, and Close ends all. A driver has one [Turns] for each machine.
//
//	t, err := v.turns.Take(ctx, op)
//	if err != nil {
//		return err // ErrClosing, or the end of ctx
//	}
//	defer t.Done()
//	return v.restore(t.Context())
package turns

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
	// ErrStopped is the cause when Overtake ended it.
	ErrStopped = errors.New("the machine was stopped meanwhile")
	// ErrClosing is the cause when Close did, and the error of what wants a turn after that.
	ErrClosing = errors.New("the driver was closed meanwhile")
)

// ErrStuck says that an operation did not end though it was told to: something in the kernel keeps it, such as a network file
// system that does not answer.
var ErrStuck = errors.New("the operation before it does not end")

// Turns serialises the operations of one machine. An operation holds its turn until it is done; the others wait in
// line. Stop goes to the head of the line and cancels what runs. The zero value is ready.
type Turns struct {
	mu      sync.Mutex
	current *Turn
	line    []*Turn
	closed  bool
}

// Turn is an operation's right to the machine.
type Turn struct {
	turns  *Turns
	op     machinery.Op
	first  bool // goes before those that are not
	ready  chan struct{}
	ended  error // set with ready closed: the turn was never had, because the driver closed
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Take waits until the operation may go on, for as long as ctx lets it. The operation works with the turn's Context, which
// also ends when Stop or Close want the machine, and calls Done at its end. The error is
// ErrClosing after Close, or else why ctx ended.
func (q *Turns) Take(ctx context.Context, op machinery.Op) (*Turn, error) {
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
			t.Done()
		}
		return nil, ctx.Err()
	}
}

// Overtake is Take for Stop: it cancels the operation that has the turn and comes next. If ctx ends while it waits,
// even another Stop that has the turn is made to hurry, and Overtake waits on: what has the turn is in its clean-up,
// which is bounded. If it takes longer than atMost all the same, the error is ErrStuck. cancelled is the operation that was
// cancelled, or empty.
func (q *Turns) Overtake(ctx context.Context, op machinery.Op, atMost time.Duration) (t *Turn, cancelled machinery.Op, err error) {
	q.mu.Lock()
	if q.current != nil && !q.current.first {
		cancelled = q.current.op
		q.current.cancel(ErrStopped)
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

// TakeClosed waits for the machine after Close has been called, for the driver's own last work on it. The error is ErrStuck if
// that takes longer than atMost.
func (q *Turns) TakeClosed(op machinery.Op, atMost time.Duration) (*Turn, error) {
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

// giveUp takes t out of the line and returns ErrStuck, unless its turn came at the same moment.
func (q *Turns) giveUp(t *Turn) error {
	if q.leave(t) {
		t.cancel(ErrStuck)
		return ErrStuck
	}
	<-t.ready
	return t.ended
}

// enqueue puts an operation in line; it may have its turn at once.
func (q *Turns) enqueue(ctx context.Context, op machinery.Op, first, evenClosed bool) (*Turn, error) {
	t := &Turn{turns: q, op: op, first: first, ready: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed && !evenClosed {
		return nil, ErrClosing
	}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	at := len(q.line)
	if first {
		at = slices.IndexFunc(q.line, func(w *Turn) bool { return !w.first })
		if at < 0 {
			at = len(q.line)
		}
	}
	q.line = slices.Insert(q.line, at, t)
	q.next()
	return t, nil
}

// next gives the turn to the head of the line, if nobody has it. The caller holds mu.
func (q *Turns) next() {
	if q.current != nil || len(q.line) == 0 {
		return
	}
	q.current, q.line = q.line[0], q.line[1:]
	close(q.current.ready)
}

// Waiting is how many operations wait for their turn.
func (q *Turns) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.line)
}

// leave takes t out of the line; false if it is not there any more.
func (q *Turns) leave(t *Turn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.line, t)
	if i < 0 {
		return false
	}
	q.line = slices.Delete(q.line, i, i+1)
	return true
}

// Context is what the operation works with: its caller's context, which also ends when Stop or Close want the machine. The cause
// then is ErrStopped or ErrClosing.
func (t *Turn) Context() context.Context { return t.ctx }

// Done ends the turn.
func (t *Turn) Done() {
	t.cancel(nil)
	q := t.turns
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = nil
	q.next()
}

// Close ends the operation that has the turn, and all that wait, and lets no new one in.
func (q *Turns) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.current != nil {
		q.current.cancel(ErrClosing)
	}
	for _, t := range q.line {
		t.ended = ErrClosing
		t.cancel(ErrClosing)
		close(t.ready)
	}
	q.line = nil
}
