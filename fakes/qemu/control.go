//go:build linux

package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What an emulator and its installation say to each other: JSON values, one a line,
// over the control socket.

// message goes from the installation to an emulator.
type message struct {
	ID     int             `json:",omitempty"`
	Plan   *[]Fault        `json:",omitempty"`
	Do     json.RawMessage `json:",omitempty"`
	Suffer string          `json:",omitempty"`
}

// answer goes from an emulator to the installation: who it is, what it has been
// told, or the answer to a message.
type answer struct {
	Args    []string        `json:",omitempty"`
	Command *string         `json:",omitempty"`
	Status  string          `json:",omitempty"`
	ID      int             `json:",omitempty"`
	Reply   json.RawMessage `json:",omitempty"`
	Err     string          `json:",omitempty"`
}

// link is either end of the connection. A nil link is that of an emulator that
// belongs to no installation: nothing happens.
type link struct {
	conn *net.UnixConn
	in   *json.Decoder

	mu     sync.Mutex
	out    *json.Encoder
	status string
}

func newLink(conn *net.UnixConn) *link {
	return &link{conn: conn, in: json.NewDecoder(bufio.NewReader(conn)), out: json.NewEncoder(conn)}
}

func (l *link) send(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Encode(v)
}

// dialControl reports a new emulator to its installation and learns what is planned
// for it.
func dialControl(socket string, args []string) (*link, []Fault, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l := newLink(conn)
	if args == nil {
		args = []string{}
	}
	var m message
	if err := l.send(answer{Args: args}); err != nil {
		conn.Close()
		return nil, nil, err
	}
	if err := l.in.Decode(&m); err != nil || m.Plan == nil {
		conn.Close()
		return nil, nil, fmt.Errorf("the installation does not answer: %w", err)
	}
	return l, *m.Plan, nil
}

// command tells the installation of a command that came in.
func (l *link) command(name string) {
	if l != nil {
		_ = l.send(answer{Command: &name}) // an installation that has gone ends us: see serve
	}
}

// report tells the installation of a new run state.
func (l *link) report(status string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status != status {
		l.status = status
		_ = l.out.Encode(answer{Status: status})
	}
}

// subject is what an installation can command.
type subject interface {
	stranger(command json.RawMessage) (json.RawMessage, error)
	suffer(status string) error
	newPlan(faults []Fault)
	orphan()
}

// serve does what the installation says, until that has gone: then the emulator ends
// too, so that nothing is left behind by a test that was killed.
func (l *link) serve(s subject) {
	if l == nil {
		return
	}
	go func() {
		for {
			var m message
			if err := l.in.Decode(&m); err != nil {
				s.orphan()
				return
			}
			go l.obey(s, m)
		}
	}()
}

func (l *link) obey(s subject, m message) {
	a := answer{ID: m.ID}
	var err error
	switch {
	case m.Plan != nil:
		s.newPlan(*m.Plan)
	case m.Suffer != "":
		err = s.suffer(m.Suffer)
	case m.Do != nil:
		a.Reply, err = s.stranger(m.Do)
	}
	if err != nil {
		a.Err = err.Error()
	}
	_ = l.send(a)
}

// stranger runs a command as a client on another monitor would.
func (m *machine) stranger(command json.RawMessage) (json.RawMessage, error) {
	var v any
	var perr error
	got := false
	stream := &streamer{emit: func(x any, err error) { v, perr, got = x, err, true }}
	stream.write(append(command, '\n'))
	if !got {
		return nil, errors.New("the command is not complete")
	}
	if perr != nil {
		return encode(errorReply(asQError(perr), nil, false)), nil
	}
	<-m.ready
	s := &session{mon: &monitor{m: m}, negotiated: true}
	m.mu.Lock()
	reply := m.dispatch(s, newRequest(v, func() bool { return false }))
	then := m.after
	m.after = nil
	m.control.report(m.status)
	m.mu.Unlock()
	if then != nil {
		// Not before the answer is on its way: it may be the end of the process.
		time.AfterFunc(10*time.Millisecond, then)
	}
	return encode(reply), nil
}

func (m *machine) newPlan(faults []Fault) { m.plan.set(faults) }

func (m *machine) orphan() { killSelf() }

// serve takes reports from emulators that are started.
func (in *Installation) serve() {
	for {
		conn, err := in.listen.AcceptUnix()
		if err != nil {
			return
		}
		in.serving.Go(func() { in.welcome(conn) })
	}
}

// welcome takes one emulator, and listens to it for as long as it lives.
func (in *Installation) welcome(conn *net.UnixConn) {
	defer conn.Close()
	l := newLink(conn)
	var hello answer
	if err := l.in.Decode(&hello); err != nil {
		return
	}
	p, err := newProcess(conn, hello.Args, l)
	if err != nil {
		return
	}
	faults := in.faultsFor(hello.Args)
	if faults == nil {
		faults = []Fault{}
	}
	in.mu.Lock()
	closed := in.closed
	if !closed {
		in.remember(p)
	}
	in.mu.Unlock()
	if closed {
		_ = p.end(10 * time.Second)
		return
	}
	if err := l.send(message{Plan: &faults}); err != nil {
		return
	}
	p.listen(l)
}

func newProcess(conn *net.UnixConn, args []string, l *link) (*Process, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return nil, err
	}
	if cerr != nil {
		return nil, os.NewSyscallError("getsockopt", cerr)
	}
	pidfd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return &Process{PID: int(cred.Pid), Args: args, Started: time.Now(), pidfd: pidfd, wire: l, replies: map[int]chan answer{}}, nil
}

// listen takes what the emulator says until it says no more.
func (p *Process) listen(l *link) {
	for {
		var a answer
		err := l.in.Decode(&a)
		p.mu.Lock()
		switch {
		case err != nil:
			p.wire = nil
			for _, ch := range p.replies {
				close(ch)
			}
			p.replies = map[int]chan answer{}
			p.mu.Unlock()
			return
		case a.Command != nil:
			p.commands = append(p.commands, *a.Command)
		case a.Status != "":
			p.status = a.Status
		case p.replies[a.ID] != nil:
			p.replies[a.ID] <- a
			delete(p.replies, a.ID)
		}
		p.mu.Unlock()
	}
}
