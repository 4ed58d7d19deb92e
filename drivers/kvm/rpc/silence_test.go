package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

func TestASilentDaemonEndsNoWaitButItsOwn(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		for _, tt := range []struct {
			name    string
			opening bool
		}{{"from the first byte", true}, {"once it is open", false}} {
			t.Run(tt.name, func(t *testing.T) {
				s := serve(t, func(net.Conn, *packet) bool { return true })
				if tt.opening {
					s.opening = func(net.Conn, *packet) (bool, bool) { return true, true }
				}
				c := s.client(Options{})
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				began := time.Now()
				_, _, err := state(ctx, c)
				if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				// A call that is under way while the client is closed ends too.
				ended := make(chan error, 1)
				go func() {
					_, _, err := state(t.Context(), c)
					ended <- err
				}()
				time.Sleep(20 * time.Millisecond) // so that it is under way, mostly; the result is the same if not
				c.Close()
				select {
				case err := <-ended:
					if !errors.Is(err, ErrClosed) {
						t.Errorf("a call that Close ended says %v", err)
					}
				case <-time.After(10 * time.Second):
					t.Fatal("a call outlives Close")
				}
			})
		}
	})
}

// Only the slow call is lost: the probe is answered, so the others go on upon the same connection.
func TestASlowCallIsAbandonedAndItsConnectionLivesOn(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		release := make(chan struct{})
		var slow atomic.Bool
		slow.Store(true)
		s := serve(t, func(nc net.Conn, call *packet) bool {
			if call.procedure == procDomainGetState && slow.Swap(false) {
				go func() {
					<-release
					reply(nc, call, []byte{0, 0, 0, 3, 0, 0, 0, 3}) // a late answer, and another one than the next call's
				}()
				return true
			}
			return goodState(nc, call)
		})
		c := s.client(Options{Probe: 10 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := state(ctx, c); !errors.Is(err, ErrTimeout) {
			t.Fatalf("the slow call: %v", err)
		}
		for i := range 20 {
			if i == 10 {
				close(release)
			}
			if st, reason, err := state(t.Context(), c); err != nil || st != 1 || reason != 5 {
				t.Fatalf("another call: %d, %d, %v", st, reason, err)
			}
		}
		if n := s.connections.Load(); n != 1 {
			t.Errorf("there were %d connections; want the one", n)
		}
	})
}

func TestAConnectionOnWhichTheProbeFailsIsGivenUp(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		var deaf atomic.Pointer[net.Conn]
		s := serve(t, func(nc net.Conn, call *packet) bool {
			deaf.CompareAndSwap(nil, &nc)
			return *deaf.Load() == nc || goodState(nc, call)
		})
		c := s.client(Options{Probe: 50 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, _, err := state(ctx, c); !errors.Is(err, ErrTimeout) {
			t.Fatalf("the call on the deaf connection: %v", err)
		}
		// This one is made upon the deaf connection too, or a new one, and again when the former is given up.
		if st, _, err := state(t.Context(), c); err != nil || st != 1 {
			t.Errorf("the next call: %d, %v", st, err)
		}
		if n := s.connections.Load(); n != 2 {
			t.Errorf("there were %d connections; want 2", n)
		}
	})
}

// A machine that libvirt cannot tell the state of, because its process is not reaped, keeps four places of a connection at most.
func TestCallsThatAreNeverAnsweredDoNotUseUpTheClient(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		s := serve(t, func(nc net.Conn, call *packet) bool {
			return call.procedure == procDomainGetState && strings.Contains(string(call.payload), "stuck") || goodState(nc, call)
		})
		c := s.client(Options{})
		for range 5 * callsOfConnection * shortConnections {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			err := c.Do(ctx, "ask for the state of stuck", func(l *libvirt.Libvirt) error {
				_, _, err := l.DomainGetState(libvirt.Domain{Name: "stuck"}, 0)
				return err
			})
			cancel()
			if !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if st, _, err := state(t.Context(), c); err != nil || st != 1 {
			t.Errorf("the state of another machine: %d, %v", st, err)
		}
	})
}

// When a function is overdue it can call nothing more, so that nothing happens after its caller was told.
func TestAnAbandonedFunctionCallsNothingMore(t *testing.T) {
	var destroyed atomic.Bool
	s := serve(t, func(nc net.Conn, call *packet) bool {
		if call.procedure != procDomainGetState && call.procedure != procConnectGetType {
			destroyed.Store(true)
		}
		return true
	})
	c := s.client(Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var second error
	err := c.Do(ctx, "look and stop", func(l *libvirt.Libvirt) error {
		_, _, err := l.DomainGetState(libvirt.Domain{}, 0)
		second = l.DomainDestroy(libvirt.Domain{})
		return err
	})
	if !errors.Is(err, ErrTimeout) || second == nil || destroyed.Load() {
		t.Errorf("first %v, second %v, destroyed %v", err, second, destroyed.Load())
	}
}

func TestFiftyStatesDoNotWaitForFiveDumps(t *testing.T) {
	eachWay(t, func(t *testing.T, state asker) {
		release := make(chan struct{})
		var dumps atomic.Int32
		begun := make(chan struct{}, 16)
		s := serve(t, func(nc net.Conn, call *packet) bool {
			if lookup(call.program, call.procedure).name != "DomainCoreDumpWithFormat" {
				return goodState(nc, call)
			}
			dumps.Add(1)
			begun <- struct{}{}
			go func() {
				<-release
				reply(nc, call, nil)
			}()
			return true
		})
		c := s.client(Options{})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if err := c.DoLong(t.Context(), "dump", func(l *libvirt.Libvirt) error {
					return l.DomainCoreDumpWithFormat(libvirt.Domain{}, "/x", 0, 0)
				}); err != nil {
					t.Error(err)
				}
			})
		}
		for range 5 {
			<-begun
		}
		var states sync.WaitGroup
		for range 50 {
			states.Go(func() {
				if st, _, err := state(t.Context(), c); err != nil || st != 1 {
					t.Errorf("%d, %v", st, err)
				}
			})
		}
		states.Wait()
		close(release)
		wg.Wait()
	})
}

// A lock that another operation holds is waited for; the number is libvirt's VIR_ERR_OPERATION_TIMEOUT.
func TestAHeldLockIsTriedAgainUntilTheDeadline(t *testing.T) {
	var tries atomic.Int32
	s := serve(t, func(nc net.Conn, call *packet) bool {
		if tries.Add(1) == 3 {
			reply(nc, call, nil)
			return true
		}
		p := *call
		p.kind, p.status = typeReply, statusError
		p.payload = append(appendText(number(68, 10, 1), "Timed out during operation: cannot acquire state change lock"), number(2, 0, 0, 0, 0, 0, 0, 0)...)
		nc.Write(p.bytes())
		return true
	})
	c := s.client(Options{})
	stop := func() error {
		return c.DoLong(t.Context(), "stop a", func(l *libvirt.Libvirt) error { return l.DomainDestroy(libvirt.Domain{}) })
	}
	if err := RetryLocked(t.Context(), stop); err != nil || tries.Load() != 3 {
		t.Errorf("%d tries: %v", tries.Load(), err)
	}
	tries.Store(-1 << 30)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := RetryLocked(ctx, stop); !IsLocked(err) || !strings.Contains(err.Error(), "state change lock") {
		t.Errorf("at the deadline: %v", err)
	}
}
