package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
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

// A pending is a call that was sent and whose last packet has not come.
type pending struct {
	program, number uint32
	procedure       *procedure
	lane            *lane       // whose call it is; nil: an own call, or abandoned
	serial          int32       // the lane's number for it
	reply           chan answer // of an own call; has room for one
	replied         bool        // the answer came, and a stream is open
	finishing       bool        // the end of the stream was told, and is to be confirmed
	result          []byte      // what the answer carried, for the end of the stream
	early           []*packet   // came over the stream before the answer that opens it
}

// mostEarly is how many packets of a stream may come before the answer that opens it. libvirtd 9.0.0 sends them from another thread than
// the answer, and one has been seen to be first.
const mostEarly = 64

type answer struct {
	payload []byte
	err     error
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

// takeAnswer gives a reply or a stream packet to the call that it answers.
func (c *conn) takeAnswer(p *packet) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	call := c.pending[p.serial]
	err := c.answer(p)
	if err != nil || call == nil || !call.replied {
		return err
	}
	early := call.early
	call.early = nil
	for _, p := range early {
		if err := c.answer(p); err != nil {
			return err
		}
	}
	return nil
}

// answer is takeAnswer for whoever holds mu.
func (c *conn) answer(p *packet) error {
	call := c.pending[p.serial]
	if call == nil {
		return violation("an answer to no call, or a second one: %v", p)
	}
	if p.program != call.program || p.procedure != call.number {
		return violation("an answer to %s that is of another procedure: %v", call.procedure.name, p)
	}
	if p.kind == typeStream && !call.replied && call.procedure.in && len(call.early) < mostEarly {
		call.early = append(call.early, p)
		return nil
	}
	if (p.kind == typeStream) != call.replied {
		return violation("a packet out of order in the answer to %s: %v", call.procedure.name, p)
	}
	var failure *remoteError
	switch p.status {
	case statusError:
		if len(p.payload) > 0 || p.kind == typeReply {
			var err error
			if failure, err = parseError(p.payload); err != nil {
				return violation("a malformed error for %s (%v): %v", call.procedure.name, err, p)
			}
		}
	case statusContinue:
		if p.kind == typeReply {
			return violation("an answer to %s that is neither good nor an error: %v", call.procedure.name, p)
		}
	case statusOK:
		result := call.procedure.result
		if p.kind == typeStream {
			result = nil // the confirmation of a stream's end carries nothing
		}
		if err := check(result, p.payload); err != nil {
			return violation("a malformed answer to %s (%v): %v", call.procedure.name, err, p)
		}
	}
	last := p.status != statusContinue
	if p.kind == typeReply && p.status == statusOK && (call.procedure.in || call.procedure.out) {
		call.replied, call.result, last = true, p.payload, false
	}
	if last {
		delete(c.pending, p.serial)
	}
	if p.kind == typeStream && p.status == statusContinue && len(p.payload) == 0 && !call.finishing {
		// The end of what the daemon has to send (an empty packet; seen on libvirt 9.0.0). It keeps the
		// stream until the client confirms that, which the library never does. What the procedure returned
		// came with the answer before the stream, but the library looks for it in the last packet.
		call.finishing = true
		confirm := &packet{program: p.program, version: p.version, procedure: p.procedure, kind: typeStream, serial: p.serial, status: statusOK}
		go c.send(c.done, confirm)
		if call.lane != nil {
			end := *p
			end.status, end.payload = statusOK, call.result
			call.lane.deliver(&end, call.serial, nil)
			call.lane.finished(p.serial)
			call.lane = nil // what still comes is for nobody
		}
		return nil
	}
	switch {
	case call.lane != nil:
		call.lane.deliver(p, call.serial, failure)
		if last {
			call.lane.finished(p.serial)
		}
	case call.reply != nil && last:
		a := answer{payload: p.payload}
		if failure != nil {
			a.err = failure
		}
		call.reply <- a
	case last:
		c.free()
	}
	return nil
}

// register makes a number for a call, under which its answer comes.
func (c *conn) register(p *pending) (int32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for {
		if c.next++; c.next <= 0 {
			c.next = 1
		}
		if c.pending[c.next] == nil {
			c.pending[c.next] = p
			return c.next, nil
		}
	}
}

// forget drops the lane's part in a call: its answer is for nobody. An open stream is aborted.
func (c *conn) forget(l *lane, serial int32) {
	c.mu.Lock()
	p := c.pending[serial]
	if p == nil || p.lane != l {
		c.mu.Unlock()
		return
	}
	p.lane = nil
	abort := p.replied && !p.finishing
	p.finishing = p.finishing || abort
	c.mu.Unlock()
	if abort {
		go c.send(c.done, &packet{program: p.program, version: protocolVersion, procedure: p.number, kind: typeStream, serial: serial, status: statusError})
	}
}

// outstanding counts the calls whose answer has not come.
func (c *conn) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// send writes a packet, whole or not at all: if stop closes while some of it is out, the connection ends,
// as what follows could not be understood.
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

// call makes a call of the guard's own.
func (c *conn) call(ctx context.Context, number uint32, payload []byte) ([]byte, error) {
	p := &pending{program: remoteProgram, number: number, procedure: lookup(remoteProgram, number), reply: make(chan answer, 1)}
	serial, err := c.register(p)
	if err != nil {
		return nil, err
	}
	if err := c.send(ctx.Done(), &packet{program: remoteProgram, version: protocolVersion, procedure: number, kind: typeCall, serial: serial, payload: payload}); err != nil {
		if errors.Is(err, errStopped) {
			c.mu.Lock()
			delete(c.pending, serial)
			c.mu.Unlock()
			err = overdue(ctx, "waiting for others to send")
		}
		return nil, err
	}
	select {
	case a := <-p.reply:
		return a.payload, a.err
	case <-ctx.Done():
		c.mu.Lock()
		if c.pending[serial] == p {
			p.reply = nil // its answer is for nobody
		}
		c.mu.Unlock()
		return nil, overdue(ctx, "waiting for the answer to "+p.procedure.name)
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
		_, err := c.call(ctx, procConnectGetType, nil)
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
