package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// call makes a call of the guard's own. sent is whether it left for the daemon.
func (c *conn) call(ctx context.Context, number uint32, payload []byte) (result []byte, sent bool, err error) {
	p := &pending{program: remoteProgram, number: number, procedure: lookup(remoteProgram, number), reply: make(chan answer, 1)}
	serial, err := c.register(p)
	if err != nil {
		return nil, false, err
	}
	if err := c.send(ctx.Done(), &packet{program: remoteProgram, version: protocolVersion, procedure: number, kind: typeCall, serial: serial, payload: payload}); err != nil {
		if errors.Is(err, errStopped) {
			c.mu.Lock()
			delete(c.pending, serial)
			c.mu.Unlock()
			err = overdue(ctx, "waiting for others to send")
		}
		return nil, false, err
	}
	select {
	case a := <-p.reply:
		return a.payload, true, a.err
	case <-ctx.Done():
		c.mu.Lock()
		if c.pending[serial] == p {
			p.reply = nil // its answer is for nobody
		}
		c.mu.Unlock()
		return nil, true, overdue(ctx, "waiting for the answer to "+p.procedure.name)
	}
}

// suspect finds out, in the background, whether a connection on which a call is overdue still works.
func (c *conn) suspect(within time.Duration) {
	c.mu.Lock()
	if c.probing || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.probing = true
	c.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		_, _, err := c.call(ctx, procConnectGetType, nil)
		c.mu.Lock()
		c.probing = false
		c.mu.Unlock()
		if err != nil && ctx.Err() != nil {
			c.fail(fmt.Errorf("the daemon did not answer a call, and then no probe within %v either: %w", within, ErrTimeout))
		}
	}()
}

// The procedures that this package calls itself (remote_protocol.x).
const (
	procConnectOpen           = 1
	procConnectClose          = 2
	procConnectGetType        = 3
	procAuthList              = 66
	procAuthPolkit            = 70
	procEventCallbackRegister = 316
)
