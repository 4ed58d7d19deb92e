//go:build linux

package kvm

import (
	"strings"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/machinery"
)

// lastReason is the last reason of each state that libvirt 9.0's libvirt-domain.h has.
var lastReason = map[libvirt.DomainState]int32{
	libvirt.DomainNostate: 0, libvirt.DomainRunning: 11, libvirt.DomainBlocked: 0, libvirt.DomainPaused: 14, libvirt.DomainShutdown: 1,
	libvirt.DomainShutoff: 8, libvirt.DomainCrashed: 1, libvirt.DomainPmsuspended: 0,
}

func TestEveryStateAndReasonOfLibvirtHasAMeaning(t *testing.T) {
	for state, last := range lastReason {
		for reason := range last + 2 { // and one that is newer
			status, err := statusOf(int32(state), reason)
			switch {
			case state == libvirt.DomainNostate:
				if err == nil {
					t.Errorf("no state is taken for %s", status)
				}
			case err != nil:
				t.Errorf("%s: %v", inWords(int32(state), reason), err)
			case !status.State.Valid():
				t.Errorf("%s is %q", inWords(int32(state), reason), status.State)
			case status.State == machinery.StateError && (status.Reason == "" || !strings.Contains(status.Detail, inWords(int32(state), reason))):
				t.Errorf("%s is an error without a reason or libvirt's words: %+v", inWords(int32(state), reason), status)
			case status.State == machinery.StatePaused && status.Reason == "":
				t.Errorf("%s is paused, and nothing says why", inWords(int32(state), reason))
			}
		}
	}
	if status, err := statusOf(8, 0); err == nil || !strings.Contains(err.Error(), "state 8") {
		t.Errorf("a state that libvirt does not have yet is %s, %v", status, err)
	}
}

// What was seen of libvirt 9.0.0, and what it has to be to the contract.
func TestPausesAreToldApart(t *testing.T) {
	for reason, want := range map[libvirt.DomainPausedReason]machinery.Status{
		libvirt.DomainPausedFromSnapshot: {State: machinery.StatePaused, Reason: reasonFromSnapshot},
		libvirt.DomainPausedMigration:    {State: machinery.StatePaused, Reason: reasonFromSnapshot}, // a memory image that was saved paused
		libvirt.DomainPausedDump:         {State: machinery.StatePaused, Reason: reasonDump},
		libvirt.DomainPausedSave:         {State: machinery.StatePaused, Reason: reasonSaving},
		libvirt.DomainPausedStartingUp:   {State: machinery.StateStarting},
		libvirt.DomainPausedShuttingDown: {State: machinery.StateStopping},
		libvirt.DomainPausedUser:         {State: machinery.StateError, Reason: reasonStranger},
		libvirt.DomainPausedIoerror:      {State: machinery.StateError, Reason: "io-error"},
		libvirt.DomainPausedWatchdog:     {State: machinery.StateError, Reason: "watchdog"},
		libvirt.DomainPausedCrashed:      {State: machinery.StateError, Reason: "guest-panicked"},
		libvirt.DomainPausedUnknown:      {State: machinery.StateError, Reason: reasonStranger},
		99:                               {State: machinery.StateError, Reason: reasonStranger},
	} {
		got, err := statusOf(int32(libvirt.DomainPaused), int32(reason))
		if err != nil || got.State != want.State || got.Reason != want.Reason {
			t.Errorf("%s is %s, %v; want %s", inWords(int32(libvirt.DomainPaused), int32(reason)), got, err, want)
		}
	}
}

func TestAPauseForAnErrorIsToldInLibvirtsWords(t *testing.T) {
	status, err := statusOf(int32(libvirt.DomainPaused), int32(libvirt.DomainPausedIoerror))
	if want := "libvirt says paused (I/O error): a disk cannot be read or written"; err != nil || status.Detail != want {
		t.Errorf("%q, %v; want %q", status.Detail, err, want)
	}
}
