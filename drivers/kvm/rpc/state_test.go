package rpc

import (
	"context"
	"errors"
	"net"
	"regexp"
	"sync"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
)

// An asker asks for a state. There are two ways.
type asker func(context.Context, *Client) (state, reason int32, err error)

var askers = map[string]asker{
	"by the library": func(ctx context.Context, c *Client) (state, reason int32, err error) {
		err = c.Do(ctx, "ask for the state of a", func(l *libvirt.Libvirt) (err error) {
			state, reason, err = l.DomainGetState(libvirt.Domain{Name: "a"}, 0)
			return err
		})
		return state, reason, err
	},
	"without the library": func(ctx context.Context, c *Client) (state, reason int32, err error) {
		return c.State(ctx, "ask for the state of a", libvirt.Domain{Name: "a"})
	},
}

// eachWay runs a test for each way to ask for a state.
func eachWay(t *testing.T, f func(t *testing.T, state asker)) {
	for name, state := range askers {
		t.Run(name, func(t *testing.T) { f(t, state) })
	}
}

func TestAStateThatLibvirtRefusesIsRefusedInItsWords(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		s := serve(t, func(nc net.Conn, call *packet) bool {
			p := *call
			p.kind, p.status = typeReply, statusError
			p.payload = number(42, 10, 1)
			p.payload = appendText(p.payload, "Domain not found: no domain with matching uuid")
			p.payload = append(p.payload, number(2, 0, 0, 0, 0, 0, 0, 0)...)
			nc.Write(p.bytes())
			return true
		})
		c := s.client(Options{})
		for range 2 { // the connection goes on
			_, _, err := state(t.Context(), c)
			var e *Error
			if !errors.As(err, &e) || !IsCode(err, libvirt.ErrNoDomain) || e.Domain != 10 || e.Level != 2 || !e.Sent || e.Procedure != "DomainGetState" ||
				e.Message != "Domain not found: no domain with matching uuid" || e.What != "ask for the state of a" {
				t.Errorf("the error is %#v (%v)", err, err)
			}
		}
		if n := s.connections.Load(); n != 1 {
			t.Errorf("there were %d connections; want the one", n)
		}
	})
}

// Both ways send the same, and take each other's place on one connection.
func TestStatesAreAskedForAlikeWithAndWithoutTheLibrary(t *testing.T) {
	var mu sync.Mutex
	var sent []string
	s := serve(t, func(nc net.Conn, call *packet) bool {
		mu.Lock()
		sent = append(sent, call.String()+string(call.payload))
		mu.Unlock()
		return goodState(nc, call)
	})
	c := s.client(Options{})
	dom := libvirt.Domain{Name: "win10", ID: -1, UUID: libvirt.UUID{1, 2, 3}}
	for range 3 {
		if state, reason, err := c.State(t.Context(), "ask", dom); err != nil || state != 1 || reason != 5 {
			t.Errorf("%d, %d, %v", state, reason, err)
		}
		if err := c.Do(t.Context(), "ask", func(l *libvirt.Libvirt) error {
			_, _, err := l.DomainGetState(dom, 0)
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	if n := s.connections.Load(); n != 1 || len(sent) != 6 {
		t.Fatalf("%d connections, %d calls", n, len(sent))
	}
	serial := regexp.MustCompile(`serial \d+`)
	for _, call := range sent[1:] {
		if got, want := serial.ReplaceAllString(call, ""), serial.ReplaceAllString(sent[0], ""); got != want {
			t.Errorf("%q was sent, and %q", want, got)
		}
	}
}
