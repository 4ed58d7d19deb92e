//go:build linux

package kvm

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/internal/watching"
	"github.com/machineries/machineries/machinery"
)

// cleanupTime bounds what has to be cleared up whatever became of the caller's context, besides ending the machine.
const cleanupTime = 10 * time.Second

// phase is what an operation of this driver makes of a machine.
type phase string

const (
	phaseStarting phase = "starting"
	phaseStopping phase = "stopping"
	phaseDumping  phase = "dumping"
)

// vm is one configured machine.
type vm struct {
	d       *Machinery
	machine machinery.Machine
	conf    MachineConfig
	bad     error // why it cannot be used, whatever libvirt says; nil for one that can
	log     *slog.Logger

	dom     atomic.Pointer[libvirt.Domain] // nil while it is not known
	only    bool                           // it is the domain of that UUID, and not one that has got its name since
	alive   probe
	turns   turns.Turns
	watches watching.Hub

	// What follows is changed only by whoever has the turn, and with mu held; State reads it with mu alone.
	mu      sync.Mutex
	doing   phase // what the operation that has the turn makes of the machine; empty for nothing
	booting bool  // with phaseStarting: it boots, without its snapshot
	failed  error // why the last start failed, until Stop or the next start
	hold    *hold // nil while this driver does not hold it

	// What follows is for whoever has the turn alone.
	armed *capture.Armed // the capture that begins with the next run
	lost  error          // why the capture of the last run is not as it should be, until somebody is told
	pair  pair           // its memory image and its disks, if it has an image

	snapshotMu sync.Mutex
	looked     bool  // whether there was a look at its snapshot
	unsaved    error // what was wrong with it
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

// Refuse is the error for an operation that the machine cannot be used for.
func (v *vm) Refuse(op machinery.Op) error {
	if v.bad == nil {
		return nil
	}
	return fault.Fail(op, v.machine.Name, machinery.ErrConfig, v.bad, "the machine cannot be used")
}

// wrongState is the error for a machine that is in the wrong state. The format's first argument is that state.
func (v *vm) wrongState(op machinery.Op, kind error, status machinery.Status, format string, args ...any) error {
	return fault.WrongState(op, v.machine.Name, kind, status, format, args...)
}

// Patience is how long an operation may take to end that was told to: another Stop has to wait for libvirt to end the machine.
func (v *vm) Patience() time.Duration { return v.d.config.StopTimeout + 3*cleanupTime }
