package libvirt

import (
	"errors"
	"net"
	"reflect"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// rawClient is a client of a few bytes, to which nothing is hidden.
type rawClient struct {
	t      *testing.T
	conn   net.Conn
	serial uint32
}

// dial opens a connection of libvirt's protocol.
func dial(t *testing.T, s *Server) *rawClient {
	t.Helper()
	conn, err := net.Dial("unix", s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{t: t, conn: conn}
	if _, err := c.call("ConnectOpen", golibvirt.ConnectOpenArgs{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// send sends a call and does not wait for its answer.
func (c *rawClient) send(name string, args any) {
	c.t.Helper()
	for _, p := range procedures {
		if p.Name == name {
			c.serial++
			call := packet{header: header{Program: p.program, Version: 1, Procedure: p.number, Serial: c.serial}}
			call.payload = encodeXDR(nil, reflect.ValueOf(args))
			if _, err := c.conn.Write(call.encode()); err != nil {
				c.t.Fatal(err)
			}
			return
		}
	}
	c.t.Fatalf("there is no procedure %s", name)
}

// patience is how long a test waits for what is to come.
const patience = 20 * time.Second

// receive returns the next packet that is no event.
func (c *rawClient) receive() (packet, error) {
	for {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		p, err := readPacket(c.conn)
		if err != nil || p.Type != typeEvent {
			return p, err
		}
	}
}

// call makes a call and returns what its answer holds, or its error.
func (c *rawClient) call(name string, args any) ([]byte, error) {
	c.t.Helper()
	c.send(name, args)
	p, err := c.receive()
	if err != nil {
		return nil, err
	}
	if p.Serial != c.serial {
		c.t.Fatalf("%s: an answer to call %d, not %d", name, p.Serial, c.serial)
	}
	return p.payload, asAnswer(p)
}

// asAnswer is the error in a packet.
func asAnswer(p packet) error {
	if p.Status != statusError {
		return nil
	}
	var w wireError
	if err := decodeXDR(p.payload, &w); err != nil {
		return err
	}
	return &Error{Code: w.Code, Domain: w.Domain, Message: w.Message[0]}
}

// wantError checks an error that came over the wire.
func wantError(t *testing.T, what string, err error, code, domain int32, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || *e != (Error{code, domain, message}) {
		t.Errorf("%s: %#v, want code %d, domain %d, %q", what, err, code, domain, message)
	}
}

// quiet checks that nothing comes over a connection for a while.
func (c *rawClient) quiet(while time.Duration) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(while))
	var b [1]byte
	if n, err := c.conn.Read(b[:]); n > 0 || !isTimeout(err) {
		c.t.Errorf("%d bytes came, or %v", n, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// over checks that the connection has ended.
func (c *rawClient) over() {
	c.t.Helper()
	if p, err := c.receive(); err == nil || isTimeout(err) {
		c.t.Errorf("the connection goes on: %+v, %v", p, err)
	}
}
