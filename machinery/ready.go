package machinery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

const (
	// readyInterval is how long WaitReady leaves the guest alone between two
	// questions.
	readyInterval = 250 * time.Millisecond
	// connectTime is how long one attempt to connect may take: a guest that
	// boots drops what comes too early, and the kernel repeats it after a second.
	connectTime = 2 * time.Second
	// answerTime is how long an agent may take for its first byte.
	answerTime = 5 * time.Second
)

// WaitReady waits until the agent in the machine's guest answers, at
// [Machine.IP] and [Machine.AgentPort]. It asks with a plain HTTP request for
// "/", which the agents of Cuckoo3 and CAPE answer, again and again with 250 ms
// between; the first byte that comes back counts, whatever it is. That a
// connection is accepted does not count: a port forwarder, such as that of
// QEMU's user network, accepts it for a guest in which nobody listens.
//
// Errors: [ErrConfig] for a machine without an address or a port;
// [ErrUnexpectedState] at once if the machine is off or in the error state or
// gets there, or is paused when WaitReady is called, as nothing in it could
// answer; [ErrInterrupted] when ctx ends, with what became of the last
// question; [ErrNotFound] and [ErrClosed] as State. The machine is never
// changed.
func WaitReady(ctx context.Context, m Machinery, name string) error {
	fail := func(kind error, status Status, err error, format string, args ...any) error {
		return &Error{Op: OpWaitReady, Machine: name, Kind: kind, Status: status, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	machine, known := find(m.Machines(), name)
	switch {
	case !known:
		return NotFound(OpWaitReady, name, m.Machines())
	case machine.IP == "" || machine.AgentPort <= 0:
		return fail(ErrConfig, Status{}, nil, "the machine has no address and port of an agent (ip %q, agent_port %d), so that nobody can tell when it is ready", machine.IP, machine.AgentPort)
	}
	status, err := m.State(ctx, name)
	switch {
	case err != nil:
		return asKind(err, OpWaitReady, ErrHypervisor)
	case status.State == StatePaused, status.State == StatePoweroff, status.State == StateError:
		return fail(ErrUnexpectedState, status, nil, "the machine is %s, so nothing in it can answer", status)
	}
	watching, ended := watchEnd(ctx, m, name)
	defer ended.stop()
	began := time.Now()
	address := net.JoinHostPort(machine.IP, strconv.Itoa(machine.AgentPort))
	var last error
	for {
		err := ask(watching, address)
		if err == nil {
			return nil
		}
		if watching.Err() == nil {
			last = err
		}
		select {
		case <-time.After(readyInterval):
			continue
		case <-watching.Done():
		}
		if ctx.Err() == nil {
			return fail(KindOf(ended.why), ended.status, ended.why, "the agent at %s is not waited for any longer", address)
		}
		if last == nil {
			last = errors.New("it was not asked to the end even once")
		}
		return fail(ErrInterrupted, status, ctx.Err(), "waited %.1f s for the agent at %s; at last: %v", time.Since(began).Seconds(), address, last)
	}
}

// find returns the machine of that name.
func find(machines []Machine, name string) (Machine, bool) {
	for _, machine := range machines {
		if machine.Name == name {
			return machine, true
		}
	}
	return Machine{}, false
}

// end is how a machine came to an end that was waited for beside something
// else. Its fields may be read when the context has ended that belongs to it.
type end struct {
	status Status
	why    error
	cancel context.CancelFunc
	done   chan struct{}
}

// watchEnd returns a context that ends when the machine goes off or breaks
// down.
func watchEnd(ctx context.Context, m Machinery, name string) (context.Context, *end) {
	e := &end{done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	go func() {
		defer close(e.done)
		status, err := WaitState(ctx, m, name, StatePoweroff)
		if ctx.Err() != nil {
			return
		}
		e.status, e.why = status, err
		if err == nil {
			e.why = &Error{Op: OpWait, Machine: name, Kind: ErrUnexpectedState, Status: status, Reason: fmt.Sprintf("the machine is %s meanwhile", status)}
		}
		e.cancel()
	}()
	return ctx, e
}

// stop ends the watch and waits for that.
func (e *end) stop() {
	e.cancel()
	<-e.done
}

// ask asks the agent once, and returns nil if anything comes back.
func ask(ctx context.Context, address string) error {
	connecting, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(connecting, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	if ctx.Err() != nil {
		return ctx.Err() // it ended before the deadline was set, which has overwritten its own
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: machinery\r\nConnection: close\r\n\r\n", address); err != nil {
		return fmt.Errorf("the connection is accepted, and the question not taken: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the connection is accepted, and nothing answers: %w", err)
	}
	return nil
}
