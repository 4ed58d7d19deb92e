//go:build linux

package libvirtlab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
)

// fakeDaemon is a fake libvirtd in the lab's own process.
type fakeDaemon struct {
	*fakelibvirt.Server
	dir string

	mu  sync.Mutex
	end func() // ends the silence
}

// fakeKillDelay is how long the fake waits before it kills a hypervisor that does
// not end. libvirt waits 10 s, which shows nothing more.
const fakeKillDelay = time.Second

// fakeLockTimeout is how long a call waits in the fake for someone else's work.
// libvirt waits 30 s.
const fakeLockTimeout = 200 * time.Millisecond

// startFakeDaemon starts a fake libvirtd with its socket in dir, which must not
// exist.
func startFakeDaemon(dir string) (*fakeDaemon, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := fakelibvirt.New(fakelibvirt.Options{Socket: filepath.Join(dir, "libvirt-sock"), KillDelay: fakeKillDelay, LockTimeout: fakeLockTimeout})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &fakeDaemon{Server: s, dir: dir}, nil
}

// URI is what the daemon calls what it manages, without its socket.
func (d *fakeDaemon) URI() string {
	uri, _, _ := strings.Cut(d.Server.URI(), "?")
	return uri
}

// Stop implements daemon.
func (d *fakeDaemon) Stop(context.Context) error {
	d.Wake()
	d.Server.Stop()
	return nil
}

// Kill implements daemon.
func (d *fakeDaemon) Kill(ctx context.Context) error { return d.Stop(ctx) }

// Start implements daemon.
func (d *fakeDaemon) Start(context.Context) error { return d.Server.Start() }

// Silence implements daemon.
func (d *fakeDaemon) Silence() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end == nil {
		d.end = d.Server.Silence()
	}
	return nil
}

// Wake implements daemon.
func (d *fakeDaemon) Wake() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil {
		d.end()
		d.end = nil
	}
	return nil
}

// Heal implements daemon.
func (d *fakeDaemon) Heal(ctx context.Context) error {
	return errors.Join(d.Wake(), d.Start(ctx))
}

// Close implements daemon.
func (d *fakeDaemon) Close() error {
	return errors.Join(d.Wake(), d.Server.Close(), os.RemoveAll(d.dir))
}

// fakePlans says how each fault that strikes at a machine's starts is made by the
// fake.
var fakePlans = map[conformance.FaultKind]func(f conformance.Fault) fakelibvirt.Fault{
	conformance.FaultSlowStart: func(f conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "start", Action: fakelibvirt.Delay, Delay: f.Delay}
	},
	conformance.FaultRefuseStart: func(f conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "start", Action: fakelibvirt.Refuse, Text: f.Text}
	},
	conformance.FaultNeverReady: func(conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "start", Action: fakelibvirt.Hang}
	},
	conformance.FaultRefuseResume: func(f conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "cont", Action: fakelibvirt.Refuse, Text: f.Text}
	},
	conformance.FaultRefuseQuit: func(conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "quit", Action: fakelibvirt.Stay}
	},
	conformance.FaultRefuseDump: func(f conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "dump", Action: fakelibvirt.Refuse, Text: f.Text}
	},
	conformance.FaultSlowDump: func(f conformance.Fault) fakelibvirt.Fault {
		return fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "dump", Action: fakelibvirt.Delay, Delay: f.Delay}
	},
}

// planFake plans the faults that strike at a machine's starts.
func planFake(d *fakelibvirt.Domain, spec conformance.MachineSpec) error {
	var faults []fakelibvirt.Fault
	for _, f := range spec.Faults {
		if plan := fakePlans[f.Kind]; plan != nil {
			faults = append(faults, plan(f))
		}
	}
	if spec.Damage == conformance.SnapshotForeign {
		// The fake's snapshots do not know how much memory they are of.
		faults = append(faults, fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "start", Action: fakelibvirt.Refuse,
			Text: "qemu-system-x86_64: Size mismatch: pc.ram: 0x2000000 != 0x1000000: Invalid argument"})
	}
	return d.Plan(faults...)
}
