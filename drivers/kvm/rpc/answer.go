package rpc

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
