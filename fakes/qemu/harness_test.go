//go:build linux

package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

const patience = 30 * time.Second

// shortDir is a directory whose paths fit into a socket's address.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func install(t testing.TB, o Options) *Installation {
	t.Helper()
	in, err := Install(shortDir(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	return in
}

// bootDisk is a raw image with a boot signature.
func bootDisk(t testing.TB, path string) {
	t.Helper()
	b := make([]byte, 1<<20)
	b[510], b[511] = 0x55, 0xaa
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// emulator is one that a test has started.
type emulator struct {
	t      testing.TB
	cmd    *exec.Cmd
	stderr bytes.Buffer
	socket string
	done   chan struct{}
	err    error
}

// start starts a program as an emulator with a monitor on a socket.
func start(t testing.TB, program string, args ...string) *emulator {
	t.Helper()
	e := &emulator{t: t, socket: filepath.Join(shortDir(t), "qmp"), done: make(chan struct{})}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: e.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	defer f.Close()
	e.cmd = exec.Command(program, append(args, "-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control")...)
	e.cmd.ExtraFiles = []*os.File{f}
	e.cmd.Stderr = &e.stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { e.err = e.cmd.Wait(); close(e.done) }()
	t.Cleanup(func() {
		select {
		case <-e.done:
		default:
			e.cmd.Process.Kill()
			<-e.done
		}
	})
	return e
}

// ended waits for the end and returns the exit code, -1 for a signal.
func (e *emulator) ended() int {
	e.t.Helper()
	select {
	case <-e.done:
		return e.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		e.t.Fatalf("the emulator does not end; it said %q", e.stderr.String())
		return 0
	}
}

// client is a QMP client that hides nothing: it sees lines.
type client struct {
	t    testing.TB
	conn net.Conn
	buf  []byte
}

func (e *emulator) dial() *client {
	e.t.Helper()
	conn, err := net.Dial("unix", e.socket)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	return &client{t: e.t, conn: conn}
}

// connect dials and negotiates.
func (e *emulator) connect() *client {
	e.t.Helper()
	c := e.dial()
	if g := c.line(); !strings.HasPrefix(g, `{"QMP": `) {
		e.t.Fatalf("greeting %q", g)
	}
	c.want(`{"execute":"qmp_capabilities"}`, `{"return": {}}`)
	return c
}

var errSilence = errors.New("nothing came")

// read returns the next line without its end.
func (c *client) read(wait time.Duration) (string, error) {
	c.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			s := string(c.buf[:i])
			c.buf = c.buf[i+1:]
			return strings.TrimSuffix(s, "\r"), nil
		}
		b := make([]byte, 64<<10)
		n, err := c.conn.Read(b)
		c.buf = append(c.buf, b[:n]...)
		switch {
		case n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "", errSilence
		case err != nil:
			return "", io.EOF
		}
	}
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.read(patience)
	if err != nil {
		c.t.Fatalf("no line: %v", err)
	}
	return s
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// do sends a command and returns its reply; events before it are returned by name.
func (c *client) do(cmd string) (reply string, events []string) {
	c.t.Helper()
	c.send(cmd)
	for {
		s := c.line()
		if e := eventName(s); e != "" {
			events = append(events, e)
			continue
		}
		return s, events
	}
}

func (c *client) want(cmd, reply string, events ...string) {
	c.t.Helper()
	got, ev := c.do(cmd)
	if got != reply || strings.Join(ev, " ") != strings.Join(events, " ") {
		c.t.Errorf("%s:\n got %s with events %v\nwant %s with events %v", cmd, got, ev, reply, events)
	}
}

// event waits for an event and returns its line.
func (c *client) event(name string) string {
	c.t.Helper()
	for {
		s := c.line()
		if eventName(s) == name {
			return s
		}
	}
}

func (c *client) status(want string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		got, _ := c.do(`{"execute":"query-status"}`)
		if strings.Contains(got, `"status": "`+want+`"`) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("status %s, want %s", got, want)
		}
		time.Sleep(2 * time.Millisecond) // QMP has no event for every state
	}
}

func eventName(line string) string {
	var m struct{ Event string }
	if json.Unmarshal([]byte(line), &m) != nil {
		return ""
	}
	return m.Event
}

const okReply = `{"return": {}}`

// serial is the guest's serial port as the test sees it.
type serial struct {
	t    testing.TB
	l    *net.UnixListener
	conn net.Conn
	tag  byte
	buf  []byte
}

func listenSerial(t testing.TB) (*serial, string) {
	t.Helper()
	path := filepath.Join(shortDir(t), "serial")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &serial{t: t, l: l}, path
}

func serialArgs(path string) []string {
	return []string{"-chardev", "socket,id=guest,path=" + path, "-serial", "chardev:guest"}
}

func (s *serial) accept() {
	s.t.Helper()
	if s.conn != nil {
		s.conn.Close()
	}
	s.l.SetDeadline(time.Now().Add(patience))
	conn, err := s.l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.conn, s.buf = conn, nil
	s.t.Cleanup(func() { conn.Close() })
}

func (s *serial) next() guest.Reply {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		n, ok, r := guest.DecodeReply(s.buf)
		s.buf = s.buf[n:]
		if ok {
			return r
		}
		b := make([]byte, 256)
		k, err := s.conn.Read(b)
		if err != nil {
			s.t.Fatalf("the guest's serial port: %v", err)
		}
		s.buf = append(s.buf, b[:k]...)
	}
}

func (s *serial) ask(op guest.Op, slot byte, value uint32) uint32 {
	s.t.Helper()
	s.tag = (s.tag + 1) % guest.EventTag
	f := guest.Request{Op: op, Tag: s.tag, Slot: slot, Value: value}.Encode()
	if _, err := s.conn.Write(f[:]); err != nil {
		s.t.Fatal(err)
	}
	for {
		if r := s.next(); r.Tag == s.tag {
			if r.Status != guest.StatusOK {
				s.t.Fatalf("%s: %s", op, r.Status)
			}
			return r.Value
		}
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond) // there is no event to wait for
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
