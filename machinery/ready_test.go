package machinery_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// agented is a machinery whose machine has an agent at an address.
type agented struct {
	scripted
	machine machinery.Machine
}

func (a *agented) Machines() []machinery.Machine { return []machinery.Machine{a.machine} }

// agent listens, does to each connection what serve does, and makes the machine that it is in.
func agent(t *testing.T, serve func(n int, c net.Conn)) *agented {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(n, c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return at(l.Addr())
}

func at(address net.Addr) *agented {
	tcp := address.(*net.TCPAddr)
	return &agented{scripted{state: states(machinery.StateRunning)}, machinery.Machine{Name: "a", IP: tcp.IP.String(), AgentPort: tcp.Port}}
}

// silent keeps a connection until the other side is tired of it.
func silent(c net.Conn) {
	for buffer := make([]byte, 512); ; {
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

// answer is what an agent does.
func answer(c net.Conn) {
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.HasPrefix(line, "GET / HTTP/1.") {
		_, _ = c.Write([]byte("HTTP/1.0 200 OK\r\n\r\n"))
	}
}

func TestWaitReadyIsDoneWhenTheAgentAnswers(t *testing.T) {
	m := agent(t, func(_ int, c net.Conn) { answer(c) })
	if err := machinery.WaitReady(within(t, 30*time.Second), m, "a"); err != nil {
		t.Error(err)
	}
}

func TestWaitReadyTriesAgainUntilTheAgentAnswers(t *testing.T) {
	for name, serve := range map[string]func(c net.Conn){
		"closes": func(net.Conn) {},
		"resets": func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
	} {
		t.Run("after one that "+name, func(t *testing.T) {
			m := agent(t, func(n int, c net.Conn) {
				if n < 3 {
					serve(c)
					return
				}
				answer(c)
			})
			if err := machinery.WaitReady(within(t, 30*time.Second), m, "a"); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("after nobody listened", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		m := at(l.Addr())
		l.Close()
		done := make(chan error, 1)
		go func() { done <- machinery.WaitReady(within(t, 30*time.Second), m, "a") }()
		select {
		case err := <-done:
			t.Fatalf("it is over though nobody listens: %v", err)
		case <-time.After(2 * readyTry): // long enough that it was refused
		}
		l, err = net.Listen("tcp", l.Addr().String())
		if err != nil {
			t.Skipf("somebody else has taken the port: %v", err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				answer(c)
				c.Close()
			}
		}()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// readyTry is how often WaitReady tries, or longer.
const readyTry = 300 * time.Millisecond

func TestAForwarderThatAcceptsForASilentGuestIsNotReady(t *testing.T) {
	m := agent(t, func(_ int, c net.Conn) { silent(c) })
	began := time.Now()
	err := machinery.WaitReady(within(t, 2*readyTry), m, "a")
	want(t, err, machinery.ErrInterrupted, "127.0.0.1:")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not match its context's error", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it noticed the end of its time after %v", took)
	}
}

func TestWaitReadySaysWhatTheLastQuestionMet(t *testing.T) {
	m := agent(t, func(int, net.Conn) {})
	err := machinery.WaitReady(within(t, 2*readyTry), m, "a")
	want(t, err, machinery.ErrInterrupted, "at last: the connection is accepted, and ")
}

func TestWaitReadyEndsWithTheMachine(t *testing.T) {
	for _, state := range []machinery.State{machinery.StatePoweroff, machinery.StateError} {
		m := agent(t, func(_ int, c net.Conn) { silent(c) })
		m.state = states(machinery.StateRunning, machinery.StateRunning, state)
		err := machinery.WaitReady(within(t, 30*time.Second), m, "a")
		want(t, err, machinery.ErrUnexpectedState, string(state), "127.0.0.1:")
		if e, _ := errors.AsType[*machinery.Error](err); e.Op != machinery.OpWaitReady || e.Status.State != state {
			t.Errorf("the error is of %s, with the status %s", e.Op, e.Status)
		}
	}
}

func TestWaitReadyRefusesWhatCannotGetReady(t *testing.T) {
	m := &agented{scripted{state: states(machinery.StateRunning)}, machinery.Machine{Name: "a", AgentPort: 8000}}
	want(t, machinery.WaitReady(t.Context(), m, "a"), machinery.ErrConfig, "address")
	m.machine.IP, m.machine.AgentPort = "127.0.0.1", 0
	want(t, machinery.WaitReady(t.Context(), m, "a"), machinery.ErrConfig, "agent_port 0")
	want(t, machinery.WaitReady(t.Context(), m, "b"), machinery.ErrNotFound, `"a"`)
	m.machine.AgentPort = 1
	for _, state := range []machinery.State{machinery.StatePoweroff, machinery.StatePaused, machinery.StateError} {
		m.state = states(state)
		want(t, machinery.WaitReady(t.Context(), m, "a"), machinery.ErrUnexpectedState, string(state))
	}
	m.state = func(context.Context) (machinery.Status, error) {
		return machinery.Status{}, &machinery.Error{Op: machinery.OpState, Machine: "a", Kind: machinery.ErrClosed}
	}
	want(t, machinery.WaitReady(t.Context(), m, "a"), machinery.ErrClosed)
}
