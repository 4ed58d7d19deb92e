package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// Options say which daemon a [Client] talks to, and how patient it is.
type Options struct {
	// URI is libvirt's: qemu:///system (the default), qemu:///session, test:///default (the driver that
	// libvirtd has for tests), qemu+unix:///system?socket=PATH, the path of a socket alone, qemu+tcp://HOST/system,
	// qemu+tls://… and qemu+ssh://… . Where it names no socket, the monolithic daemon's (libvirt-sock) is
	// tried and then the modular one's (virtqemud-sock); for …/session those of the user. Daemons are not
	// started. The library's own ssh is used, not the ssh program, so ~/.ssh/config counts for nothing.
	URI string

	// Dial, if set, connects in place of what the URI says of the transport; the URI then says only what
	// the daemon is asked to open.
	Dial func(ctx context.Context) (net.Conn, error)

	// CallTimeout bounds a call whose context has no deadline; 0: 30 s. For [Client.DoLong] it is ten times
	// as long.
	CallTimeout time.Duration

	// Probe is how long a daemon may take to answer the probe that follows an overdue call, before the
	// connection is given up; 0: 5 s.
	Probe time.Duration

	// Pool is the most connections for [Client.DoLong], each with up to four calls; 0: 16. libvirtd has 20
	// workers for ordinary calls and 5 more for calls such as state and destroy, for all its clients (max_workers, prio_workers).
	Pool int

	// Log gets what happens to connections; nil: nothing.
	Log *slog.Logger
}

// The bounds of a connection and of the pool of short calls.
const (
	callsOfConnection = 4 // libvirtd carries out five; one is left for the probe
	shortConnections  = 4
)

// A Client makes calls to one daemon. It is safe for use by several goroutines.
type Client struct {
	o      Options
	target *target

	short, long *pool
	watching    hub

	ctx   context.Context // ends with Close
	close context.CancelCauseFunc
	once  sync.Once
}

// New checks the options. It connects to nothing: the first call does.
func New(o Options) (*Client, error) {
	t, err := parseURI(o.URI)
	if err != nil {
		return nil, err
	}
	if o.Dial != nil {
		t.dial = o.Dial
		t.where = "the address that was given"
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 30 * time.Second
	}
	if o.Probe <= 0 {
		o.Probe = 5 * time.Second
	}
	if o.Pool <= 0 {
		o.Pool = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{o: o, target: t}
	c.ctx, c.close = context.WithCancelCause(context.Background())
	c.short = newPool(c, "short calls", shortConnections)
	c.long = newPool(c, "long calls", o.Pool)
	c.watching.c = c
	return c, nil
}

// Local tells whether the daemon is on this host, so that paths mean the same to both. It is not known of a
// connection made by [Options.Dial], nor of tcp, and then the answer is no.
func (c *Client) Local() bool { return c.target.local && c.o.Dial == nil }

// URI is what the daemon is asked to open, such as qemu:///system.
func (c *Client) URI() string { return c.target.name }

// Do runs f with a library object for short calls: what libvirt answers from memory, such as states, lookups
// and lists. what says what is being done, for errors.
//
// f must only make calls of the library, and nothing in parallel; it may be run twice (see the package's
// documentation). A writer that f gives to a call with a stream must neither block nor fail. Do
// returns an [*Error], or what f returned where that has nothing to do with libvirt.
func (c *Client) Do(ctx context.Context, what string, f func(*libvirt.Libvirt) error) error {
	return c.do(ctx, what, c.short, c.o.CallTimeout, byLibrary(f))
}

// DoLong is [Client.Do] for calls that take long, because libvirt works on a machine for them: revert, create,
// destroy, dump, shut down. However many are under way, short calls do not wait for them.
func (c *Client) DoLong(ctx context.Context, what string, f func(*libvirt.Libvirt) error) error {
	return c.do(ctx, what, c.long, 10*c.o.CallTimeout, byLibrary(f))
}

// do takes a seat and has f use it, and does so again where the connection ended before anything can have been changed: once, and where
// nothing was sent as often as the pool may have connections, all of which are dead without anybody knowing it when the daemon has just been
// restarted.
func (c *Client) do(ctx context.Context, what string, p *pool, timeout time.Duration, f func(context.Context, *seat) (*use, error)) error {
	if err := ctx.Err(); err != nil {
		return &Error{What: what, Err: overdue(ctx, "beginning")}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for tries := 0; ; tries++ {
		s, err := p.take(ctx)
		if err != nil {
			return &Error{What: what, Err: err}
		}
		u, err := s.use(ctx, f)
		if err == nil {
			return nil
		}
		gone := s.conn.ended() && errors.Is(err, ErrDisconnected)
		again := tries == 0 && !u.changing || tries < p.most && !u.sent
		if again && gone && !errors.Is(err, ErrProtocol) && ctx.Err() == nil {
			c.o.Log.Debug("the connection ended in a call, which is made again", "what", what, "cause", err)
			continue
		}
		return c.explain(what, u, err)
	}
}

// explain makes an *Error of what a function returned.
func (c *Client) explain(what string, u *use, err error) error {
	e := &Error{What: what, Procedure: u.procedure, Sent: u.sent, Err: err}
	if errors.Is(err, ErrDisconnected) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		return e
	}
	var answer libvirt.Error
	unknown := errors.Is(err, libvirt.ErrUnsupported)
	if f := u.failure; f != nil && (unknown || errors.As(err, &answer) && answer.Code == uint32(f.code)) {
		e.Code, e.Domain, e.Level, e.Message = libvirt.ErrorNumber(f.code), f.domain, f.level, f.message
		return e
	}
	if errors.As(err, &answer) {
		e.Code, e.Message = libvirt.ErrorNumber(answer.Code), answer.Message
		return e
	}
	if u.refused != nil {
		e.Err = errors.Join(u.refused, err)
	}
	return e
}

// Close ends all connections and waits until nothing is left of them. Calls under way return with an error
// that matches [ErrClosed]. The daemon carries on with what it was asked. It is safe to call twice.
func (c *Client) Close() error {
	c.once.Do(func() {
		c.close(ErrClosed)
		c.short.shut()
		c.long.shut()
		c.watching.shut()
	})
	return nil
}

// closedError is the error of what Close ended.
func closedError(doing string) error { return fmt.Errorf("given up while %s: %w", doing, ErrClosed) }
