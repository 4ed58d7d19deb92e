//go:build linux

package qemu

import (
	"fmt"

	"github.com/machineries/machineries/drivers/internal/reasons"
	"github.com/machineries/machineries/machinery"
)

// Reasons of a machine's status; what has words of its own here is this driver's alone.
const (
	reasonConfig       = reasons.Config
	reasonStartFailed  = reasons.StartFailed
	reasonLoading      = reasons.Loading
	reasonBooting      = reasons.Booting
	reasonDump         = reasons.Dump
	reasonSaving       = reasons.Saving
	reasonFromSnapshot = reasons.FromSnapshot
	reasonStranger     = reasons.Stranger
	reasonQuota        = "disk quota reached"
	reasonNoAnswer     = reasons.NoAnswer
)

// shutDown is the run state of a QEMU whose guest has switched itself off. It has it for a moment before it ends, and stays in it if
// it was started with -no-shutdown (QEMU 7.2.22).
const shutDown = "shutdown"

// runState is what one of QEMU's run states means for a machine whose start is over.
type runState struct {
	state  machinery.State
	reason string
	detail string
	// still: the state may be the snapshot's. It then is StatePaused, until the machine is resumed.
	still bool
}

// runStates is every run state that QEMU 7.2 has (the enumeration RunState of its QMP schema). A state that is not here is
// an error of kind ErrUnhandledState.
var runStates = map[string]runState{
	"running":        {state: machinery.StateRunning},
	"inmigrate":      {state: machinery.StateStarting, reason: reasonLoading},
	"preconfig":      {state: machinery.StateStarting},
	"suspended":      {state: machinery.StateSuspended},
	"paused":         {machinery.StateError, reasonStranger, "", true},
	"postmigrate":    {machinery.StateError, reasonStranger, "somebody saved its state and left it standing", true},
	"prelaunch":      {machinery.StateError, reasonStranger, "it was reset while it stood still", true},
	"finish-migrate": {machinery.StateError, reasonStranger, "somebody saves its state", false},
	"save-vm":        {machinery.StateError, reasonStranger, "somebody saves its state or its memory", false},
	"restore-vm":     {machinery.StateError, reasonStranger, "somebody loads another state", false},
	"colo":           {machinery.StateError, "colo", "it is the copy of a machine elsewhere", false},
	"debug":          {machinery.StateError, "debug", "a debugger stopped it", false},
	"internal-error": {machinery.StateError, "internal-error", "QEMU cannot go on emulating it", false},
	"io-error":       {machinery.StateError, "io-error", "a disk cannot be read or written", false},
	"watchdog":       {machinery.StateError, "watchdog", "its watchdog went off", false},
	"guest-panicked": {machinery.StateError, "guest-panicked", "its operating system crashed", false},
	shutDown:         {machinery.StateError, "shutdown", "the guest switched itself off and QEMU stayed", false},
}

// statusOf is the status of a machine whose start is over and whose QEMU reports a run state. standing is the run state
// that it has from its snapshot, or empty.
func statusOf(qemu, standing string) (machinery.Status, error) {
	s, known := runStates[qemu]
	if !known {
		return machinery.Status{}, fmt.Errorf("QEMU reports the run state %q, which this driver does not know", qemu)
	}
	if s.still && qemu == standing {
		return machinery.Status{State: machinery.StatePaused, Reason: reasonFromSnapshot}, nil
	}
	detail := s.detail
	if s.state == machinery.StateError {
		detail = "QEMU's run state is " + qemu
		if s.detail != "" {
			detail += ": " + s.detail
		}
	}
	return machinery.Status{State: s.state, Reason: s.reason, Detail: detail}, nil
}

// statusOfRun is statusOf for a QEMU that may be in a dump of its memory that this driver began and did not wait for.
func statusOfRun(qemu, standing string, dumping bool) (machinery.Status, error) {
	if dumping && qemu == "save-vm" {
		return machinery.Status{State: machinery.StatePaused, Reason: reasonDump}, nil
	}
	return statusOf(qemu, standing)
}

// settledAs says what a run state means right after the snapshot was loaded: the machine runs (standing is empty), stands
// still as it was saved, or cannot be used.
func settledAs(qemu string) (standing string, err error) {
	s, known := runStates[qemu]
	switch {
	case !known:
		return "", fmt.Errorf("QEMU reports the run state %q, which this driver does not know", qemu)
	case s.still:
		return qemu, nil
	case s.state == machinery.StateRunning, s.state == machinery.StateSuspended:
		return "", nil
	}
	return "", fmt.Errorf("the machine was saved in the run state %q, from which it cannot go on (%s)", qemu, s.detail)
}
