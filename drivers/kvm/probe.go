//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// hypervisorQEMU is libvirt's word for QEMU, with and without KVM.
const hypervisorQEMU = "QEMU"

const (
	// probeAgain is how long it counts that QEMU has answered. libvirt tells a domain's state from memory, and calls one running whose
	// QEMU hangs (seen on libvirt 9.0.0, with a stopped process): only a question that QEMU itself has to answer shows that.
	probeAgain = 20 * time.Millisecond
	// probeTime is how long a question to QEMU may be under way in libvirt at most: until QEMU answers or ends.
	probeTime = 24 * time.Hour
	// wedgedTime is how long QEMU must have let libvirt wait before it may be said not to answer, where the caller gives State less.
	wedgedTime = 100 * time.Millisecond
)

// probe finds out whether a machine's QEMU answers. There is one question at a time, however many callers want to know. The zero
// value is ready.
type probe struct {
	mu       sync.Mutex
	answered time.Time // when QEMU answered last
	asked    *question // the question that is under way
}

type question struct {
	sent atomic.Pointer[time.Time] // when it went to libvirt; nil while all connections for such questions are taken
	done chan struct{}
	err  error // set with done closed
}

// ifAlive is status, or the error state if the machine's QEMU does not answer.
func (v *vm) ifAlive(ctx context.Context, status machinery.Status) (machinery.Status, error) {
	if v.d.hypervisor != hypervisorQEMU {
		return status, nil
	}
	v.alive.mu.Lock()
	if time.Since(v.alive.answered) < probeAgain {
		v.alive.mu.Unlock()
		return status, nil
	}
	q := v.alive.asked
	if q == nil {
		q = &question{done: make(chan struct{})}
		v.alive.asked = q
		v.d.asking.Go(func() { v.probe(q) })
	}
	v.alive.mu.Unlock()
	select {
	case <-q.done:
		// An error says that QEMU has ended, or that libvirt was lost; the state as libvirt has it is the better answer.
		if q.err == nil {
			return status, nil
		}
		state, reason, err := v.ask(ctx)
		if err == nil {
			status, err = statusOf(state, reason)
		}
		return status, v.asStateError(ctx, err)
	case <-ctx.Done():
	}
	sent := q.sent.Load()
	if errors.Is(ctx.Err(), context.Canceled) || sent == nil || time.Since(*sent) < wedgedTime {
		return machinery.Status{}, fault.Interrupted(machinery.OpState, v.machine.Name, ctx, "waiting for QEMU to answer")
	}
	return machinery.Status{State: machinery.StateError, Reason: reasonNoAnswer,
		Detail: fmt.Sprintf("libvirt says %s, but QEMU has not answered for %v", status, time.Since(*sent).Round(time.Millisecond))}, nil
}

// probe asks QEMU about its disks, by way of libvirt: a question without an effect, and one that libvirt does not answer from memory.
func (v *vm) probe(q *question) {
	ctx, cancel := context.WithTimeout(v.d.frame.Life(), probeTime)
	defer cancel()
	q.err = v.call(ctx, func(dom libvirt.Domain) error {
		return v.d.probes.DoLong(ctx, "asking QEMU whether it answers", func(l *libvirt.Libvirt) error {
			now := time.Now()
			q.sent.Store(&now)
			_, _, err := l.DomainGetDiskErrors(dom, 1, 0)
			return err
		})
	})
	if _, said := errors.AsType[*rpc.Error](q.err); said && !unheard(q.err) && !rpc.IsCode(q.err, libvirt.ErrOperationTimeout) {
		// It is off, say. What libvirt says about that is told from the state.
		v.log.Debug("QEMU was asked whether it answers", "error", q.err)
	}
	v.alive.mu.Lock()
	defer v.alive.mu.Unlock()
	v.alive.asked = nil
	if q.err == nil {
		v.alive.answered = time.Now()
	}
	close(q.done)
}

// asStateError is what State returns for an error.
func (v *vm) asStateError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return v.refused(ctx, machinery.OpState, err, "asking for the machine's state")
}
