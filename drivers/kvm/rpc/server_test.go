package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// A script is a daemon that answers as a test says. It opens connections as libvirt does, and leaves the rest
// to answer, which returns false to drop the connection.
type script struct {
	t           testing.TB
	answer      func(nc net.Conn, call *packet) bool
	opening     func(nc net.Conn, call *packet) (handled, goOn bool) // may be nil
	connections atomic.Int32
	wg          sync.WaitGroup

	mu    sync.Mutex
	open  []net.Conn
	ended bool
}

func serve(t testing.TB, answer func(net.Conn, *packet) bool) *script {
	s := &script{t: t, answer: answer}
	t.Cleanup(func() {
		s.drop(true)
		s.wg.Wait()
	})
	return s
}

// drop closes every connection.
func (s *script) drop(forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended || forGood
	for _, nc := range s.open {
		nc.Close()
	}
	s.open = nil
}

func (s *script) client(o Options) *Client {
	s.t.Helper()
	o.Dial = s.dial
	c, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// dial makes a pair of sockets, as a pipe in memory would not take what nobody reads.
func (s *script) dial(ctx context.Context) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		ours.Close()
		theirs.Close()
		return nil, errors.New("the script has ended")
	}
	s.open = append(s.open, theirs)
	s.connections.Add(1)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			if s.opening != nil {
				if handled, goOn := s.opening(theirs, p); handled {
					if !goOn {
						return
					}
					continue
				}
			}
			switch {
			case p.kind == typeCall && p.procedure == procAuthList:
				reply(theirs, p, []byte{0, 0, 0, 1, 0, 0, 0, 0})
			case p.kind == typeCall && p.procedure == procConnectOpen:
				reply(theirs, p, nil)
			default:
				if !s.answer(theirs, p) {
					return
				}
			}
		}
	}()
	return ours, nil
}

func reply(nc net.Conn, call *packet, payload []byte) {
	p := *call
	p.kind, p.payload = typeReply, payload
	nc.Write(p.bytes())
}

// goodState answers DomainGetState with running (1) and its reason unpaused (5).
func goodState(nc net.Conn, call *packet) bool {
	switch call.procedure {
	case procDomainGetState:
		reply(nc, call, []byte{0, 0, 0, 1, 0, 0, 0, 5})
	case procConnectGetType:
		reply(nc, call, appendText(nil, "QEMU"))
	}
	return true
}

func number(n ...uint32) (b []byte) {
	for _, n := range n {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

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

func TestAWatcherThatDoesNotReadIsToldThatEventsWereLost(t *testing.T) {
	event := append(number(7), appendText(nil, "a")...)
	event = append(event, make([]byte, 16)...)
	event = append(event, number(3, 4, 1)...)
	sent := make(chan struct{})
	s := serve(t, func(nc net.Conn, call *packet) bool {
		if call.procedure == procEventCallbackRegister {
			// Events before the answer are not lost either.
			p := &packet{program: remoteProgram, version: 1, procedure: procEventLifecycle, kind: typeEvent, payload: event}
			nc.Write(p.bytes())
			reply(nc, call, number(7))
			for range 3 * longestBacklog {
				nc.Write(p.bytes())
			}
			close(sent)
		}
		return true
	})
	c := s.client(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := c.Watch(ctx)
	first := <-events
	if !first.Lost || first.Err != nil {
		t.Errorf("the first event is %+v", first)
	}
	second := <-events
	if second.Lost || second.Domain.Name != "a" || second.Domain.ID != 3 || second.Event != 4 || second.Detail != 1 {
		t.Errorf("the second event is %+v", second)
	}
	<-sent
	overflown := func() bool {
		c.watching.mu.Lock()
		defer c.watching.mu.Unlock()
		for w := range c.watching.watchers {
			return slices.ContainsFunc(w.queue, func(e Event) bool { return e.Lost })
		}
		return false
	}
	for deadline := time.Now().Add(10 * time.Second); !overflown() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // between two looks at a queue
	}
	lost, n := false, 2
	for !lost {
		select {
		case e := <-events:
			n++
			lost = e.Lost
		case <-time.After(10 * time.Second):
			t.Fatalf("no sign of a loss after %d events", n)
		}
	}
	cancel()
	for range events { // until it is closed
	}
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
