//go:build linux

package qemu

import (
	"io"
	"sync"
	"time"
)

// item is a line on its way to a client.
type item struct {
	point Point  // PointGreeting, PointReply or PointEvent
	name  string // of the command or event
	data  []byte // with its line end
	id    any    // of the command
	hasID bool
}

// line writes to one client, with the faults that are planned for what it sends.
// Writing never waits: a client that reads slowly or not at all holds nobody up but
// itself, as with QEMU, which keeps what a client has not read.
type line struct {
	conn  io.ReadWriteCloser
	plan  *plan
	fates fates

	mu      sync.Mutex
	queue   []item
	changed *sync.Cond
	busy    bool
	closed  bool
	hung    bool
}

// fates is what faults do to the whole emulator.
type fates interface {
	exit(code int, text string)
	kill()
	noise(f Fault)
	deafen()
}

func newLine(conn io.ReadWriteCloser, p *plan, f fates) *line {
	l := &line{conn: conn, plan: p, fates: f}
	l.changed = sync.NewCond(&l.mu)
	go l.run()
	return l
}

func (l *line) send(it item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.queue = append(l.queue, it)
		l.changed.Broadcast()
	}
}

// flush waits until everything is written, for so long at most.
func (l *line) flush(patience time.Duration) {
	timer := time.AfterFunc(patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		l.changed.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && !l.hung && (len(l.queue) > 0 || l.busy) {
		l.changed.Wait()
	}
}

// close ends the connection; what is queued is lost.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	l.changed.Broadcast()
	l.mu.Unlock()
	l.conn.Close()
}

func (l *line) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hung = true
	l.changed.Broadcast()
}

func (l *line) isHung() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hung
}

func (l *line) run() {
	for {
		l.mu.Lock()
		for !l.closed && (len(l.queue) == 0 || l.hung) {
			l.changed.Wait()
		}
		if l.closed {
			l.mu.Unlock()
			return
		}
		it := l.queue[0]
		l.queue = l.queue[1:]
		l.busy = true
		l.mu.Unlock()
		l.write(it)
		l.mu.Lock()
		l.busy = false
		l.changed.Broadcast()
		l.mu.Unlock()
	}
}

// write sends one line, or what the faults make of it.
func (l *line) write(it item) {
	double := false
	for _, f := range l.plan.at(it.point, it.name) {
		if f.Deaf {
			l.fates.deafen()
		}
		switch f.Action {
		case Swallow:
			return
		case Double:
			double = true
		case Late:
			time.AfterFunc(f.Delay, func() { l.raw(it.data) })
			return
		case Half:
			l.raw(it.data[:len(it.data)/2])
			l.hang()
			return
		case Refuse:
			it.data = encode(errorReply(refusal(f), it.id, it.hasID))
		default:
			if !l.strike(f) {
				return
			}
		}
	}
	l.raw(it.data)
	if double {
		l.raw(it.data)
	}
}

func (l *line) raw(b []byte) {
	if _, err := l.conn.Write(b); err != nil {
		l.close()
	}
}

// strike carries out a fault that is the same at every point of the wire; false
// means that what was about to happen must not.
func (l *line) strike(f Fault) bool {
	if f.Deaf {
		l.fates.deafen()
	}
	switch f.Action {
	case Delay:
		time.Sleep(f.Delay) // the fault itself
	case Exit:
		l.fates.exit(f.Code, f.Text)
	case Kill:
		l.fates.kill()
	case Hang:
		l.hang()
		return false
	case Drop:
		l.close()
		return false
	case Garbage:
		l.raw(garbage(f))
	case Flood:
		n := f.Bytes
		if n == 0 {
			n = 100_000
		}
		for i := range n {
			l.raw(floodEvent(i))
		}
	case Noise:
		l.fates.noise(f)
	case Swallow:
		return false
	}
	return true
}

func garbage(f Fault) []byte {
	if f.Text != "" {
		return []byte(f.Text)
	}
	n := f.Bytes
	if n == 0 {
		n = 64
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = "]}\xff{\"\x00,:"[i%8]
	}
	return append(b, '\n')
}

func refusal(f Fault) *qerror {
	class, text := f.Class, f.Text
	if class == "" {
		class = "GenericError"
	}
	if text == "" {
		text = "refused by a planned fault"
	}
	return &qerror{class, text}
}

// encode is a message as it goes over the wire.
func encode(v any) []byte { return append(appendJSON(nil, v), "\r\n"...) }

func errorReply(e *qerror, id any, hasID bool) *dict {
	r := d("error", d("class", e.class, "desc", e.desc))
	if hasID {
		r.set("id", id)
	}
	return r
}
