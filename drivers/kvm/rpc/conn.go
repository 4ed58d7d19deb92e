package rpc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
)

// A conn is one connection to a daemon: one reader, which checks every packet before anybody sees it, and
// any number of lanes and own calls, each of which gets the answers to its calls and nothing else.
type conn struct {
	nc      net.Conn
	onEvent func(*packet) // called by the reader; must not block
	onFree  func()        // called aside when an abandoned call was answered, or the connection ended

	write chan struct{} // holds one token: who has it writes

	mu      sync.Mutex
	pending map[int32]*pending
	lanes   map[*lane]struct{}
	next    int32
	err     error
	probing bool
	ponging bool

	done   chan struct{} // closed when the connection has ended, err being set
	reader chan struct{} // closed when the reader has returned
}

// newConn starts to read. The caller closes with fail.
func newConn(nc net.Conn, onEvent func(*packet), onFree func()) *conn {
	c := &conn{nc: nc, onEvent: onEvent, onFree: onFree, write: make(chan struct{}, 1), pending: map[int32]*pending{}, lanes: map[*lane]struct{}{},
		done: make(chan struct{}), reader: make(chan struct{})}
	c.write <- struct{}{}
	go c.read()
	return c
}

// fail ends the connection, and with it every call on it. The first reason stays.
func (c *conn) fail(reason error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = &broken{reason}
	left, lanes := c.pending, c.lanes
	c.pending, c.lanes = nil, nil
	close(c.done)
	c.mu.Unlock()
	c.nc.Close()
	for l := range lanes {
		l.end(c.err)
	}
	for _, p := range left {
		if p.reply != nil {
			p.reply <- answer{err: c.err}
		}
	}
	c.free()
}

func (c *conn) free() {
	if c.onFree != nil {
		go c.onFree() // not here, where locks may be held
	}
}

func (c *conn) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// cause is why the connection ended; nil while it has not.
func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) read() {
	defer close(c.reader)
	r := bufio.NewReader(c.nc)
	for {
		p, err := readPacket(r)
		if err == nil {
			err = c.take(p)
		}
		if err != nil {
			c.fail(hungUp(err))
			return
		}
	}
}

// hungUp puts the end of a connection, as reading from it tells of that, in words. A daemon that has not read all that it was sent resets the
// connection where it would else close it.
func hungUp(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the daemon closed the connection; was it stopped or restarted, or has it too many clients?")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the daemon closed the connection in the middle of a packet")
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("the daemon closed the connection (%w); was it stopped or restarted, or has it too many clients?", err)
	}
	return err
}

// take gives a packet to whom it belongs, or tells what is wrong with it.
func (c *conn) take(p *packet) error {
	if p.program == keepaliveProgram {
		return c.keepalive(p)
	}
	if p.program != remoteProgram && p.program != qemuProgram || p.version != protocolVersion {
		return violation("a packet of an unknown program or version: %v", p)
	}
	if p.status > statusContinue {
		return violation("a packet of an unknown status: %v", p)
	}
	switch p.kind {
	case typeEvent:
		return c.takeEvent(p)
	case typeReply, typeStream:
		return c.takeAnswer(p)
	}
	return violation("a packet of a type that is not for a client: %v", p)
}

// keepalive answers a ping (procedure 1) with a pong (2), as libvirt's own clients do.
func (c *conn) keepalive(p *packet) error {
	if p.version != protocolVersion || p.kind != typeEvent || len(p.payload) != 0 || p.procedure != 1 && p.procedure != 2 {
		return violation("a keepalive packet that is none: %v", p)
	}
	if p.procedure == 1 {
		pong := *p
		pong.procedure = 2
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.ponging { // one that is on its way answers every ping before it
			c.ponging = true
			// Not by the reader: where the daemon does not read either, both would wait.
			go func() {
				c.send(c.done, &pong)
				c.mu.Lock()
				defer c.mu.Unlock()
				c.ponging = false
			}()
		}
	}
	return nil
}

func (c *conn) takeEvent(p *packet) error {
	if p.status != statusOK {
		return violation("an event with a status: %v", p)
	}
	e := events(p.program)[p.procedure]
	if e == nil {
		if lookup(p.program, p.procedure) != nil && !(p.program == qemuProgram && p.procedure == qemuMonitorEvent) {
			return violation("an event with the number of a call: %v", p)
		}
		return nil // of a newer libvirt, or of QEMU's monitor: nobody asked for it
	}
	if err := check(e.result, p.payload); err != nil {
		return violation("a malformed event %s (%v): %v", e.name, err, p)
	}
	if c.onEvent != nil {
		c.onEvent(p)
	}
	return nil
}

// qemuMonitorEvent is QEMU_PROC_DOMAIN_MONITOR_EVENT, the only event of the QEMU program.
const qemuMonitorEvent = 6
