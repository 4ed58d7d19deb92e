package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// unnoticed is a connection whose other end may be gone without its reader having been told, as just after a restart of the daemon.
type unnoticed struct {
	net.Conn
	gone atomic.Bool
}

func (u *unnoticed) Write(b []byte) (int, error) {
	if u.gone.Load() {
		return 0, syscall.EPIPE
	}
	return u.Conn.Write(b)
}

func TestACallAfterARestartIsMadeThoughNobodyHasNoticedTheEndOfItsConnections(t *testing.T) {
	var destroyed atomic.Int32
	arrived, goOn := make(chan net.Conn), make(chan struct{})
	s := serve(t, func(nc net.Conn, call *packet) bool {
		switch lookup(call.program, call.procedure).name {
		case "DomainCreate":
			select {
			case arrived <- nc:
			case <-goOn:
			}
			<-goOn
		case "DomainDestroy":
			destroyed.Add(1)
		default:
			return goodState(nc, call)
		}
		reply(nc, call, nil)
		return true
	})
	var mu sync.Mutex
	var dialled []*unnoticed
	c, err := New(Options{Dial: func(ctx context.Context) (net.Conn, error) {
		nc, err := s.dial(ctx)
		mu.Lock()
		defer mu.Unlock()
		u := &unnoticed{Conn: nc}
		dialled = append(dialled, u)
		return u, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	dom := libvirt.Domain{Name: "a"}
	var calls sync.WaitGroup
	for range callsOfConnection + 1 { // one more than a connection is used for
		calls.Go(func() {
			if err := c.DoLong(t.Context(), "start a", func(l *libvirt.Libvirt) error { return l.DomainCreate(dom) }); err != nil {
				t.Error(err)
			}
		})
	}
	if a, b := <-arrived, <-arrived; a == b {
		t.Fatal("there is one connection")
	}
	close(goOn)
	calls.Wait()
	if _, _, err := c.State(t.Context(), "ask", dom); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	for _, u := range dialled {
		u.gone.Store(true)
	}
	mu.Unlock()
	if err := c.DoLong(t.Context(), "stop a", func(l *libvirt.Libvirt) error { return l.DomainDestroy(dom) }); err != nil || destroyed.Load() != 1 {
		t.Errorf("after %d calls: %v", destroyed.Load(), err)
	}
	if state, _, err := c.State(t.Context(), "ask", dom); err != nil || state != 1 {
		t.Errorf("%d, %v", state, err)
	}
}

func TestACallThatCanNeverBeSentEndsInAnError(t *testing.T) {
	s := serve(t, goodState)
	for _, long := range []bool{false, true} {
		// The connection can be opened, and nothing can be sent over it any more.
		c, err := New(Options{Pool: 3, Dial: func(ctx context.Context) (net.Conn, error) {
			nc, err := s.dial(ctx)
			return &mute{Conn: nc, left: 2}, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		do := c.Do
		if long {
			do = c.DoLong
		}
		err = do(t.Context(), "stop a", func(l *libvirt.Libvirt) error { return l.DomainDestroy(libvirt.Domain{Name: "a"}) })
		var e *Error
		if !errors.Is(err, ErrDisconnected) || !errors.As(err, &e) || e.Sent || !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("long %v: %v", long, err)
		}
	}
}

// mute is a connection that takes so many packets and no more.
type mute struct {
	net.Conn
	left int
}

func (m *mute) Write(b []byte) (int, error) {
	if m.left--; m.left < 0 {
		return 0, syscall.EPIPE
	}
	return m.Conn.Write(b)
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
