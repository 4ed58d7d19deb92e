//go:build linux

package libvirtlab

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
)

// planned are the faults that strike at a machine's starts, which the interposer
// makes. A stranger's pause needs none: anyone may connect to libvirt.
func planned(faults []conformance.Fault) []conformance.Fault {
	return slices.DeleteFunc(slices.Clone(faults), func(f conformance.Fault) bool { return f.Kind == conformance.FaultStrangerPause })
}

// Inject implements conformance.Bench.
func (b *bench) Inject(ctx context.Context, name string, f conformance.Fault) error {
	m := b.machines[name]
	if d := b.fakeDomain(m); d != nil {
		switch f.Kind {
		case conformance.FaultKill:
			d.Kill()
			return nil
		case conformance.FaultWedge:
			d.Wedge()
			return nil
		case conformance.FaultLocked:
			return b.hold(ctx, d, f.Delay)
		}
	}
	switch f.Kind {
	case conformance.FaultKill:
		return labkit.Signal(ctx, m.domain.Serial, syscall.SIGKILL)
	case conformance.FaultWedge:
		return labkit.Signal(ctx, m.domain.Serial, syscall.SIGSTOP)
	case conformance.FaultStrangerPause:
		return ask(ctx, b.daemon, func(c *client) error {
			dom, err := c.DomainLookupByName(m.domain.Name)
			if err != nil {
				return err
			}
			return c.DomainSuspend(dom)
		})
	case conformance.FaultChangeDisk:
		return labkit.ChangeDisk(m.files["disk"])
	case conformance.FaultChangeSecondDisk:
		return labkit.ChangeDisk(m.files["second disk"])
	case conformance.FaultNoProgram:
		return b.daemon.Stop(ctx)
	case conformance.FaultSilent:
		return b.daemon.Silence()
	case conformance.FaultRestart:
		// By turns as an update does it, and as a crash.
		end := b.daemon.Stop
		if b.restarts++; b.restarts%2 == 0 {
			end = b.daemon.Kill
		}
		if err := end(ctx); err != nil {
			return err
		}
		return b.daemon.Start(ctx)
	case conformance.FaultGone:
		m.gone = true
		return ask(ctx, b.daemon, func(c *client) error {
			dom, err := c.DomainLookupByName(m.domain.Name)
			if err != nil {
				return err
			}
			return c.DomainUndefineFlags(dom, libvirt.DomainUndefineSnapshotsMetadata)
		})
	}
	return fmt.Errorf("the fault %q cannot be made on a running machine", f.Kind)
}

// hold works on a machine of the fake's for a time.
func (b *bench) hold(ctx context.Context, d *fakelibvirt.Domain, f time.Duration) error {
	release, err := d.HoldLock(ctx)
	if err == nil {
		b.holds.Go(func() {
			time.Sleep(f) // the fault itself
			release()
		})
	}
	return err
}

// Heal implements conformance.Bench.
func (b *bench) Heal(ctx context.Context, name string) error {
	m := b.machines[name]
	if m.planned {
		b.lab.mu.Lock()
		b.lab.before.Clear(m.domain.Serial)
		b.lab.mu.Unlock()
	}
	if err := b.daemon.Heal(ctx); err != nil {
		return err
	}
	if m.gone {
		m.gone = false
		if err := b.back(ctx, m); err != nil {
			return err
		}
	}
	if d := b.fakeDomain(m); d != nil {
		d.Heal()
		return d.Plan()
	}
	if m.domain.Serial == "" {
		return nil
	}
	for _, p := range labkit.Processes(m.domain.Serial) {
		if err := labkit.Kill(p, syscall.SIGCONT); err != nil {
			return err
		}
	}
	return nil
}

// back puts a machine back that was removed.
func (b *bench) back(ctx context.Context, m *machine) error {
	return ask(ctx, b.daemon, func(c *client) error { return m.define(c) })
}

// damage spoils a machine's files.
func damage(files map[string]string, d conformance.Damage) error {
	switch d {
	case conformance.Undamaged, conformance.SnapshotForeign, conformance.SnapshotMissing:
		return nil // the latter has been seen to
	case conformance.DiskMissing:
		return os.Remove(files["disk"])
	case conformance.DiskGarbage:
		return labkit.Scribble(files["disk"], 0)
	case conformance.SnapshotEmpty:
		return os.Truncate(files["snapshot"], 0)
	case conformance.SnapshotTruncated:
		return labkit.Truncate(files["snapshot"], 0.5)
	case conformance.SnapshotGarbage:
		return labkit.Scribble(files["snapshot"], 64)
	}
	return fmt.Errorf("the lab cannot make the damage %q", d)
}
