package libvirt

import (
	"encoding/binary"
)

// spoil sends a packet, or what faults make of it; false where nothing more is
// to follow it.
func (c *client) spoil(p packet, faults []Fault) bool {
	b := p.encode()
	for _, f := range faults {
		switch f.Action {
		case Hang:
			c.silence()
			return false
		case Drop:
			c.close()
			return false
		case Swallow:
			return false
		case Double:
			c.send(b)
		case Late:
			c.life.work.Go(func() {
				if sleep(c.life.ctx, f.Delay) {
					c.send(b)
				}
			})
			return false
		case Half:
			c.send(b[:len(b)/2])
			c.silence()
			return false
		case Garbage:
			c.send(garbage(f.Bytes))
			return false
		case BadLength:
			bad := append([]byte(nil), b...)
			binary.BigEndian.PutUint32(bad, uint32(f.Bytes))
			c.send(bad)
			return false
		case Stranger:
			other := p
			other.Serial += 1 << 20
			c.send(other.encode())
		}
	}
	c.send(b)
	return true
}

// garbage is n bytes that are no packet; their length, read as one, is too high.
func garbage(n int) []byte {
	if n == 0 {
		n = 64
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(0xff - i%31)
	}
	return b
}

// flood sends events to every client that is registered for them, as many as
// that; 0 is 10,000.
func (s *Server) flood(n int) {
	if n == 0 {
		n = 10_000
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.domains) == 0 {
		return
	}
	for i := range n {
		s.lifecycle(s.domains[i%len(s.domains)], eventPMSuspended, int32(i%2))
	}
}

// Storm sends as many lifecycle events to every client that is registered for
// them, about all domains in turn: of a kind that says nothing about whether a
// machine runs (suspended to memory by its own power management).
func (s *Server) Storm(events int) { s.flood(events) }
