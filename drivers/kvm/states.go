//go:build linux

package kvm

import (
	"fmt"

	"github.com/digitalocean/go-libvirt"
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
	reasonNoAnswer     = reasons.NoAnswer
	reasonNoDomain     = "no domain"
)

// meaning is what a state of libvirt's and its reason mean.
type meaning struct {
	state  machinery.State
	reason string
	detail string
}

// domainStates is every state and reason that a domain can have: virDomainState and the reasons of each in libvirt 9.0's
// libvirt-domain.h. A state that is not here is an error of kind ErrUnhandledState. A reason that is not here is newer than this
// table, and has the meaning under unknownReason.
//
// What was seen of QEMU's driver in libvirt 9.0.0: a domain that is being started or restored is paused/starting-up, and one that was restored
// from a memory image is paused/migration for a moment, and stays so if it was saved paused. While an internal snapshot is taken it is
// paused/save, in a memory dump paused/dump. A domain that ends is shutdown/unknown before it is shutoff.
var domainStates = map[libvirt.DomainState]map[int32]meaning{
	libvirt.DomainNostate: {},
	libvirt.DomainRunning: {
		unknownReason: {state: machinery.StateRunning}, // unknown, booted, migrated, restored, from snapshot, unpaused, wakeup, crashed …
		int32(libvirt.DomainRunningPostcopyFailed): {machinery.StateError, "migration", "its migration from another host broke down, and part of its memory is still there"},
	},
	libvirt.DomainBlocked: { // Xen's word for a guest that waits for something
		unknownReason: {state: machinery.StateRunning},
	},
	libvirt.DomainPaused: {
		unknownReason:                             {machinery.StateError, reasonStranger, "libvirt does not say why"},
		int32(libvirt.DomainPausedUser):           {machinery.StateError, reasonStranger, ""},
		int32(libvirt.DomainPausedMigration):      {machinery.StatePaused, reasonFromSnapshot, ""},
		int32(libvirt.DomainPausedSave):           {machinery.StatePaused, reasonSaving, ""},
		int32(libvirt.DomainPausedDump):           {machinery.StatePaused, reasonDump, ""},
		int32(libvirt.DomainPausedIoerror):        {machinery.StateError, "io-error", "a disk cannot be read or written"},
		int32(libvirt.DomainPausedWatchdog):       {machinery.StateError, "watchdog", "its watchdog went off"},
		int32(libvirt.DomainPausedFromSnapshot):   {machinery.StatePaused, reasonFromSnapshot, ""},
		int32(libvirt.DomainPausedShuttingDown):   {machinery.StateStopping, "", ""},
		int32(libvirt.DomainPausedSnapshot):       {machinery.StatePaused, reasonSaving, ""},
		int32(libvirt.DomainPausedCrashed):        {machinery.StateError, "guest-panicked", "its operating system crashed"},
		int32(libvirt.DomainPausedStartingUp):     {machinery.StateStarting, "", ""},
		int32(libvirt.DomainPausedPostcopy):       {machinery.StateError, "migration", "it is migrated to another host"},
		int32(libvirt.DomainPausedPostcopyFailed): {machinery.StateError, "migration", "its migration to another host broke down"},
		int32(libvirt.DomainPausedAPIError):       {machinery.StateError, "api-error", "libvirt could not end an operation on it"},
	},
	libvirt.DomainShutdown: {
		unknownReason: {state: machinery.StateStopping},
	},
	libvirt.DomainShutoff: {
		unknownReason:                            {machinery.StatePoweroff, "", ""},
		int32(libvirt.DomainShutoffShutdown):     {machinery.StatePoweroff, "the guest switched itself off", ""},
		int32(libvirt.DomainShutoffDestroyed):    {machinery.StatePoweroff, "destroyed", ""},
		int32(libvirt.DomainShutoffCrashed):      {machinery.StatePoweroff, "its hypervisor ended", ""},
		int32(libvirt.DomainShutoffMigrated):     {machinery.StatePoweroff, "migrated to another host", ""},
		int32(libvirt.DomainShutoffSaved):        {machinery.StatePoweroff, "saved by someone else", ""},
		int32(libvirt.DomainShutoffFailed):       {machinery.StatePoweroff, "it could not be started", ""},
		int32(libvirt.DomainShutoffFromSnapshot): {machinery.StatePoweroff, "reverted to a snapshot of a machine that was off", ""},
		int32(libvirt.DomainShutoffDaemon):       {machinery.StatePoweroff, "libvirt lost track of it", ""},
	},
	libvirt.DomainCrashed: {
		unknownReason: {machinery.StateError, "guest-panicked", "its operating system crashed"},
	},
	libvirt.DomainPmsuspended: {
		unknownReason: {state: machinery.StateSuspended},
	},
}

// unknownReason is libvirt's "unknown" of every state, and stands in the table for all reasons that it does not have.
const unknownReason = 0

// stateWords are libvirt's own words for its states, and those for the reasons of a pause, as virsh domstate --reason has them.
var (
	stateWords = map[libvirt.DomainState]string{
		libvirt.DomainNostate: "no state", libvirt.DomainRunning: "running", libvirt.DomainBlocked: "idle", libvirt.DomainPaused: "paused",
		libvirt.DomainShutdown: "in shutdown", libvirt.DomainShutoff: "shut off", libvirt.DomainCrashed: "crashed", libvirt.DomainPmsuspended: "pmsuspended",
	}
	pauseWords = []string{"unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down",
		"creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "api error"}
)

// inWords is a state and its reason in libvirt's words.
func inWords(state, reason int32) string {
	text, known := stateWords[libvirt.DomainState(state)]
	switch {
	case !known:
		return fmt.Sprintf("state %d, reason %d", state, reason)
	case libvirt.DomainState(state) == libvirt.DomainPaused && reason >= 0 && int(reason) < len(pauseWords):
		return text + " (" + pauseWords[reason] + ")"
	case reason != unknownReason:
		return fmt.Sprintf("%s (reason %d)", text, reason)
	}
	return text
}

// statusOf is the status of a domain of which libvirt says this.
func statusOf(state, reason int32) (machinery.Status, error) {
	reasons := domainStates[libvirt.DomainState(state)]
	m, known := reasons[reason]
	if !known {
		m, known = reasons[unknownReason]
	}
	if !known {
		return machinery.Status{}, fmt.Errorf("libvirt says %s, which this driver has no meaning for", inWords(state, reason))
	}
	status := machinery.Status{State: m.state, Reason: m.reason, Detail: m.detail}
	if m.state == machinery.StateError {
		status.Detail = "libvirt says " + inWords(state, reason)
		if m.detail != "" {
			status.Detail += ": " + m.detail
		}
	}
	return status, nil
}
