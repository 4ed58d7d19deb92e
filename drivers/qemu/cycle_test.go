//go:build linux

package qemu

import (
	"testing"

	"github.com/machineries/machineries/machinery"
)

func TestRestoreAndStopCycle(t *testing.T) {
	snaps := realSnapshots(t)
	for pack := range packed(t, nil) {
		t.Run(pack, func(t *testing.T) {
			s := newSite(t)
			s.add("paused", snaps.disk, packed(t, snaps.paused)[pack])
			s.add("running", snaps.disk, packed(t, snaps.running)[pack])
			m := s.open(machinery.Options{})
			for range 3 {
				for _, name := range []string{"paused", "running"} {
					mustState(t, m, name, machinery.StatePoweroff, "")
					if err := m.RestoreStart(limit(t), name); err != nil {
						t.Fatal(err)
					}
				}
				mustState(t, m, "paused", machinery.StatePaused, reasonFromSnapshot)
				mustState(t, m, "running", machinery.StateRunning, "")
				mustKind(t, m.RestoreStart(limit(t), "running"), machinery.ErrUnexpectedState)
				mustKind(t, m.HandlePaused(limit(t), "running"), machinery.ErrStateReached)
				if err := m.HandlePaused(limit(t), "paused"); err != nil {
					t.Fatal(err)
				}
				mustState(t, m, "paused", machinery.StateRunning, "")
				for _, name := range []string{"paused", "running"} {
					if err := m.Stop(limit(t), name); err != nil {
						t.Fatal(err)
					}
					mustState(t, m, name, machinery.StatePoweroff, "")
					mustKind(t, m.Stop(limit(t), name), machinery.ErrStateReached)
				}
				s.clean()
			}
		})
	}
}

func TestAMachineStandsStillInWhateverRunStateItWasSaved(t *testing.T) {
	snaps := realSnapshots(t)
	for name, c := range map[string]struct {
		snapshot []byte
		standing string
	}{"before it ran": {snaps.fresh, "prelaunch"}, "paused": {snaps.paused, "paused"}} {
		t.Run(name, func(t *testing.T) {
			s, m := restored(t, c.snapshot)
			mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
			if got := m.frame.Named("vm").run.standing(); got != c.standing {
				t.Errorf("the run state is %q, want %q", got, c.standing)
			}
			mustState(t, s.open(machinery.Options{}), "vm", machinery.StatePaused, reasonFromSnapshot)
			if err := m.HandlePaused(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			mustState(t, m, "vm", machinery.StateRunning, "")
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}
