package rpc

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// An Event is a change in the life of a domain, or the sign that some may have been missed.
type Event struct {
	// Domain is the domain; its ID is that of the moment of the event.
	Domain libvirt.Domain
	// Event is what happened (virDomainEventType), and Detail how (the virDomainEvent…DetailType of it).
	Event  libvirt.DomainEventType
	Detail int32
	// Lost is true if events may have been missed before this one, which then has no domain: the first
	// of every watch, after every new connection, and when the watcher was too slow. Whoever gets it looks
	// at the states.
	Lost bool
	// Err is why there are no events at present: the connection ended, or cannot be made. An event with
	// Lost and without Err follows when there are some again.
	Err error
}

// Watch delivers the lifecycle events of all domains until ctx ends or the client is closed; then the
// channel is closed. The daemon may restart meanwhile: see [Event]. Events of libvirt 9.0.0 come before or after the
// answer to the call that caused them, in no fixed order. A watcher that does not read loses events, and is
// told so; it holds up nobody.
func (c *Client) Watch(ctx context.Context) <-chan Event {
	return c.watching.add(ctx)
}

// longestBacklog is how many events wait for a watcher before they are replaced by a sign that they were lost.
const longestBacklog = 1024

// A hub has one connection for the events of all watchers.
type hub struct {
	c *Client

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	running  bool
	state    Event // the last sign: what a new watcher is told first
	closed   bool
	tasks    sync.WaitGroup
	stop     context.CancelFunc
}

type watcher struct {
	queue []Event
	ready chan struct{}
}

func (h *hub) add(ctx context.Context) <-chan Event {
	out := make(chan Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(out)
		return out
	}
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	w := &watcher{ready: make(chan struct{}, 1)}
	h.watchers[w] = struct{}{}
	if h.running {
		if h.state.Lost {
			w.queue = append(w.queue, h.state)
		}
	} else {
		h.running = true
		h.state = Event{}
		run, stop := context.WithCancel(h.c.ctx)
		h.stop = stop
		h.tasks.Add(1)
		go h.run(run)
	}
	h.tasks.Add(1)
	go h.feed(ctx, w, out)
	return out
}

// feed takes a watcher's events to its channel.
func (h *hub) feed(ctx context.Context, w *watcher, out chan<- Event) {
	defer h.tasks.Done()
	defer close(out)
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
		if len(h.watchers) == 0 && h.running {
			h.running = false
			h.stop()
		}
	}()
	for {
		h.mu.Lock()
		var next Event
		have := len(w.queue) > 0
		if have {
			next, w.queue = w.queue[0], w.queue[1:]
		}
		h.mu.Unlock()
		if !have {
			select {
			case <-w.ready:
			case <-ctx.Done():
				return
			case <-h.c.ctx.Done():
				return
			}
			continue
		}
		select {
		case out <- next:
		case <-ctx.Done():
			return
		case <-h.c.ctx.Done():
			return
		}
	}
}

// tell gives an event to every watcher. run is the run that it is from: one that was stopped tells nothing.
func (h *hub) tell(run context.Context, e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run.Err() != nil {
		return
	}
	if e.Lost {
		h.state = e
	}
	for w := range h.watchers {
		if len(w.queue) >= longestBacklog {
			w.queue = append(w.queue[:0:0], Event{Lost: true})
		} else {
			w.queue = append(w.queue, e)
		}
		select {
		case w.ready <- struct{}{}:
		default:
		}
	}
}

// The pauses between attempts to connect again, and how often a quiet connection is tried.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
	heartbeat  = 10 * time.Second
)

// run keeps a connection with a subscription while there are watchers.
func (h *hub) run(ctx context.Context) {
	defer h.tasks.Done()
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := h.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		h.c.o.Log.Debug("no events from libvirt", "cause", err)
		h.tell(ctx, Event{Lost: true, Err: err})
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
		pause = min(2*pause, lastPause)
	}
}

// listen connects, subscribes, and returns when the connection has ended.
func (h *hub) listen(ctx context.Context) error {
	opening, cancel := h.c.bound(ctx)
	defer cancel()
	var (
		mu         sync.Mutex
		subscribed bool
		early      []*packet // came before the answer to the subscription
		callback   uint32
	)
	give := func(p *packet) {
		if p.program == remoteProgram && p.procedure == procEventLifecycle && binary.BigEndian.Uint32(p.payload) == callback {
			h.tell(ctx, lifecycle(p.payload[4:]))
		}
	}
	c, err := open(opening, h.c.target, func(p *packet) {
		mu.Lock()
		defer mu.Unlock()
		if !subscribed {
			early = append(early, p)
			return
		}
		give(p)
	}, nil)
	if err != nil {
		return err
	}
	defer func() {
		c.fail(context.Canceled)
		<-c.reader
	}()
	reply, _, err := c.call(opening, procEventCallbackRegister, make([]byte, 8)) // event 0: lifecycle; no domain: all
	if err != nil {
		return err
	}
	mu.Lock()
	h.tell(ctx, Event{Lost: true})
	callback = binary.BigEndian.Uint32(reply)
	subscribed = true
	for _, p := range early {
		give(p)
	}
	early = nil
	mu.Unlock()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return c.cause()
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			c.suspect(h.c.o.Probe)
		}
	}
}

// procEventLifecycle is REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE.
const procEventLifecycle = 318

// lifecycle reads a remote_domain_event_lifecycle_msg; the guard has checked it.
func lifecycle(b []byte) Event {
	var e Event
	n := binary.BigEndian.Uint32(b)
	e.Domain.Name = string(b[4 : 4+n])
	b = b[4+(n+3)&^3:]
	copy(e.Domain.UUID[:], b)
	b = b[len(e.Domain.UUID):]
	e.Domain.ID = int32(binary.BigEndian.Uint32(b))
	e.Event = libvirt.DomainEventType(binary.BigEndian.Uint32(b[4:]))
	e.Detail = int32(binary.BigEndian.Uint32(b[8:]))
	return e
}

// shut waits until no watcher and no connection is left; the client's context has ended.
func (h *hub) shut() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.tasks.Wait()
}
