package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

// Client talks to the guest of one run of a machine, over the machine's serial port. Its methods may be
// called from several goroutines at once; the guest answers in order. A guest that is paused, hangs or has
// not booted does not answer, so each call lasts as long as its context, or until the connection ends.
type Client struct {
	conn net.Conn
	pid  int
	end  chan struct{} // closed when nothing comes any more
	read chan struct{} // closed when the reader has ended

	writing sync.Mutex

	mu      sync.Mutex
	closed  bool
	lastTag byte
	pending map[byte]chan guest.Reply // by tag; nil where the caller has given up
	events  []Event
	seq     uint64
	arrived chan struct{} // closed and made anew at each event
}

// ErrGone is matched by the errors of calls on a machine whose connection has ended: it was switched off,
// killed or started again.
var ErrGone = errors.New("the guest's connection has ended")

// StatusError is the error of a request that the guest answered and did not carry out.
type StatusError struct {
	Op     guest.Op
	Status guest.Status
}

// Error says what the guest answered.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the guest answered %q to the request %q", e.Status, e.Op)
}

// NewClient returns a client on a connection to a machine's serial port, which it owns from then on.
func NewClient(conn net.Conn) *Client {
	c := &Client{
		conn: conn, pid: peer(conn), end: make(chan struct{}), read: make(chan struct{}),
		pending: map[byte]chan guest.Reply{}, arrived: make(chan struct{}),
	}
	go c.receive()
	return c
}

// PID is the process id of the emulator at the other end, as the kernel says it; 0 where it does not say.
func (c *Client) PID() int { return c.pid }

// Gone is closed when the connection has ended.
func (c *Client) Gone() <-chan struct{} { return c.end }

// Close ends the connection. It may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	var err error
	if !again {
		err = c.conn.Close()
	}
	<-c.read
	return err
}

func (c *Client) gone() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

// receive reads frames until the connection ends.
func (c *Client) receive() {
	defer close(c.read)
	defer c.conn.Close()
	defer close(c.end)
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		n, err := c.conn.Read(chunk)
		buf = append(buf, chunk[:n]...)
		for {
			used, ok, r := guest.DecodeReply(buf)
			buf = append(buf[:0], buf[used:]...)
			if !ok {
				break
			}
			c.dispatch(r)
		}
		if err != nil {
			return
		}
	}
}

func (c *Client) dispatch(r guest.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Event() {
		c.record(r)
		return
	}
	// A tag that nobody waits for is a late reply, or one to an earlier connection: a machine that goes on
	// from a snapshot may finish what it was writing then.
	if answer, ok := c.pending[r.Tag]; ok {
		delete(c.pending, r.Tag)
		if answer != nil {
			answer <- r
		}
	}
}

// do sends a request and waits for its reply.
func (c *Client) do(ctx context.Context, op guest.Op, slot byte, value uint32) (uint32, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("the request %q was not sent to the guest: %w", op, context.Cause(ctx))
	}
	tag, answer, err := c.reserve()
	if err != nil {
		return 0, fmt.Errorf("the request %q was not sent to the guest: %w", op, err)
	}
	if err := c.write(ctx, guest.Request{Op: op, Tag: tag, Slot: slot, Value: value}); err != nil {
		c.abandon(tag)
		return 0, fmt.Errorf("cannot send the request %q to the guest: %w", op, err)
	}
	began := time.Now()
	select {
	case r := <-answer:
		return c.judge(op, r)
	case <-c.end:
		select {
		case r := <-answer: // its last words
			return c.judge(op, r)
		default:
		}
		return 0, fmt.Errorf("the guest did not answer the request %q: %w", op, ErrGone)
	case <-ctx.Done():
		c.abandon(tag)
		return 0, fmt.Errorf("the guest did not answer the request %q for %v: %w", op, time.Since(began).Round(time.Millisecond), context.Cause(ctx))
	}
}

func (c *Client) judge(op guest.Op, r guest.Reply) (uint32, error) {
	if r.Op != op {
		return 0, fmt.Errorf("the guest answered the request %q with a reply to %q", op, r.Op)
	}
	if r.Status != guest.StatusOK {
		return 0, &StatusError{Op: op, Status: r.Status}
	}
	return r.Value, nil
}

// reserve finds a tag that no request has whose reply may yet come.
func (c *Client) reserve() (byte, chan guest.Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.gone() {
		return 0, nil, ErrGone
	}
	for range guest.EventTag {
		tag := c.lastTag
		c.lastTag = (c.lastTag + 1) % guest.EventTag
		if _, used := c.pending[tag]; !used {
			answer := make(chan guest.Reply, 1)
			c.pending[tag] = answer
			return tag, answer, nil
		}
	}
	return 0, nil, fmt.Errorf("%d earlier requests are still unanswered", guest.EventTag)
}

func (c *Client) abandon(tag byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pending[tag]; ok {
		c.pending[tag] = nil
	}
}

func (c *Client) write(ctx context.Context, r guest.Request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	deadline, _ := ctx.Deadline() // the zero time is none
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	// At most EventTag frames can be under way, 2 KB, which every socket takes at once: a write that does
	// not get through means that the connection is broken.
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
		close(cut)
	})
	defer func() {
		if !stop() {
			<-cut // or it would cut the next request short
		}
	}()
	f := r.Encode()
	n, err := c.conn.Write(f[:])
	switch {
	case err == nil:
		return nil
	case n > 0: // half a frame is out: what follows would be misread
		c.conn.Close()
		return fmt.Errorf("%w: %w", ErrGone, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		<-ctx.Done() // which can come a moment after the deadline that it set
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}
