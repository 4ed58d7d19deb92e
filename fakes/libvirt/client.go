package libvirt

import (
	"net"
	"reflect"
	"sync"
)

// requests is how many calls of one client libvirtd works on at once
// (max_client_requests of libvirtd.conf). While so many are under way, nothing
// more is read from that client, not even a ping.
const requests = 5

// outQueue is how many packets wait for a client that does not read, until it
// is dropped.
const outQueue = 200_000

// client is one connection.
type client struct {
	server *Server
	life   *life
	conn   *net.UnixConn
	slots  chan struct{}

	// What is below is the server's to lock.
	opened    bool
	callbacks []*callback
	nextID    int32

	mu    sync.Mutex // the queue
	ready *sync.Cond
	queue [][]byte
	over  bool // nothing is sent any more
	mute  bool // nothing is sent any more, but the connection stays
	// streams are those that are open, by the number of their call.
	streams map[uint32]bool
}

func newClient(s *Server, lf *life, conn *net.UnixConn) *client {
	c := &client{server: s, life: lf, conn: conn, slots: make(chan struct{}, requests), streams: map[uint32]bool{}}
	c.ready = sync.NewCond(&c.mu)
	return c
}

// close ends the connection.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		c.conn.Close()
		c.ready.Broadcast()
	}
}

// send queues bytes for the client.
func (c *client) send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.mute {
		return
	}
	c.queue = append(c.queue, b)
	if len(c.queue) > outQueue {
		c.over = true
		c.conn.Close()
	}
	c.ready.Broadcast()
}

// silence sends nothing more over the connection, and leaves it open.
func (c *client) silence() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = true
}

// write sends what is queued.
func (c *client) write() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.over {
			c.ready.Wait()
		}
		if c.over {
			c.mu.Unlock()
			return
		}
		b := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		if !c.server.hush(c.life) {
			return
		}
		if _, err := c.conn.Write(b); err != nil {
			c.close()
			return
		}
	}
}

// read takes what comes in, until the connection ends.
func (c *client) read() {
	defer func() {
		c.server.mu.Lock()
		defer c.server.mu.Unlock()
		c.server.drop(c)
	}()
	for {
		select {
		case c.slots <- struct{}{}:
			// There is room for one more; it is taken when a call comes.
			<-c.slots
		case <-c.life.ctx.Done():
			return
		}
		p, err := readPacket(c.conn)
		if err != nil || !c.server.hush(c.life) {
			return
		}
		c.take(p)
	}
}

// take does what a packet says. What libvirtd 9.0.0 takes no notice of is not
// answered here either.
func (c *client) take(p packet) {
	switch {
	case p.Program == programKeepalive:
		c.keepalive(p)
		return
	case p.Program != programRemote && p.Program != programQEMU || p.Version != 1:
		c.refuse(p, fail(codeRPC, fromRPC, "Cannot find program %d version %d", int32(p.Program), p.Version))
		return
	case p.Type == typeStream:
		c.endStream(p)
		return
	case p.Type == typeCallWithFDs:
		c.refuse(p, fail(codeRPC, fromRPC, "file descriptors do not come to the fake libvirtd"))
		return
	case p.Type != typeCall:
		return
	case p.Status != statusOK:
		c.refuse(p, fail(codeRPC, fromRPC, "Unexpected message status %d", p.Status))
		return
	}
	c.slots <- struct{}{}
	c.life.work.Go(func() {
		defer func() { <-c.slots }()
		c.server.dispatch(c, p)
	})
}

// endStream answers a client that has all of a stream, or wants no more of it.
// What belongs to no stream is not answered.
func (c *client) endStream(p packet) {
	c.mu.Lock()
	open := c.streams[p.Serial]
	delete(c.streams, p.Serial)
	c.mu.Unlock()
	switch {
	case !open:
	case p.Status == statusError:
		c.refuse(p, fail(codeRPC, fromRPC, "stream aborted at client request"))
	default:
		c.reply(p, nil)
	}
}

// The messages of the keepalive program.
const (
	procPing = 1
	procPong = 2
)

// keepalive answers a ping; a client that says anything else of that kind
// without having been asked is let be, as libvirt does.
func (c *client) keepalive(p packet) {
	if p.Procedure == procPing {
		p.Procedure = procPong
		p.payload = nil
		c.send(p.encode())
	}
}

// reply is the answer to a call, with what encodes to its return value.
func (c *client) reply(p packet, ret any) {
	c.send(replyPacket(p, ret).encode())
}

func replyPacket(p packet, ret any) packet {
	r := packet{header: p.header}
	if p.Type != typeStream {
		r.Type = typeReply
	}
	r.Status = statusOK
	if ret != nil {
		r.payload = encodeXDR(nil, reflect.ValueOf(ret))
	}
	return r
}

// refuse answers a call with an error.
func (c *client) refuse(p packet, e *Error) { c.send(errorPacket(p, e).encode()) }

func errorPacket(p packet, e *Error) packet {
	r := packet{header: p.header, payload: encodeXDR(nil, reflect.ValueOf(e.wire()))}
	if p.Type != typeStream {
		r.Type = typeReply
	}
	r.Status = statusError
	return r
}
