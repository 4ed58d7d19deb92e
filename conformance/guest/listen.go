package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// maxSocketPath is the longest path that a unix socket can have on Linux, where sockaddr_un has 108 bytes
// with the closing zero.
const maxSocketPath = 107

// Listener waits on a unix socket for machines to connect their serial port. A machine that is started
// again connects again; its new connection replaces the one before, which is closed.
type Listener struct {
	l    *net.UnixListener
	done chan struct{}

	mu      sync.Mutex
	current *Client
	changed chan struct{} // closed and made anew at each connection
	closed  bool
	err     error // why no connection is accepted any more
}

// ErrClosed is returned by Client and Next after the listener was closed.
var ErrClosed = errors.New("the guest's listener is closed")

// Listen makes the socket at path, which must not exist and must be of at most 107 bytes.
func Listen(path string) (*Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("cannot listen for the guest: the socket path has %d bytes, and the system allows %d: %s", len(path), maxSocketPath, path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the guest: %w", err)
	}
	li := &Listener{l: l, done: make(chan struct{}), changed: make(chan struct{})}
	go li.accept()
	return li, nil
}

// Client returns the client of the machine that is connected, or waits for one to connect.
func (l *Listener) Client(ctx context.Context) (*Client, error) { return l.Next(ctx, nil) }

// Next returns the client of the machine that is connected if it is another than last, or waits for one.
// Whoever restarts a machine passes the client from before, and cannot be given a connection that is about
// to end. Last may be nil.
func (l *Listener) Next(ctx context.Context, last *Client) (*Client, error) {
	for {
		l.mu.Lock()
		c, changed, err := l.current, l.changed, l.err
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if c != nil && c != last && !c.gone() {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no guest has connected to %s: %w", l.l.Addr(), context.Cause(ctx))
		}
	}
}

// Close removes the socket and closes the connection.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	c := l.current
	l.mu.Unlock()
	err := l.l.Close()
	<-l.done
	if c != nil {
		c.Close()
	}
	return err
}

func (l *Listener) accept() {
	defer close(l.done)
	for {
		conn, err := l.l.Accept()
		if err != nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.err = ErrClosed
			if !l.closed {
				l.err = fmt.Errorf("cannot accept the guest's connection: %w", err)
			}
			close(l.changed)
			return
		}
		c := NewClient(conn)
		l.mu.Lock()
		old := l.current
		if l.closed {
			old = c
		} else {
			l.current = c
			close(l.changed)
			l.changed = make(chan struct{})
		}
		l.mu.Unlock()
		if old != nil {
			old.Close()
		}
	}
}
