//go:build linux

package qemu

import (
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// monitor is a QMP monitor on a character device. It serves one client at a time;
// who connects meanwhile waits in the socket's queue and is greeted afterwards.
type monitor struct {
	m       *machine
	chardev *chardev
	plan    *plan

	mu      sync.Mutex
	session *session
	hung    bool // for good: a planned fault
}

// session is one client's connection to a monitor.
type session struct {
	mon  *monitor
	line *line

	negotiated bool // guarded by machine.mu, like oob
	oob        bool

	fdMu sync.Mutex
	fds  []int // what came with the last message that had any
}

// greeting is what a client reads first.
func greeting() *dict {
	return d("QMP", d("version", version(), "capabilities", []any{"oob"}))
}

func version() *dict {
	return d("qemu", d("major", versionMajor, "minor", versionMinor, "micro", versionMicro), "package", versionPackage)
}

// serve takes one client after the other until the character device has no more.
func (mon *monitor) serve() {
	for {
		conn, err := mon.chardev.next()
		if err != nil {
			return
		}
		mon.client(conn)
	}
}

// client serves one connection to its end.
func (mon *monitor) client(conn io.ReadWriteCloser) {
	s := &session{mon: mon, line: newLine(conn, mon.plan, mon.m)}
	if mon.stuck() {
		s.line.hang()
	}
	mon.chardev.setOpen(true)
	mon.setSession(s)
	s.line.send(item{point: PointGreeting, data: encode(greeting())})
	s.read(conn)
	if _, ok := conn.(stdio); ok {
		forever() // the end of standard input ends nothing
	}
	mon.setSession(nil)
	mon.chardev.setOpen(false)
	if s.line.isHung() {
		mon.mu.Lock()
		mon.hung = true
		mon.mu.Unlock()
	}
	s.line.close()
	for _, fd := range s.takeFDs(nil) {
		unix.Close(fd)
	}
}

func (mon *monitor) stuck() bool {
	mon.mu.Lock()
	defer mon.mu.Unlock()
	return mon.hung
}

func (mon *monitor) setSession(s *session) {
	mon.m.mu.Lock()
	defer mon.m.mu.Unlock()
	mon.session = s
}

// read takes messages until the connection ends.
func (s *session) read(conn io.Reader) {
	stream := &streamer{emit: s.message}
	buf := make([]byte, 16<<10)
	oob := make([]byte, unix.CmsgSpace(16*4))
	uc, _ := conn.(*net.UnixConn)
	for {
		var n int
		var err error
		if uc != nil {
			var oobn int
			n, oobn, _, _, err = uc.ReadMsgUnix(buf, oob)
			n = max(n, 0) // it is -1 with an error
			if oobn > 0 {
				s.receiveFDs(oob[:oobn])
			}
			if n == 0 && err == nil {
				return
			}
		} else {
			n, err = conn.Read(buf)
		}
		stream.write(buf[:n])
		if err != nil {
			return
		}
	}
}

func (s *session) receiveFDs(oob []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return
	}
	var fds []int
	for _, m := range messages {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	for _, old := range s.takeFDs(fds) {
		unix.Close(old)
	}
}

// takeFDs replaces the descriptors that are waiting, and returns those.
func (s *session) takeFDs(replacement []int) []int {
	s.fdMu.Lock()
	defer s.fdMu.Unlock()
	old := s.fds
	s.fds = replacement
	return old
}

// takeFD is the next descriptor that came along; -1 where there is none.
func (s *session) takeFD() int {
	s.fdMu.Lock()
	defer s.fdMu.Unlock()
	if len(s.fds) == 0 {
		return -1
	}
	fd := s.fds[0]
	s.fds = s.fds[1:]
	return fd
}

// message carries out one message of the client, or answers what is none.
func (s *session) message(v any, err error) {
	m := s.mon.m
	<-m.ready // QEMU greets before it can answer
	req, name := s.understand(v, err)
	m.control.command(name)
	for _, f := range s.mon.plan.at(PointCommand, name) {
		switch f.Action {
		case Refuse:
			s.reply(name, errorReply(refusal(f), req.id, req.hasID), req)
			return
		case Pretend:
			r := d("return", d())
			if req.hasID {
				r.set("id", req.id)
			}
			s.reply(name, r, req)
			return
		}
		if !s.line.strike(f) {
			return
		}
	}
	if s.line.isHung() || s.mon.stuck() {
		return
	}
	m.mu.Lock()
	answer := m.dispatch(s, req)
	if answer != nil {
		s.reply(name, answer, req)
	}
	then := m.after
	m.after = nil
	m.control.report(m.status)
	m.mu.Unlock()
	if then != nil {
		then()
	}
}

func (s *session) reply(name string, answer *dict, req request) {
	s.line.send(item{point: PointReply, name: name, data: encode(answer), id: req.id, hasID: req.hasID})
}

// understand makes a request of a message; one that is none has its error in it.
func (s *session) understand(v any, err error) (request, string) {
	if err != nil {
		return request{err: asQError(err)}, ""
	}
	req := newRequest(v, func() bool {
		s.mon.m.mu.Lock()
		defer s.mon.m.mu.Unlock()
		return s.oob
	})
	return req, req.name
}

// deliver sends an event to the client that is connected, if it may have events
// already. The machine is locked.
func (mon *monitor) deliver(name string, event []byte) {
	if s := mon.session; s != nil && s.negotiated {
		s.line.send(item{point: PointEvent, name: name, data: event})
	}
}
