package rpc

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
)

func TestADaemonThatDropsAtAnyPointIsAnErrorAndTheNextCallConnectsAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		whole := func(call *packet) []byte {
			p := *call
			p.kind, p.payload = typeReply, []byte{0, 0, 0, 1, 0, 0, 0, 5}
			return p.bytes()
		}
		for cut := range 36 {
			var drop atomic.Bool
			drop.Store(true)
			s := serve(t, func(nc net.Conn, call *packet) bool {
				if !drop.Load() {
					return goodState(nc, call)
				}
				nc.Write(whole(call)[:cut])
				return false
			})
			c := s.client(Options{})
			if _, _, err := state(t.Context(), c); !errors.Is(err, ErrDisconnected) || errors.Is(err, ErrProtocol) {
				t.Fatalf("after %d bytes: %v", cut, err)
			}
			if n := s.connections.Load(); n != 2 {
				t.Errorf("after %d bytes there were %d connections; want 2, as a state may be asked for twice", cut, n)
			}
			drop.Store(false)
			if st, _, err := state(t.Context(), c); err != nil || st != 1 {
				t.Errorf("afterwards: %d, %v", st, err)
			}
		}
	})
}

func TestADaemonThatDropsWhileItOpensIsAnError(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		for _, procedure := range []uint32{procAuthList, procConnectOpen} {
			for _, said := range []bool{false, true} {
				s := serve(t, goodState)
				s.opening = func(nc net.Conn, call *packet) (bool, bool) {
					if call.procedure != procedure {
						return false, true
					}
					if said && procedure == procConnectOpen {
						reply(nc, call, nil)
					}
					return true, false
				}
				_, _, err := state(t.Context(), s.client(Options{}))
				if !errors.Is(err, ErrDisconnected) || !strings.Contains(err.Error(), "closed the connection") {
					t.Errorf("dropped at procedure %d (answered: %v): %v", procedure, said, err)
				}
			}
		}
	})
}

func TestACallThatMayHaveBeenCarriedOutIsNotMadeAgain(t *testing.T) {
	var destroyed atomic.Int32
	s := serve(t, func(nc net.Conn, call *packet) bool {
		destroyed.Add(1)
		return false
	})
	c := s.client(Options{})
	err := c.DoLong(t.Context(), "stop a", func(l *libvirt.Libvirt) error { return l.DomainDestroy(libvirt.Domain{Name: "a"}) })
	var e *Error
	if !errors.Is(err, ErrDisconnected) || !errors.As(err, &e) || !e.Sent || e.Procedure != "DomainDestroy" {
		t.Errorf("the error is %#v", err)
	}
	if n := destroyed.Load(); n != 1 {
		t.Errorf("the machine was destroyed %d times", n)
	}
}

func TestAnUnauthorisedUserIsToldWhatToDo(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		for _, tt := range []struct {
			name    string
			opening func(nc net.Conn, call *packet) (bool, bool)
			want    string
		}{
			{"SASL alone", func(nc net.Conn, call *packet) (bool, bool) {
				reply(nc, call, number(1, authSASL))
				return true, true
			}, "auth_unix_rw"},
			{"polkit refuses", func(nc net.Conn, call *packet) (bool, bool) {
				if call.procedure == procAuthList {
					reply(nc, call, number(1, authPolkit))
					return true, true
				}
				p := *call
				p.kind, p.status = typeReply, statusError
				p.payload = append(appendText(number(45, 7, 1), "authentication failed: no agent"), number(2, 0, 0, 0, 0, 0, 0, 0)...)
				nc.Write(p.bytes())
				return true, true
			}, "no agent"},
		} {
			s := serve(t, goodState)
			s.opening = tt.opening
			_, _, err := state(t.Context(), s.client(Options{}))
			if !errors.Is(err, ErrUnauthorised) || !errors.Is(err, ErrDisconnected) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v; want ErrUnauthorised with %q", tt.name, err, tt.want)
			}
		}
	})
}
