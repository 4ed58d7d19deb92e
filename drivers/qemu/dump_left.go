//go:build linux

package qemu

import (
	"context"
	"errors"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// A dump that no driver waits for: it was given up and QEMU goes on with it, or its driver was killed. QEMU 7.2.22 writes it to its
// end, into a file that has no name any more, and then resumes a machine that ran before; a connection that breaks does not matter
// to it. Until then it refuses another dump and cont ("There is a dump in process, please wait."). The event that it is done is lost
// if nobody is connected at that time, and query-dump tells.

// dumping is whether QEMU may be at a dump.
func (p phase) dumping() bool { return p == phaseDumping || p == phaseDumpLeft }

// settled is the phase of a run on which no operation works. The caller holds mu.
func (r *run) settled() phase {
	if r.dumping {
		return phaseDumpLeft
	}
	return phaseSettled
}

// dumpLeft asks a QEMU that was taken over whether it is still at the dump that its ledger tells of. dumping stays set if it does
// not say that it is not.
func (r *run) dumpLeft(ctx context.Context, m *monitor.Monitor) {
	var progress struct{ Status string }
	if err := m.Execute(ctx, "query-dump", nil, &progress); err != nil || progress.Status == "active" {
		return
	}
	// Done with it, or never told to begin. In the first moment the machine may stand for it still.
	if err := r.awaitResume(ctx); err != nil {
		return
	}
	r.mu.Lock()
	r.dumping = false
	r.mu.Unlock()
}

// dumpIsLeft is whether QEMU may be at a dump that nobody waits for. Whoever has the turn calls it.
func (r *run) dumpIsLeft() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dumping
}

// noteDumpOver takes the dump that nobody waited for out of the ledger. One that is waited for is its operation's to take out.
func (r *run) noteDumpOver() {
	r.mu.Lock()
	left := r.ledger.Phase == phaseDumpLeft
	r.mu.Unlock()
	if !left {
		return
	}
	err := r.note(func(l *ledger) {
		if l.Phase == phaseDumpLeft {
			l.Phase = r.settled()
		}
	})
	if err != nil {
		r.v.log.Warn("the machine's ledger is out of date: it still says that QEMU is at a memory dump", "error", err)
	}
}

// awaitLeftDump waits until QEMU is done with a dump that nobody waits for, as an operation waits for the one before it.
func (r *run) awaitLeftDump(ctx context.Context, op machinery.Op) error {
	began := time.Now()
	r.v.log.Info("waiting for a memory dump that an earlier driver or operation began")
	// The event may have been lost: asked first, or the wait would begin with a second of nothing.
	over, err := r.askDump(ctx, nil)
	switch {
	case err == nil && over:
		err = r.awaitResume(ctx)
	case err == nil:
		err = r.awaitDump(ctx, nil)
	}
	if ctx.Err() != nil {
		return fault.Interrupted(op, r.v.machine.Name, ctx, "waiting for QEMU to end a memory dump that was begun before")
	}
	if failure, is := errors.AsType[*dumpFailure](err); is {
		err = nil // that it came to nothing was expected
		r.v.log.Debug("the memory dump failed", "error", failure)
	}
	if err != nil {
		// What has become of QEMU the machine's state tells.
		r.v.log.Warn("QEMU was not heard of while it was at a memory dump", "error", err)
	}
	r.v.log.Debug("QEMU is done with it", "waited", time.Since(began))
	return nil
}
