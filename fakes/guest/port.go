package guest

import "io"

// maxOutput is how many bytes the guest may have written that the other end of its serial port has not
// taken. Beyond it the guest waits, as it does for a busy transmitter, and answers nothing.
const maxOutput = 1024

// port is the serial port's connection to the outside.
type port struct {
	rw  io.ReadWriteCloser
	out []byte // what the guest has written and rw has not taken yet
}

// Attach connects the serial port to rw, which the model closes when the port is attached to something
// else, detached or when the model is closed. Output that was not taken by what was attached before is lost.
//
// Input is taken as a serial port does: one byte, and the next when the guest has read it. So what is sent
// to a machine that is paused or still booting waits, mostly with the sender, and is answered later. When
// rw fails, or reports its end, nothing is attached any more; then the guest's output goes nowhere, as with
// a QEMU whose chardev is disconnected.
func (m *Model) Attach(rw io.ReadWriteCloser) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detach()
	if m.closed {
		rw.Close()
		return
	}
	p := &port{rw: rw}
	m.port = p
	m.workers.Go(func() { m.read(p) })
	m.workers.Go(func() { m.write(p) })
}

// Detach closes what is attached to the serial port.
func (m *Model) Detach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detach()
}

func (m *Model) detach() {
	if m.port == nil {
		return
	}
	m.port.rw.Close() // unblocks the two goroutines of the port
	m.port = nil
	m.changed.Broadcast()
	m.poke()
}

// send has the guest write a frame.
func (m *Model) send(r Reply) {
	if m.port == nil {
		return
	}
	f := r.Encode()
	m.port.out = append(m.port.out, f[:]...)
	m.changed.Broadcast()
}

// read moves what comes in to the guest, a byte whenever it can take one.
func (m *Model) read(p *port) {
	buf := make([]byte, 4*FrameSize)
	for {
		// Nothing is read ahead of the guest's taking it, except what came in one piece: whoever writes to
		// a paused machine can then see its writes block, as on a socket that QEMU does not read from.
		if !m.receivable(p) {
			return
		}
		n, err := p.rw.Read(buf)
		for _, b := range buf[:n] {
			if !m.deliver(p, b) {
				return
			}
		}
		if err != nil {
			m.lose(p)
			return
		}
	}
}

// receivable waits until the guest can take a byte; false where the port has gone.
func (m *Model) receivable(p *port) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waitReceivable(p)
}

func (m *Model) waitReceivable(p *port) bool {
	for m.port == p && (!m.on || m.guest.Received) {
		m.changed.Wait()
	}
	return m.port == p
}

func (m *Model) deliver(p *port, b byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.waitReceivable(p) {
		return false
	}
	m.guest.Received, m.guest.In = true, b
	m.poke()
	return true
}

// write moves what the guest has written to the outside.
func (m *Model) write(p *port) {
	var buf []byte
	for {
		m.mu.Lock()
		p.out = p.out[:copy(p.out, p.out[len(buf):])]
		m.changed.Broadcast()
		m.poke() // the guest may be waiting for the transmitter
		for m.port == p && len(p.out) == 0 {
			m.changed.Wait()
		}
		gone := m.port != p
		buf = append(buf[:0], p.out...)
		m.mu.Unlock()
		if gone {
			return
		}
		if _, err := p.rw.Write(buf); err != nil {
			m.lose(p)
			return
		}
	}
}

// lose drops a port whose other end has gone.
func (m *Model) lose(p *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.port == p {
		m.detach()
	}
}
