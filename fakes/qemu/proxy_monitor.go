//go:build linux

package qemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"reflect"
	"sync"

	"golang.org/x/sys/unix"
)

// serve takes one client after the other, each with a connection of its own to the
// child, so that greeting and negotiation are the real ones.
func (m *proxyMonitor) serve() {
	for {
		conn, err := m.chardev.next()
		if err != nil {
			return
		}
		m.client(conn)
	}
}

func (m *proxyMonitor) current() *line {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line
}

func (m *proxyMonitor) setLine(l *line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.line = l
	if l != nil && m.hung {
		l.hang()
	}
}

func (m *proxyMonitor) hang() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung = true
	if m.line != nil {
		m.line.hang()
	}
}

// proxySession is one client.
type proxySession struct {
	m    *proxyMonitor
	down *line
	up   *net.UnixConn

	mu      sync.Mutex
	pending []sent
	fds     []int
}

// sent is a command that the child has not answered yet.
type sent struct {
	name  string
	id    any
	hasID bool
}

func (m *proxyMonitor) client(conn io.ReadWriteCloser) {
	up, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: m.address, Net: "unix"})
	if err != nil {
		conn.Close()
		return
	}
	s := &proxySession{m: m, down: newLine(conn, m.p.plan, m.p), up: up}
	m.setLine(s.down)
	var ends sync.WaitGroup
	ends.Go(func() {
		s.fromChild()
		s.down.flush(flushPatience)
		if !s.down.isHung() {
			s.down.close()
		}
	})
	s.fromClient(conn)
	up.Close()
	ends.Wait()
	if s.down.isHung() {
		m.hang()
	}
	m.setLine(nil)
	s.down.close()
	for _, fd := range s.fds {
		unix.Close(fd)
	}
}

// fromChild passes on what the child says, line by line.
func (s *proxySession) fromChild() {
	r := bufio.NewReaderSize(s.up, 64<<10)
	for {
		b, err := r.ReadBytes('\n')
		if len(b) > 0 {
			s.down.send(s.classify(b))
		}
		if err != nil {
			return
		}
	}
}

// classify says what a line of the child's is.
func (s *proxySession) classify(b []byte) item {
	it := item{point: PointReply, data: b}
	var m struct {
		QMP   json.RawMessage
		Event string
		ID    any             `json:"id"`
		Ret   json.RawMessage `json:"return"`
	}
	if json.Unmarshal(b, &m) != nil {
		return it
	}
	switch {
	case m.QMP != nil:
		it.point = PointGreeting
	case m.Event != "":
		it.point, it.name = PointEvent, m.Event
		s.follow(m.Event)
	default:
		c := s.answered(b, m.ID)
		it.name, it.id, it.hasID = c.name, c.id, c.hasID
		if c.name == "query-status" {
			var st struct{ Status string }
			if json.Unmarshal(m.Ret, &st) == nil && st.Status != "" {
				s.m.p.control.report(st.Status)
			}
		}
	}
	return it
}

// follow keeps the installation informed of the run state as far as events tell.
func (s *proxySession) follow(event string) {
	if status, ok := map[string]string{"STOP": statePaused, "RESUME": stateRunning, "SHUTDOWN": stateShutdown}[event]; ok {
		s.m.p.control.report(status)
	}
}

// answered finds the command that a reply belongs to: the one with the same id, or
// else the oldest.
func (s *proxySession) answered(b []byte, id any) sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return sent{}
	}
	at := 0
	for i, c := range s.pending {
		if c.hasID && reflect.DeepEqual(plain(c.id), id) {
			at = i
			break
		}
	}
	c := s.pending[at]
	s.pending = append(s.pending[:at], s.pending[at+1:]...)
	return c
}

// plain is a value of ours as encoding/json would have read it.
func plain(v any) any {
	var out any
	if json.Unmarshal(appendJSON(nil, v), &out) != nil {
		return nil
	}
	return out
}

// fromClient passes on what the client says, message by message.
func (s *proxySession) fromClient(conn io.Reader) {
	var raw []byte
	stream := &streamer{}
	stream.emit = func(v any, err error) {
		b := bytes.Clone(raw)
		raw = raw[:0]
		s.message(b, v, err)
	}
	uc, _ := conn.(*net.UnixConn)
	buf := make([]byte, 16<<10)
	oob := make([]byte, unix.CmsgSpace(16*4))
	for {
		var n, oobn int
		var err error
		if uc != nil {
			n, oobn, _, _, err = uc.ReadMsgUnix(buf, oob)
			n = max(n, 0) // it is -1 with an error
			if oobn > 0 {
				s.keep(oob[:oobn])
			}
			if n == 0 && err == nil {
				return
			}
		} else {
			n, err = conn.Read(buf)
		}
		for _, c := range buf[:n] {
			raw = append(raw, c)
			stream.feed(c)
		}
		if err != nil {
			return
		}
	}
}

func (s *proxySession) keep(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				unix.CloseOnExec(fd)
			}
			s.fds = append(s.fds, fds...)
		}
	}
}

// message passes one message on, unless a fault is planned for it.
func (s *proxySession) message(raw []byte, v any, err error) {
	req := request{}
	if err == nil {
		req = newRequest(v, func() bool { return true })
	}
	p := s.m.p
	p.control.command(req.name)
	for _, f := range p.plan.at(PointCommand, req.name) {
		switch f.Action {
		case Refuse:
			s.answer(req, errorReply(refusal(f), req.id, req.hasID))
			return
		case Pretend:
			s.pretend(req)
			return
		}
		if !s.down.strike(f) {
			return
		}
	}
	if s.down.isHung() {
		return
	}
	if req.name == "quit" && !p.mayEnd() {
		s.down.send(item{point: PointEvent, name: "SHUTDOWN", data: encode(shutdownEvent())})
		s.pretend(req)
		return
	}
	s.mu.Lock()
	s.pending = append(s.pending, sent{req.name, req.id, req.hasID})
	s.mu.Unlock()
	var rights []byte
	if len(s.fds) > 0 {
		rights = unix.UnixRights(s.fds...)
	}
	_, _, _ = s.up.WriteMsgUnix(raw, rights, nil) // a child that has gone ends the session by itself
	for _, fd := range s.fds {
		unix.Close(fd)
	}
	s.fds = nil
}

func (s *proxySession) answer(req request, reply *dict) {
	s.down.send(item{point: PointReply, name: req.name, data: encode(reply), id: req.id, hasID: req.hasID})
}

func (s *proxySession) pretend(req request) {
	r := d("return", d())
	if req.hasID {
		r.set("id", req.id)
	}
	s.answer(req, r)
}
