//go:build linux

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one emulator that was started from an Installation.
type Process struct {
	// PID is the process that the driver started. Args is its command line without
	// the program's name.
	PID  int
	Args []string
	// Started is when it reported to the installation.
	Started time.Time

	pidfd int
	wire  *link // nil once the real emulator has taken the process over

	mu       sync.Mutex
	commands []string
	status   string
	replies  map[int]chan answer
	next     int
	gone     bool
}

// Commands returns the names of the commands it received through its monitors, in
// order, refused and unknown ones included, the installation's own excluded.
func (p *Process) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.commands...)
}

// Status is the run state as query-status would say it now ("running", "paused",
// "inmigrate", ...), "" where the process is not watched or has not come as far.
func (p *Process) Status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Alive says whether the process exists and has not ended; one that has ended and
// is waited for by nobody yet counts as ended.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone && pidfdReady(p.pidfd, 0) {
		// An installation may see thousands of processes; the descriptor is needed no
		// more once its process has ended.
		p.gone = true
		_ = unix.Close(p.pidfd)
	}
	return !p.gone
}

// pidfdReady waits for the process of a pidfd to end.
func pidfdReady(pidfd int, wait time.Duration) bool {
	deadline := time.Now().Add(wait)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if !errors.Is(err, syscall.EINTR) {
			return n > 0
		}
	}
}

// Signal sends a signal to the process. It cannot hit another one that got the
// same number.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return os.ErrProcessDone
	}
	return unix.PidfdSendSignal(p.pidfd, s, nil, 0)
}

// Do makes the emulator run a QMP command as a stranger on another monitor would:
// `{"execute":"stop"}`. It returns what follows "return" in the reply; an error reply is a
// *CommandError. It does not wait its turn behind the clients and passes by planned faults.
func (p *Process) Do(ctx context.Context, command string) (json.RawMessage, error) {
	a, err := p.ask(ctx, message{Do: json.RawMessage(command)})
	if err != nil {
		return nil, fmt.Errorf("let emulator %d do %s: %w", p.PID, command, err)
	}
	var reply struct {
		Return json.RawMessage
		Error  *CommandError
	}
	if err := json.Unmarshal(a.Reply, &reply); err != nil {
		return nil, fmt.Errorf("let emulator %d do %s: %w", p.PID, command, err)
	}
	if reply.Error != nil {
		return nil, reply.Error
	}
	return reply.Return, nil
}

// CommandError is an error reply of QMP.
type CommandError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *CommandError) Error() string { return e.Class + ": " + e.Desc }

// Plan replaces the faults of this running emulator.
func (p *Process) Plan(ctx context.Context, faults ...Fault) error {
	_, err := p.ask(ctx, message{Plan: &faults})
	return err
}

// Suffer makes the virtual machine meet a misfortune, with the events and the run
// state that QEMU would show: "guest-panicked", "io-error", "watchdog" or
// "internal-error". It works on the fake alone.
func (p *Process) Suffer(ctx context.Context, status string) error {
	_, err := p.ask(ctx, message{Suffer: status})
	return err
}

// errNotWatched is the answer of a process that a real emulator has taken over.
var errNotWatched = errors.New("the real emulator runs without an interposer: plan a wire fault or set Options.Watch")

func (p *Process) ask(ctx context.Context, m message) (answer, error) {
	p.mu.Lock()
	if p.wire == nil || p.gone {
		p.mu.Unlock()
		if p.gone {
			return answer{}, os.ErrProcessDone
		}
		return answer{}, errNotWatched
	}
	p.next++
	m.ID = p.next
	ch := make(chan answer, 1)
	p.replies[m.ID] = ch
	w := p.wire
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.replies, m.ID)
		p.mu.Unlock()
	}()
	if err := w.send(m); err != nil {
		return answer{}, err
	}
	select {
	case a, ok := <-ch:
		if !ok {
			return a, os.ErrProcessDone
		}
		if a.Err != "" {
			return a, errors.New(a.Err)
		}
		return a, nil
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// end kills the process and waits for its end.
func (p *Process) end(patience time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if err := unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill emulator %d: %w", p.PID, err)
	}
	if !pidfdReady(p.pidfd, patience) {
		return fmt.Errorf("emulator %d does not end although it was killed", p.PID)
	}
	p.gone = true
	return unix.Close(p.pidfd)
}
