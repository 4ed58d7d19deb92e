package monitor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits that end at once unless something is broken.
const patience = 10 * time.Second

// greetingLine is QEMU 7.2.22's.
const greetingLine = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}` + "\r\n"

// event lines as QEMU 7.2.22 sends them.
const (
	stopLine     = `{"timestamp": {"seconds": 1795376142, "microseconds": 889299}, "event": "STOP"}` + "\r\n"
	resumeLine   = `{"timestamp": {"seconds": 1795376142, "microseconds": 686700}, "event": "RESUME"}` + "\r\n"
	shutdownLine = `{"timestamp": {"seconds": 1795376144, "microseconds": 948692}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}` + "\r\n"
)

// socketPair is a connected pair of unix sockets: ours and the server's.
func socketPair(t testing.TB) (client, server *net.UnixConn) {
	t.Helper()
	syscall.ForkLock.RLock() // not every system makes them closed to children at once
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// server is the other end of a Monitor, played by a script.
type server struct {
	t    testing.TB
	conn *net.UnixConn
	in   *bufio.Scanner
}

// request is a command as the server received it.
type request struct {
	Execute   string
	Arguments json.RawMessage
	ID        uint64
}

// serve runs script as the server of a new connection, and returns the client's end. The server's end is closed
// when the script returns, and the test waits for that.
func serve(t testing.TB, script func(s *server)) net.Conn {
	t.Helper()
	client, conn := socketPair(t)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		defer conn.Close()
		s := &server{t: t, conn: conn, in: bufio.NewScanner(conn)}
		s.in.Buffer(nil, 1<<20)
		script(s)
	}()
	t.Cleanup(func() {
		client.Close()
		select {
		case <-finished:
		case <-time.After(patience):
			t.Error("the scripted server did not end")
			conn.Close()
			<-finished
		}
	})
	return client
}

// send writes to the client. A client that has gone is no failure of the server.
func (s *server) send(text string) { s.conn.Write([]byte(text)) }

// next is the next command; ok is false when the client has gone.
func (s *server) next() (r request, ok bool) {
	if !s.in.Scan() {
		return request{}, false
	}
	d := json.NewDecoder(bytes.NewReader(s.in.Bytes()))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		s.t.Errorf("the client sent %q: %v", s.in.Bytes(), err)
	}
	return r, true
}

// expect is the next command, which must have this name.
func (s *server) expect(name string) request {
	r, ok := s.next()
	if ok && r.Execute != name {
		s.t.Errorf("the client sent %s, expected %s", r.Execute, name)
	}
	return r
}

func (s *server) reply(r request, value string) {
	s.send(fmt.Sprintf(`{"return": %s, "id": %d}`+"\r\n", value, r.ID))
}

// open greets and negotiates.
func (s *server) open() {
	s.send(greetingLine)
	s.reply(s.expect("qmp_capabilities"), "{}")
}

// untilGone reads until the client has closed.
func (s *server) untilGone() {
	for s.in.Scan() {
	}
}

// within is a context for something that must not take long.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// connect is a Monitor on a scripted server that has been greeted and negotiated with.
func connect(t testing.TB, opts Options, script func(s *server)) *Monitor {
	t.Helper()
	m, err := New(within(t, patience), serve(t, func(s *server) { s.open(); script(s) }), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// ended waits for the end of the connection and returns its reason.
func ended(t testing.TB, m *Monitor) error {
	t.Helper()
	select {
	case <-m.Done():
	case <-time.After(patience):
		t.Fatal("the connection did not end")
	}
	if m.Err() == nil {
		t.Fatal("the connection ended and Err is nil")
	}
	return m.Err()
}

// receive is the next event.
func receive(t testing.TB, events <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the event channel is closed")
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event came")
	}
	panic("unreachable")
}

// names receives until the channel is closed.
func names(t testing.TB, events <-chan Event) []string {
	t.Helper()
	var out []string
	deadline := time.After(patience)
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return out
			}
			out = append(out, e.Name)
		case <-deadline:
			t.Fatalf("the event channel was not closed; it gave %v", out)
		}
	}
}

// inTime fails the test if f takes longer than patience, with what it was.
func inTime(t testing.TB, what string, f func()) {
	t.Helper()
	finished := make(chan struct{})
	go func() { defer close(finished); f() }()
	select {
	case <-finished:
	case <-time.After(patience):
		t.Fatalf("%s hangs", what)
	}
}

func wantError(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got error %v, want one that matches %v", err, target)
	}
}

// step is one command of a captured session, with what QEMU sent between it and the next command.
type step struct {
	command string
	answer  string   // the captured answer
	output  []string // all lines, in order
}

// captured reads testdata: lines of "C <command>" and "S <message>". The first step has no command and is the greeting.
func captured(t testing.TB, file string) []step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps := []step{{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		body := line[2:]
		if line[0] == 'C' {
			var r request
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				t.Fatal(err)
			}
			steps = append(steps, step{command: r.Execute})
			continue
		}
		s := &steps[len(steps)-1]
		s.output = append(s.output, body)
		if !strings.Contains(body, `"event"`) {
			s.answer = body
		}
	}
	return steps
}

// wire is what the server sends in step s, given the command's id: its captured output with the id put in.
func (s step) wire(id uint64) string {
	var b strings.Builder
	for _, line := range s.output {
		if line == s.answer && s.command != "" {
			line = fmt.Sprintf(`%s, "id": %d}`, strings.TrimSuffix(line, "}"), id)
		}
		b.WriteString(line + "\r\n")
	}
	return b.String()
}
