//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
)

// firstExternal is the version of libvirt that learned to revert to external snapshots: 9.9.0.
const firstExternal = 9_009_000

// saved is a snapshot that the machine can be restored from.
type saved struct {
	snap libvirt.DomainSnapshot
	// paused is whether it was saved while the machine stood still.
	paused bool
}

// words names it for an error.
func (s saved) words() string { return fmt.Sprintf("the snapshot %q", s.snap.Name) }

// unusable is why a machine cannot be restored: something about its snapshot that somebody has to change.
type unusable struct{ err error }

func (e *unusable) Error() string { return e.err.Error() }
func (e *unusable) Unwrap() error { return e.err }

// findSnapshot finds the snapshot that the configuration names, or the domain's current one if it names none, and looks at
// whether a restore from it restores all. The error is *unusable if it does not.
func (v *vm) findSnapshot(ctx context.Context) (saved, error) {
	type described struct {
		snap libvirt.DomainSnapshot
		xml  string
	}
	found, err := get(ctx, v, "looking for the snapshot", func(l *libvirt.Libvirt, dom libvirt.Domain) (found described, err error) {
		if v.conf.Snapshot != "" {
			found.snap, err = l.DomainSnapshotLookupByName(dom, v.conf.Snapshot, 0)
		} else {
			found.snap, err = l.DomainSnapshotCurrent(dom, 0)
		}
		if err == nil {
			found.xml, err = l.DomainSnapshotGetXMLDesc(found.snap, 0)
		}
		return found, err
	})
	s := saved{snap: found.snap}
	switch {
	case rpc.IsCode(err, libvirt.ErrNoDomainSnapshot) && v.conf.Snapshot != "":
		return s, &unusable{fmt.Errorf("the domain %q has no snapshot %q (snapshots that qemu-img made libvirt does not see; make one with virsh snapshot-create-as): %w", v.conf.Label, v.conf.Snapshot, err)}
	case rpc.IsCode(err, libvirt.ErrNoDomainSnapshot):
		return s, &unusable{fmt.Errorf("the domain %q has no current snapshot, and the configuration names none; make one with virsh snapshot-create-as while the machine runs: %w", v.conf.Label, err)}
	case err != nil:
		return s, err
	}
	var parsed snapshotXML
	if err := parseXML(found.xml, &parsed); err != nil {
		return s, err
	}
	if err := parsed.check(v.d.hypervisor, v.d.libVersion); err != nil {
		return s, &unusable{fmt.Errorf("%s of domain %q cannot be restored: %w", s.words(), v.conf.Label, err)}
	}
	s.paused = parsed.State == "paused"
	return s, nil
}

// check says why reverting to the snapshot would not bring back all that the machine was; nil if it does.
func (s *snapshotXML) check(hypervisor string, libVersion uint64) error {
	switch s.State {
	case "running", "paused":
	case "shutoff":
		return errors.New("it was taken while the machine was off, so that it has no memory, and the machine would boot from it; take one while the machine runs")
	case "disk-snapshot":
		return errors.New("it has the disks alone and no memory, so that the machine would boot from it; take one with memory while the machine runs")
	default:
		return fmt.Errorf("it was taken of a machine in state %q, from which it cannot go on; take one while the machine runs", s.State)
	}
	if hypervisor != hypervisorQEMU {
		return nil
	}
	var loose []error
	external := s.Memory.Snapshot == "external"
	how := map[string]string{}
	for _, d := range s.Disks {
		how[d.Name] = d.Snapshot
	}
	for _, d := range s.Domain.Devices.Disks {
		switch is := how[d.Target.Dev]; {
		case is == "external":
			external = true
		case d.writable() && d.Transient == nil && is != "internal":
			loose = append(loose, fmt.Errorf("the disk %s (%s) is not in it, so that what a guest writes there would go from one run to the next; take it into the snapshot, make the disk read-only or <transient/>, or use memory_path", d.Target.Dev, d.where()))
		}
	}
	if external && libVersion != 0 && libVersion < firstExternal {
		return fmt.Errorf("it is an external snapshot, which libvirt reverts to from 9.9.0 on, and this is %s; take an internal one (all disks in qcow2, without --diskspec and --memspec), or use memory_path", versionText(libVersion))
	}
	return fault.Join(loose)
}

// versionText is a version as libvirt counts it: a million for each major, a thousand for each minor.
func versionText(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}
