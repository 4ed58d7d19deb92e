package rpc

import (
	"errors"
	"fmt"
	"time"
)

// send writes a packet, whole or not at all: if stop closes while some of it is out, the connection ends,
// as what follows could not be understood. Where it returns an error the daemon has not got the whole of it, and
// carries nothing out (a Write that fails has not written all; io.Writer).
func (c *conn) send(stop <-chan struct{}, p *packet) error {
	select {
	case <-c.write:
	case <-stop:
		return errStopped
	case <-c.done:
		return c.cause()
	}
	defer func() { c.write <- struct{}{} }()
	b := p.bytes()
	var limit time.Time
	if len(b) <= 4096 {
		limit = time.Now().Add(smallWrite)
	} else {
		written := make(chan struct{})
		defer close(written)
		go c.watchWrite(stop, written)
	}
	if err := c.nc.SetWriteDeadline(limit); err != nil {
		c.fail(fmt.Errorf("cannot send to the daemon: %w", err))
		return c.cause()
	}
	if _, err := c.nc.Write(b); err != nil {
		c.fail(fmt.Errorf("cannot send to the daemon: %w", err))
		return c.cause()
	}
	return nil
}

// smallWrite bounds the sending of a small packet. The kernel takes it at once unless a daemon has read
// nothing of a hundred of them, and then the connection is of no use.
const smallWrite = 2 * time.Second

func (c *conn) watchWrite(stop <-chan struct{}, written <-chan struct{}) {
	select {
	case <-written:
	case <-c.done:
	case <-stop:
		c.fail(errors.New("the daemon stopped reading in the middle of a call"))
	}
}

var errStopped = errors.New("given up")
