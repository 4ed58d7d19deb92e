package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Event is something that happened in QEMU, such as STOP, RESUME, SHUTDOWN or MIGRATION.
type Event struct {
	Name string          // in QEMU's spelling, such as "MIGRATION"
	Data json.RawMessage // a JSON object, or nil; shared with other subscribers, so not to be written to
	Time time.Time       // QEMU's wall clock, in microseconds; zero where QEMU gave none

	// Missed is how many events right before this one this subscriber lost, because it had let its queue
	// fill up. After a gap, ask QEMU for its state.
	Missed int

	size int // bytes of the message, whose memory Data is a part of
}

// Decode reads the event's data into v as json.Unmarshal does. Without data it leaves v as it is.
func (e Event) Decode(v any) error {
	if e.Data == nil {
		return nil
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("the data of QEMU's event %s cannot be read: %w: %s", e.Name, err, excerpt(e.Data))
	}
	return nil
}

// Events delivers QEMU's events, in order, on a channel of the subscriber's own. The first subscriber gets
// everything since the connection began, as far as its queue holds it, so nothing is lost between New and
// Events; later ones get what comes from now on.
//
// A subscriber that does not keep up loses its oldest events and sees the gap in Event.Missed; the newest is always kept.
// Nobody else is held up by it. The channel is closed when ctx ends, when the connection has ended and
// everything before its end has been received, or by Close. A subscriber that stops receiving before that has
// to end its ctx, or a goroutine waits for it until Close.
func (m *Monitor) Events(ctx context.Context) <-chan Event {
	out := make(chan Event)
	q := m.subscribe()
	if !m.start(func() { m.deliver(ctx, q, out) }) {
		m.unsubscribe(q)
		close(out)
	}
	return out
}

// start runs f on a goroutine that Close waits for, unless Close has begun.
func (m *Monitor) start(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.workers.Go(f)
	return true
}

func (m *Monitor) deliver(ctx context.Context, q *eventQueue, out chan<- Event) {
	defer close(out)
	defer m.unsubscribe(q)
	ended := m.done
	for {
		event, ok := m.pop(q)
		if !ok {
			if ended == nil {
				return
			}
			select {
			case <-q.filled:
			case <-ctx.Done():
				return
			case <-m.closing:
				return
			case <-ended:
				ended = nil // nothing more is put in, but something may have been since pop
			}
			continue
		}
		select {
		case out <- event:
		case <-ctx.Done():
			return
		case <-m.closing:
			return
		}
	}
}

func (m *Monitor) subscribe() *eventQueue {
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	q := m.backlog
	if q == nil {
		q = newEventQueue(m.opts)
	}
	m.backlog = nil
	m.queues = append(m.queues, q)
	return q
}

func (m *Monitor) unsubscribe(q *eventQueue) {
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	for i := range m.queues {
		if m.queues[i] == q {
			m.queues = append(m.queues[:i:i], m.queues[i+1:]...)
			return
		}
	}
}

// publish puts an event into every queue. Only the reader calls it; it never waits for a subscriber.
func (m *Monitor) publish(e Event) {
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	if m.backlog != nil {
		m.backlog.push(e)
	}
	for _, q := range m.queues {
		q.push(e)
	}
}

func (m *Monitor) pop(q *eventQueue) (Event, bool) {
	m.eventMu.Lock()
	defer m.eventMu.Unlock()
	return q.pop()
}

// eventQueue holds the events that a subscriber has not received, bounded in number and in bytes, so that
// neither a slow subscriber nor a hostile QEMU can take the memory. It is guarded by Monitor.eventMu.
type eventQueue struct {
	filled   chan struct{} // has a token after something was put in
	events   []Event       // oldest first
	max      int           // events
	bytes    int           // memory that events keep alive
	maxBytes int
	missed   int // dropped, and not yet told with any event
}

func newEventQueue(opts Options) *eventQueue {
	return &eventQueue{
		filled:   make(chan struct{}, 1),
		max:      opts.EventQueue,
		maxBytes: opts.MessageLimit,
	}
}

func (q *eventQueue) push(e Event) {
	for len(q.events) > 0 && (len(q.events) >= q.max || q.bytes+e.size > q.maxBytes) {
		q.take()
		q.missed++
	}
	q.events = append(q.events, e)
	q.bytes += e.size
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// pop takes the oldest event. What was dropped was older still, so the gap is right before it.
func (q *eventQueue) pop() (Event, bool) {
	if len(q.events) == 0 {
		return Event{}, false
	}
	e := q.take()
	e.Missed, q.missed = q.missed, 0
	return e, true
}

func (q *eventQueue) take() Event {
	e := q.events[0]
	q.events[0] = Event{} // lets go of its data
	q.events = q.events[1:]
	q.bytes -= e.size
	return e
}
