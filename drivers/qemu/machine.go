//go:build linux

package qemu

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// cleanupTime bounds what has to be cleared up whatever became of the caller's context: a process that was killed is gone within
// milliseconds, unless it is in an uninterruptible sleep.
const cleanupTime = 10 * time.Second

// vm is one configured machine.
type vm struct {
	d       *Machinery
	machine machinery.Machine
	conf    MachineConfig // with absolute paths
	args    *commandArgs
	sandbox []string // the arguments for QEMU's sandbox
	dir     string   // its runtime directory, which is there while it runs
	// overlays are the paths of its disposable disks: that of the disk, then those of its other media.
	overlays []string
	bad      error // why it cannot be used; nil for one that can
	badKind  error // the kind of error that this is
	unsaved  error // why it cannot be restored, though it can be booted: it has no snapshot; nil for one that has
	log      *slog.Logger
	bases    bases

	turns   turns.Turns
	watches watching.Hub
	reading chan struct{} // holds a token while somebody asks on the second monitor

	// What follows is changed only by whoever has the turn, and with mu held; State reads it with mu alone.
	mu      sync.Mutex
	run     *run             // its QEMU; nil while this driver holds none
	doing   phase            // what the operation that has the turn makes of the machine; empty for nothing
	booting bool             // with phaseStarting: it boots, without its snapshot
	during  machinery.Status // with phaseDumping and phaseSaving: what the machine is meanwhile
	failed  error            // why the last start failed, until Stop or the next start
	last    string           // why it is off, if it went off by itself
	armed   *capture.Armed   // the capture that begins with the next run
	lost    error            // why the capture of the last run is not as it should be, until somebody is told
}

// What a frame asks of a machine.
var _ frame.Machine = (*vm)(nil)

// Describe is what callers are told of the machine.
func (v *vm) Describe() machinery.Machine { return v.machine }

// Turns are its operations' line.
func (v *vm) Turns() *turns.Turns { return &v.turns }

// Watches are those who watch it.
func (v *vm) Watches() *watching.Hub { return &v.watches }

// Log is for what is done to it.
func (v *vm) Log() *slog.Logger { return v.log }

// set changes what State sees.
func (v *vm) set(change func()) {
	v.mu.Lock()
	change()
	v.mu.Unlock()
	v.changed(false)
}

// claim takes the machine's lock, for a machine that this driver does not hold. If another driver left its QEMU running, p is
// that; what a dead one left is removed.
func (v *vm) claim(op machinery.Op) (h *hold, p *process.Process, l *ledger, err error) {
	h, err = acquire(v.dir)
	if err != nil {
		if busy, is := errors.AsType[*rundir.HeldError](err); is {
			return nil, nil, nil, fault.Fail(op, v.machine.Name, machinery.ErrBusy, nil, "%v%s; wait until that lets go of it, or end it, and try again", busy, process.Describe(busy.PID))
		}
		return nil, nil, nil, fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the machine's runtime directory %s cannot be used", v.dir)
	}
	l, err = readLedger(v.dir)
	if err == nil && l != nil {
		p, err = l.process()
		if errors.Is(err, os.ErrProcessDone) {
			v.log.Info("clearing what an earlier run left", "pid", l.PID, "owner", l.Owner)
			err = l.clear()
			if v.lost = l.lost; l.lost != nil {
				v.log.Warn("the capture of an earlier run is not as it should be", "path", l.Capture.Path, "error", l.lost)
			}
			l = nil
		}
	}
	if err != nil {
		h.Unlock()
		return nil, nil, nil, fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "it cannot be told what an earlier run of the machine left")
	}
	return h, p, l, nil
}

// problem is all that keeps the machine from being restored.
func (v *vm) problem() error {
	var problems []error
	for _, err := range []error{v.bad, v.unsaved} {
		if err != nil {
			problems = append(problems, err)
		}
	}
	return fault.Join(problems)
}

// Refuse is the error for an operation that the machine cannot be used for. One without a snapshot can be booted, for one to be
// made, and used as any other then.
func (v *vm) Refuse(op machinery.Op) error {
	if v.bad == nil && (v.unsaved == nil || op != machinery.OpRestoreStart && op != machinery.OpHandlePaused) {
		return nil
	}
	return fault.Fail(op, v.machine.Name, v.badKind, v.problem(), "the machine cannot be used")
}

// untouched is whether there is no sign of a run of the machine, by this driver or another.
func (v *vm) untouched() bool {
	_, err := os.Lstat(v.dir)
	return v.run == nil && errors.Is(err, fs.ErrNotExist)
}

// clear removes everything of a run whose process has ended.
func (v *vm) clear(r *run) error {
	v.lost = v.finishCapture(r)
	r.let()
	return errors.Join(v.lost, disposable.RemoveAll(r.ledger.Overlays), r.hold.remove())
}

// detach lets go of the machine's QEMU, which runs on. Whoever has the turn calls it.
func (v *vm) detach() {
	r := v.run
	if r == nil {
		return
	}
	if r.proc.Over() {
		v.wentOff(r)
		return
	}
	r.let()
	r.hold.Unlock()
	v.set(func() { v.run = nil })
	v.log.Info("let go of the running machine", "pid", r.proc.PID)
}

// watch clears up when QEMU ends by itself, because the guest switched itself off or somebody ended it.
func (v *vm) watch(r *run) {
	select {
	case <-r.proc.Gone:
	case <-r.released:
		return
	}
	t, err := v.turns.Take(context.Background(), "")
	if err != nil {
		return // closing, which clears up too
	}
	defer t.Done()
	if v.run == r {
		v.wentOff(r)
	}
}

// wentOff clears up after a QEMU that has ended by itself.
func (v *vm) wentOff(r *run) {
	r.proc.Wait(cleanupTime)
	reason := r.whyGone()
	v.log.Info("the machine went off", "pid", r.proc.PID, "reason", reason)
	if err := v.clear(r); err != nil {
		v.log.Warn("something of the machine's run could not be removed", "error", err)
	}
	v.set(func() { v.run, v.last = nil, reason })
}

// Patience is how long an operation may take to end that was told to: another Stop has to wait for QEMU to quit and to die.
func (v *vm) Patience() time.Duration { return v.d.config.QuitTimeout + 3*cleanupTime }
