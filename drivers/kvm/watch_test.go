//go:build linux

package kvm

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	"github.com/machineries/machineries/machinery"
)

// Nothing was missed by one who watches from the first moment on, though libvirt's events arrive only after the driver was opened.
func TestWhoWatchesAtOnceIsToldOfNoGap(t *testing.T) {
	s := newSite(t, "fake", conformance.MachineSpec{Name: "a"})
	d := s.open()
	events, err := d.Watch(limit(t), "a")
	must(t, err)
	first := <-events
	if first.Status.State != machinery.StatePoweroff || first.Gap {
		t.Fatalf("the first event is %+v; want poweroff, and no gap", first)
	}
	hears(t, d)
	go d.RestoreStart(limit(t), "a")
	for e := range events {
		if e.Gap || e.Status.State == machinery.StatePoweroff {
			t.Errorf("after the first event came %+v; nothing was missed", e)
		}
		if e.Status.State == machinery.StateRunning {
			must(t, d.Stop(limit(t), "a"))
			return
		}
	}
	t.Error("the machine was not seen to run")
}

// Libvirt answers, but does not let its events be registered for: the status is not held back for that.
func TestWhoWatchesBeforeLibvirtIsHeardIsToldOfTheGap(t *testing.T) {
	server := many(t, 1)
	must(t, server.Plan(fakelibvirt.Fault{Point: fakelibvirt.PointCall, Procedure: "ConnectDomainEventCallbackRegisterAny", Action: fakelibvirt.Hang}))
	d, err := New(limit(t), Config{URI: server.URI(), CallTimeout: time.Minute, Machines: []MachineConfig{{Name: "a", Label: "m0"}}},
		machinery.Options{RuntimeDir: filepath.Join(t.TempDir(), "run")})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	events, err := d.Watch(limit(t), "a")
	must(t, err)
	if first := <-events; first.Gap || d.hearing.Load() {
		t.Errorf("the first event is %+v, with libvirt heard: %v; want one without a gap before libvirt is heard", first, d.hearing.Load())
	}
	must(t, server.Plan())
	must(t, server.Restart(0))
	if second := <-events; !second.Gap {
		t.Errorf("the second event is %+v; libvirt was not heard before it, so something may be missing", second)
	}
}
