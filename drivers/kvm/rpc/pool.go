package rpc

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// A pool is the connections for one kind of call. It grows when those it has are full, up to its bound.
type pool struct {
	c    *Client
	kind string
	most int

	mu      sync.Mutex
	members []*member
	opening int
	closed  bool
	changed chan struct{} // closed, and made anew, when a place may have come free
	tasks   sync.WaitGroup
}

// A member is a connection of a pool.
type member struct {
	*conn
	taken int     // lanes in use
	spare []*lane // lanes that are not
}

// A seat is a place on a connection that is held for one function.
type seat struct {
	pool *pool
	conn *member
	lane *lane // nil while the library is not needed
}

func newPool(c *Client, kind string, most int) *pool {
	return &pool{c: c, kind: kind, most: most, changed: make(chan struct{})}
}

func (p *pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// take gets a place on the connection that has the least to do, and connects where none has a place.
func (p *pool) take(ctx context.Context) (*seat, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, closedError("waiting for a connection")
		}
		p.sweep()
		var best *member
		load := callsOfConnection
		for _, m := range p.members {
			if n := max(m.taken, m.outstanding()); n < load {
				best, load = m, n
			}
		}
		if best != nil {
			best.taken++
			p.mu.Unlock()
			return &seat{pool: p, conn: best}, nil
		}
		if len(p.members)+p.opening < p.most {
			p.opening++
			p.tasks.Add(1)
			p.mu.Unlock()
			err := p.connect(ctx)
			p.tasks.Done()
			if err != nil {
				return nil, err
			}
			continue
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, overdue(ctx, "waiting until libvirt has answered other calls ("+p.kind+")")
		case <-p.c.ctx.Done():
			return nil, closedError("waiting for a connection")
		}
	}
}

// sweep forgets connections that ended, and ends those on which nothing but abandoned calls is left: the
// daemon would work on those for ever, and a new connection gets five new places.
func (p *pool) sweep() {
	kept := p.members[:0]
	for _, m := range p.members {
		if !m.ended() && m.taken == 0 && m.outstanding() >= callsOfConnection {
			m.fail(errors.New("every call on this connection is overdue"))
		}
		if !m.ended() {
			kept = append(kept, m)
		}
	}
	clear(p.members[len(kept):])
	p.members = kept
}

// connect adds a connection.
func (p *pool) connect(ctx context.Context) error {
	ctx, cancel := p.c.bound(ctx)
	defer cancel()
	c, err := open(ctx, p.c.target, nil, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.wake()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opening--
	p.wake()
	if err == nil && p.closed {
		c.fail(ErrClosed)
		<-c.reader
		err = closedError("connecting")
	}
	if err != nil {
		if p.c.ctx.Err() != nil {
			return closedError("connecting")
		}
		return err
	}
	p.members = append(p.members, &member{conn: c})
	p.c.o.Log.Debug("connected to libvirt", "uri", p.c.target.name, "for", p.kind, "connections", len(p.members))
	return nil
}

// bound is a context that ends with the client too, and after CallTimeout.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.o.CallTimeout)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// byLibrary is a use of a seat: f runs on its lane.
func byLibrary(f func(*libvirt.Libvirt) error) func(context.Context, *seat) (*use, error) {
	return func(ctx context.Context, s *seat) (*use, error) { return s.run(ctx, f) }
}

// use has f use the seat, and gives it back.
func (s *seat) use(ctx context.Context, f func(context.Context, *seat) (*use, error)) (*use, error) {
	defer s.leave()
	return f(ctx, s)
}

// ready sees to it that the seat has a lane.
func (s *seat) ready() (err error) {
	s.pool.mu.Lock()
	if n := len(s.conn.spare); n > 0 {
		s.lane, s.conn.spare = s.conn.spare[n-1], s.conn.spare[:n-1]
	}
	s.pool.mu.Unlock()
	if s.lane == nil {
		s.lane, err = newLane(s.conn.conn)
	}
	return err
}

// run runs f on a lane.
func (s *seat) run(ctx context.Context, f func(*libvirt.Libvirt) error) (*use, error) {
	if err := s.ready(); err != nil {
		return &use{}, err
	}
	u := s.lane.begin()
	stop := context.AfterFunc(ctx, func() {
		s.lane.end(errStopped)
		s.conn.suspect(s.pool.c.o.Probe)
	})
	err := f(s.lane.lib)
	stop()
	var answer libvirt.Error
	switch {
	case err == nil, u.failure != nil && errors.As(err, &answer):
		return u, err
	case s.pool.c.ctx.Err() != nil && errors.Is(s.lane.ending(), ErrClosed):
		return u, closedError("waiting for the answer to " + u.procedure)
	case errors.Is(s.lane.ending(), errStopped):
		return u, overdue(ctx, "waiting for the answer to "+u.procedure)
	case s.lane.ending() != nil:
		return u, s.lane.ending()
	}
	return u, err
}

// ending is why the lane ended; nil while it has not.
func (l *lane) ending() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// leave gives the place back, and keeps the lane for the next if it is as new.
func (s *seat) leave() {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	s.conn.taken--
	if l := s.lane; l != nil {
		if l.idle() && !p.closed {
			s.conn.spare = append(s.conn.spare, l)
		} else {
			l.end(errStopped)
		}
	}
	p.wake()
}

// shut ends every connection and waits for its goroutines, the library's among them.
func (p *pool) shut() {
	p.mu.Lock()
	p.closed = true
	members := p.members
	p.members = nil
	p.wake()
	p.mu.Unlock()
	for _, m := range members {
		m.mu.Lock()
		lanes := maps.Clone(m.lanes)
		m.mu.Unlock()
		m.fail(ErrClosed)
		<-m.reader
		for l := range lanes {
			select {
			case <-l.lib.Disconnected():
			case <-time.After(lastLane): // a function of the caller's blocks it
			}
		}
	}
	p.tasks.Wait()
}

// lastLane bounds how long Close waits for the library, which ends at once unless the caller keeps it.
const lastLane = 2 * time.Second
