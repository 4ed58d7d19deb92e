package rpc

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// A lane is the library's view of a connection: a net.Conn of its own on which the packets of one call at
// a time go through the guard. The library's object on it is used by one function at a time; when that
// function is overdue, the lane ends, which ends every call of the library on it at once.
type lane struct {
	c   *conn
	lib *libvirt.Libvirt

	mu      sync.Mutex
	ready   sync.Cond
	queue   [][]byte // for the library to read
	out     []byte   // written by the library, not yet a whole packet
	err     error    // why it ended
	opening bool     // the library's own opening, answered here
	stop    chan struct{}

	open map[int32]int32 // the library's serial → the connection's, of calls whose last packet has not come
	use  *use            // of the function that has the lane now
}

// A use is what one function did on a lane.
type use struct {
	sent      bool // anything left for the daemon
	changing  bool // something that may change something left
	procedure string
	failure   *remoteError // the last error that libvirt answered
	refused   error        // a call that this package does not let through
}

// newLane makes a library object on the connection. Nothing is sent: the handshake has been made, so the library's
// is answered here. So it cannot hang, and its data race with a daemon that drops in the middle cannot happen.
func newLane(c *conn) (*lane, error) {
	l := &lane{c: c, stop: make(chan struct{}), opening: true, open: map[int32]int32{}, use: &use{}}
	l.ready.L = &l.mu
	c.mu.Lock()
	err := c.err
	if err == nil {
		c.lanes[l] = struct{}{}
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	l.lib = libvirt.NewWithDialer(laneDialer{l})
	err = l.lib.ConnectToURI("")
	l.mu.Lock()
	l.opening = false
	l.ready.Broadcast()
	l.mu.Unlock()
	if err != nil {
		l.end(err)
		return nil, fmt.Errorf("cannot prepare a connection: %w", err)
	}
	return l, nil
}

type laneDialer struct{ l *lane }

func (d laneDialer) Dial() (net.Conn, error) { return laneConn(d), nil }

// begin readies the lane for a function.
func (l *lane) begin() *use {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.use = &use{}
	return l.use
}

// end ends the lane: the library reads the end of the connection, and every call on it returns.
func (l *lane) end(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	open := l.open
	l.open = nil
	if !l.opening {
		l.queue = nil
	}
	close(l.stop)
	l.ready.Broadcast()
	l.mu.Unlock()
	l.c.mu.Lock()
	delete(l.c.lanes, l)
	l.c.mu.Unlock()
	for _, serial := range open {
		l.c.forget(l, serial)
	}
}

// idle tells whether the lane can be used for another function: no call is open, and it has not ended.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && len(l.open) == 0 && len(l.out) == 0
}

// deliver hands a checked packet to the library. The connection calls it with its lock held.
func (l *lane) deliver(p *packet, serial int32, failure *remoteError) {
	q := *p
	q.serial = serial
	if failure != nil {
		q.payload = failure.plain()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	if failure != nil {
		l.use.failure = failure
	}
	l.queue = append(l.queue, q.bytes())
	l.ready.Signal()
}

// finished notes that the last packet of a call came.
func (l *lane) finished(serial int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for own, other := range l.open {
		if other == serial {
			delete(l.open, own)
		}
	}
}

// plain is the error in the form that the library reads: it takes the message for given.
func (e *remoteError) plain() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(e.code))
	b = binary.BigEndian.AppendUint32(b, uint32(e.domain))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = appendText(b, e.message)
	return binary.BigEndian.AppendUint32(b, uint32(e.level))
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	b = append(b, s...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// laneConn is the lane as the library's net.Conn.
type laneConn struct{ l *lane }

// Read gives the library what was delivered; after the end, io.EOF at once and always.
func (n laneConn) Read(b []byte) (int, error) {
	l := n.l
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		if l.err != nil && !l.opening {
			return 0, io.EOF
		}
		l.ready.Wait()
	}
	k := copy(b, l.queue[0])
	if l.queue[0] = l.queue[0][k:]; len(l.queue[0]) == 0 {
		l.queue = l.queue[1:]
	}
	return k, nil
}

// Write takes what the library sends, and sends on every packet that is whole.
func (n laneConn) Write(b []byte) (int, error) {
	l := n.l
	l.mu.Lock()
	l.out = append(l.out, b...)
	for len(l.out) >= leastPacket {
		length := int(binary.BigEndian.Uint32(l.out))
		if length < leastPacket || length > longestPacket {
			l.out = nil
			l.use.refused = fmt.Errorf("a call of %d bytes is longer than libvirt takes (%d)", length, longestPacket)
			l.mu.Unlock()
			return 0, l.use.refused
		}
		if len(l.out) < length {
			break
		}
		p := parsePacket(append([]byte(nil), l.out[lengthSize:length]...))
		l.out = l.out[length:]
		l.mu.Unlock()
		if err := l.forward(p); err != nil {
			return 0, err
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
	return len(b), nil
}

// own are procedures that are the client's own affair; a function cannot call them.
var own = map[uint32]string{
	procConnectOpen: "the client opens the connection itself", procConnectClose: "the client closes the connection itself",
	procAuthList: "the client authenticates itself", procAuthPolkit: "the client authenticates itself",
	105: "use Client.Watch for events", 106: "use Client.Watch for events", 167: "use Client.Watch for events", 168: "use Client.Watch for events",
	316: "use Client.Watch for events", 317: "use Client.Watch for events",
}

// forward sends a packet of the library's to the daemon, under a number of the connection.
func (l *lane) forward(p *packet) error {
	l.mu.Lock()
	if l.opening {
		defer l.mu.Unlock()
		reply := *p
		reply.kind, reply.payload = typeReply, nil
		if p.procedure == procAuthList {
			reply.payload = make([]byte, 8) // a list of one: none
			reply.payload[3] = 1
		}
		l.queue = append(l.queue, reply.bytes())
		l.ready.Signal()
		return nil
	}
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	if p.kind == typeStream {
		serial, ok := l.open[p.serial]
		l.mu.Unlock()
		if !ok {
			return nil // the daemon has ended the stream already
		}
		q := *p
		q.serial = serial
		return l.c.send(l.stop, &q)
	}
	procedure := lookup(p.program, p.procedure)
	if reason := own[p.procedure]; reason != "" && p.program == remoteProgram && procedure != nil {
		l.use.refused = fmt.Errorf("%s cannot be called here: %s", procedure.name, reason)
	} else if procedure == nil {
		l.use.refused = fmt.Errorf("procedure %d of program %#x cannot be called", p.procedure, p.program)
	}
	if l.use.refused != nil {
		defer l.mu.Unlock()
		return l.use.refused
	}
	l.use.procedure = procedure.name
	l.mu.Unlock()

	serial, err := l.c.register(&pending{program: p.program, number: p.procedure, procedure: procedure, lane: l, serial: p.serial})
	if err != nil {
		l.end(err)
		return err
	}
	l.mu.Lock()
	if l.err != nil {
		err := l.err
		l.mu.Unlock()
		l.c.withdraw(serial)
		return err
	}
	l.open[p.serial] = serial
	l.mu.Unlock()
	q := *p
	q.serial = serial
	if err := l.c.send(l.stop, &q); err != nil {
		l.c.withdraw(serial)
		return err
	}
	l.mu.Lock()
	l.use.sent = true
	l.use.changing = l.use.changing || !procedure.readOnly()
	l.mu.Unlock()
	return nil
}

// withdraw forgets a call that was not sent.
func (c *conn) withdraw(serial int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, serial)
}

// Close ends the lane.
func (n laneConn) Close() error {
	n.l.end(net.ErrClosed)
	return nil
}

func (n laneConn) LocalAddr() net.Addr              { return n.l.c.nc.LocalAddr() }
func (n laneConn) RemoteAddr() net.Addr             { return n.l.c.nc.RemoteAddr() }
func (n laneConn) SetDeadline(time.Time) error      { return nil } // the library sets none
func (n laneConn) SetReadDeadline(time.Time) error  { return nil }
func (n laneConn) SetWriteDeadline(time.Time) error { return nil }
