package guest

// EventKind is what happened to a machine.
type EventKind uint8

// Kinds of events.
const (
	Booted      EventKind = iota + 1 // the guest's program has started
	ButtonSeen                       // the guest has seen its power button pressed; Value: presses since boot
	Hung                             // the guest has stopped for ever
	WasReset                         // by the guest or by the host
	SwitchedOff                      // by the guest or by the host
)

// String returns the kind in words.
func (k EventKind) String() string {
	names := [...]string{Booted: "booted", ButtonSeen: "button seen", Hung: "hung", WasReset: "reset", SwitchedOff: "switched off"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return "unknown event"
}

// Event is something that happened to a machine.
type Event struct {
	Seq   uint64 // of one subscription, from 1 on: a gap means that events were lost because nobody took them
	Kind  EventKind
	Guest bool // the guest did it, not the host
	Value uint32
}

// eventQueue is how many events a subscriber may leave unread before it loses new ones.
const eventQueue = 64

type subscriber struct {
	ch  chan Event
	seq uint64
}

// Subscribe returns a channel of what happens to the machine from now on, and a function that ends the
// subscription and closes the channel. A subscriber never holds the machine up: it may leave 64 events
// unread, and then loses what follows, which shows in Event.Seq.
func (m *Model) Subscribe() (<-chan Event, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &subscriber{ch: make(chan Event, eventQueue)}
	if m.closed {
		close(s.ch)
		return s.ch, func() {}
	}
	m.subscribers[s] = struct{}{}
	return s.ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unsubscribe(s)
	}
}

func (m *Model) publish(e Event) {
	for s := range m.subscribers {
		s.seq++
		e.Seq = s.seq
		select {
		case s.ch <- e:
		default:
		}
	}
}

func (m *Model) unsubscribe(s *subscriber) {
	if _, there := m.subscribers[s]; there {
		delete(m.subscribers, s)
		close(s.ch)
	}
}

func (m *Model) unsubscribeAll() {
	for s := range m.subscribers {
		m.unsubscribe(s)
	}
}
