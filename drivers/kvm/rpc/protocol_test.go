package rpc

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// Each of these came out of a daemon that is broken, hostile or none; go-libvirt alone panics, hangs, or answers
// zeros for most of them.
func TestWhatIsNotTheProtocolEndsTheConnectionWithAnErrorThatSaysWhatCame(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		good := []byte{0, 0, 0, 1, 0, 0, 0, 5}
		change := func(f func(*packet)) func(*packet) []byte {
			return func(call *packet) []byte {
				p := *call
				p.kind, p.payload = typeReply, good
				f(&p)
				return p.bytes()
			}
		}
		raw := func(b ...byte) func(*packet) []byte { return func(*packet) []byte { return b } }
		for _, tt := range []struct {
			name string
			send func(call *packet) []byte
			want string
		}{
			{"a length of 4", raw(0, 0, 0, 4, 0, 0, 0, 0), "a length of 4"},
			{"a length of 0", raw(0, 0, 0, 0), "a length of 0"},
			{"a length of 27", raw(0, 0, 0, 27), "a length of 27"},
			{"a length of 4 GiB", raw(255, 255, 255, 255), "a length of 4294967295"},
			{"a length above 32 MiB", raw(2, 0, 0, 5), "a length of 33554437"},
			{"a text", raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")...), "a length of 1213486160"},
			{"another program", change(func(p *packet) { p.program++ }), "another procedure"},
			{"an unknown program", change(func(p *packet) { p.program = 7 }), "unknown program"},
			{"another version", change(func(p *packet) { p.version = 2 }), "unknown program or version"},
			{"another procedure", change(func(p *packet) { p.procedure = 213 }), "another procedure"},
			{"an unknown serial", change(func(p *packet) { p.serial += 1000 }), "an answer to no call"},
			{"a negative serial", change(func(p *packet) { p.serial = -1 }), "an answer to no call"},
			{"a call to the client", change(func(p *packet) { p.kind = typeCall }), "a type that is not for a client"},
			{"descriptors", change(func(p *packet) { p.kind = 5 }), "a type that is not for a client"},
			{"a stream that nobody opened", change(func(p *packet) { p.kind = typeStream }), "out of order"},
			{"an unknown status", change(func(p *packet) { p.status = 3 }), "unknown status"},
			{"an answer that goes on", change(func(p *packet) { p.status = statusContinue }), "neither good nor an error"},
			{"an event with the number of a call", change(func(p *packet) { p.kind = typeEvent }), "an event with the number of a call"},
			{"an answer without its payload", change(func(p *packet) { p.payload = nil }), "it ends too early"},
			{"an answer with half of its payload", change(func(p *packet) { p.payload = good[:6] }), "Reason: it ends too early"},
			{"an answer with more than its payload", change(func(p *packet) { p.payload = append(good, 0, 0, 0, 0) }), "4 bytes too many"},
			{"an error without a payload", change(func(p *packet) { p.status, p.payload = statusError, nil }), "malformed error"},
			{"an error with an endless text", change(func(p *packet) {
				p.status, p.payload = statusError, number(42, 10, 1, 0xffffffff)
			}), "malformed error"},
			{"an error with the number of success", change(func(p *packet) {
				p.status, p.payload = statusError, number(0, 10, 0, 2, 0, 0, 0, 0, 0, 0, 0)
			}), "the number of success"},
			{"a malformed event", change(func(p *packet) {
				p.kind, p.procedure, p.payload = typeEvent, procEventLifecycle, number(1, 0x7fffffff)
			}), "malformed event"},
			{"a keepalive that is none", change(func(p *packet) { p.program = keepaliveProgram }), "keepalive"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := serve(t, func(nc net.Conn, call *packet) bool {
					nc.Write(tt.send(call))
					return true
				})
				c := s.client(Options{CallTimeout: 20 * time.Second})
				_, _, err := state(t.Context(), c)
				if !errors.Is(err, ErrProtocol) || !errors.Is(err, ErrDisconnected) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the error is %v; want one of ErrProtocol with %q", err, tt.want)
				}
				if n := s.connections.Load(); n != 1 {
					t.Errorf("%d connections; what a daemon sent wrong once is not asked for again", n)
				}
			})
		}
	})
}

// A count of 2³¹ elements in a few bytes makes the library's decoder allocate 100 GB.
func TestAListThatIsLongerThanItsPacketIsRefused(t *testing.T) {
	s := serve(t, func(nc net.Conn, call *packet) bool {
		reply(nc, call, number(0x7fffffff, 1))
		return true
	})
	c := s.client(Options{})
	err := c.Do(t.Context(), "list", func(l *libvirt.Libvirt) error {
		_, _, err := l.ConnectListAllDomains(1, 0)
		return err
	})
	if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "a list of 2147483647 in 4 bytes") {
		t.Errorf("the error is %v", err)
	}
}

func TestASecondAnswerEndsTheConnectionAndNotTheCall(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		var calls atomic.Int32
		s := serve(t, func(nc net.Conn, call *packet) bool {
			goodState(nc, call)
			if calls.Add(1) == 1 {
				goodState(nc, call)
			}
			return true
		})
		c := s.client(Options{})
		// The first answer is right. The second may have ended the connection before the library took the first.
		for range 3 {
			if st, reason, err := state(t.Context(), c); (err != nil || st != 1 || reason != 5) && !errors.Is(err, ErrProtocol) {
				t.Errorf("state %d, %d, %v; want 1, 5", st, reason, err)
			}
		}
		if st, reason, err := state(t.Context(), c); err != nil || st != 1 || reason != 5 {
			t.Errorf("afterwards: state %d, %d, %v; want 1, 5", st, reason, err)
		}
	})
}

func TestAPingIsAnsweredAndUnknownEventsAreNobodysLoss(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		pong := make(chan *packet, 1)
		s := serve(t, func(nc net.Conn, call *packet) bool {
			if call.program == keepaliveProgram {
				pong <- call
				return true
			}
			nc.Write((&packet{program: keepaliveProgram, version: 1, procedure: 1, kind: typeEvent}).bytes())
			nc.Write((&packet{program: remoteProgram, version: 1, procedure: 100000, kind: typeEvent, payload: []byte("abc")}).bytes())
			return goodState(nc, call)
		})
		c := s.client(Options{})
		if _, _, err := state(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-pong:
			if p.procedure != 2 || p.kind != typeEvent || p.serial != 0 {
				t.Errorf("the answer to a ping is %v", p)
			}
		case <-time.After(10 * time.Second):
			t.Error("a ping was not answered")
		}
	})
}

// libvirtd sends a stream's data from another thread than the answer (seen on libvirt 9.0.0, of a picture).
func TestDataOfAStreamThatComesBeforeTheAnswerIsNotLost(t *testing.T) {
	const procDomainScreenshot = 211
	s := serve(t, func(nc net.Conn, call *packet) bool {
		if call.procedure != procDomainScreenshot || call.kind != typeCall {
			return true // the confirmation of the stream's end
		}
		data := func(payload string) {
			p := *call
			p.kind, p.status, p.payload = typeStream, statusContinue, []byte(payload)
			nc.Write(p.bytes())
		}
		data("one ")
		data("two ")
		reply(nc, call, append(number(1), appendText(nil, "image/png")...))
		data("three")
		data("")
		return true
	})
	c := s.client(Options{})
	var picture strings.Builder
	err := c.DoLong(t.Context(), "take a picture of a", func(l *libvirt.Libvirt) error {
		_, err := l.DomainScreenshot(libvirt.Domain{Name: "a"}, &picture, 0, 0)
		return err
	})
	if err != nil || picture.String() != "one two three" {
		t.Errorf("%q, %v", picture.String(), err)
	}
}
