// Package rpc calls libvirt for the driver: with a context for every call, over connections that are made again when they break.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// Options say how libvirt is reached.
type Options struct {
	URI         string
	Dial        func(context.Context) (net.Conn, error)
	CallTimeout time.Duration
	Pool        int
	Log         *slog.Logger
}

// Error is libvirt's own error.
type Error struct {
	What string
	Said libvirt.Error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: libvirt: %s (error %d)", e.What, e.Said.Message, e.Said.Code)
}

// What a call can end with besides an Error.
var (
	ErrDisconnected = errors.New("the connection to libvirt broke")
	ErrTimeout      = errors.New("libvirt did not answer in time")
)

// Client calls libvirt.
type Client struct {
	o     Options
	short *conn
	long  chan *conn
}

type conn struct {
	mu sync.Mutex
	l  *libvirt.Libvirt
}

// New makes a client, which connects when it is first used.
func New(o Options) (*Client, error) {
	if o.Pool <= 0 {
		o.Pool = 4
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = 10 * time.Second
	}
	c := &Client{o: o, short: &conn{}, long: make(chan *conn, o.Pool)}
	for range o.Pool {
		c.long <- &conn{}
	}
	return c, nil
}

type dialer func() (net.Conn, error)

func (d dialer) Dial() (net.Conn, error) { return d() }

func (c *Client) connect(n *conn) (*libvirt.Libvirt, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.l != nil && n.l.IsConnected() {
		return n.l, nil
	}
	u, err := url.Parse(c.o.URI)
	if err != nil {
		return nil, err
	}
	var by socket.Dialer = dialers.NewLocal()
	switch path := u.Query().Get("socket"); {
	case c.o.Dial != nil:
		by = dialer(func() (net.Conn, error) { return c.o.Dial(context.Background()) })
	case path != "":
		by = dialers.NewLocal(dialers.WithSocket(path))
	}
	l := libvirt.NewWithDialer(by)
	driver, _, _ := strings.Cut(u.Scheme, "+")
	if err := l.ConnectToURI(libvirt.ConnectURI(driver + "://" + u.Path)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	n.l = l
	return l, nil
}

func (c *Client) on(ctx context.Context, n *conn, what string, f func(*libvirt.Libvirt) error, done func()) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.CallTimeout)
		defer cancel()
	}
	out := make(chan error, 1)
	go func() {
		defer done()
		l, err := c.connect(n)
		if err == nil {
			err = f(l)
		}
		if said, is := errors.AsType[libvirt.Error](err); is {
			err = &Error{Said: said, What: what}
		} else if err != nil && !errors.Is(err, ErrDisconnected) {
			err = fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		out <- err
	}()
	select {
	case err := <-out:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
}

// Do makes short calls.
func (c *Client) Do(ctx context.Context, what string, f func(*libvirt.Libvirt) error) error {
	return c.on(ctx, c.short, what, f, func() {})
}

// DoLong makes calls that take their time, each on a connection of its own.
func (c *Client) DoLong(ctx context.Context, what string, f func(*libvirt.Libvirt) error) error {
	select {
	case n := <-c.long:
		return c.on(ctx, n, what, f, func() { c.long <- n })
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
}

// Close ends the connections.
func (c *Client) Close() error {
	all := []*conn{c.short}
	for len(c.long) > 0 {
		all = append(all, <-c.long)
	}
	for _, n := range all {
		if n.l != nil && n.l.IsConnected() {
			_ = n.l.Disconnect()
		}
	}
	return nil
}

// IsCode is whether libvirt's error has that code.
func IsCode(err error, code libvirt.ErrorNumber) bool {
	said, is := errors.AsType[*Error](err)
	return is && said.Said.Code == uint32(code)
}

// RetryLocked calls f again for as long as libvirt says that the domain is locked.
func RetryLocked(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !IsCode(err, libvirt.ErrOperationTimeout) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
