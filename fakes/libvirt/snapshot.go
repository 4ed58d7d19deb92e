package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/internal/qcow2"
)

// snapshot is what libvirt knows of a snapshot. What it holds is in the images,
// as QEMU keeps it.
type snapshot struct {
	name, description string
	state             string // "running", "paused", "shutoff"
	parent            string // name, or empty
	created           time.Time
	external          bool
	disks             []*element // <disk> of its XML
	def               *element   // the domain as it was
	memory            []byte     // of a machine without disks, which only the test driver saves
}

// Snapshots are the names of the domain's snapshots, in the order in which they were made.
func (d *Domain) Snapshots() []string {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	var names []string
	for _, s := range d.snapshots {
		names = append(names, s.name)
	}
	return names
}

// TakeSnapshot takes a snapshot of the domain as it is, as virsh
// snapshot-create-as does: of a machine that is off, runs or is paused.
func (d *Domain) TakeSnapshot(name string) error {
	return d.locked("remoteDispatchDomainSnapshotCreateXML", func(ctx context.Context) error {
		_, err := d.takeSnapshot(ctx, &snapshot{name: name})
		return err
	})
}

// RemoveSnapshot removes what libvirt knows of a snapshot, as someone else would;
// what is in the images stays.
func (d *Domain) RemoveSnapshot(name string) error {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	s, err := d.snapshot(name)
	if err != nil {
		return err
	}
	d.forgetSnapshot(s)
	return nil
}

// Revert reverts the domain to a snapshot as virsh snapshot-revert does.
func (d *Domain) Revert(name string) error {
	return d.locked("remoteDispatchDomainRevertToSnapshot", func(ctx context.Context) error {
		s, err := d.snapshot(name)
		if err != nil {
			return err
		}
		return d.revert(ctx, s, 0)
	})
}

func (d *Domain) snapshot(name string) (*snapshot, error) {
	for _, s := range d.snapshots {
		if s.name == name {
			return s, nil
		}
	}
	return nil, fail(codeNoSnapshot, d.server.opts.Flavour.from(), "no domain snapshot with matching name '%s'", name)
}

func (d *Domain) forgetSnapshot(s *snapshot) {
	d.snapshots = slices.DeleteFunc(d.snapshots, func(o *snapshot) bool { return o == s })
	for _, o := range d.snapshots {
		if o.parent == s.name {
			o.parent = s.parent
		}
	}
	if d.current == s {
		d.current, _ = d.snapshot(s.parent)
	}
}

// checkDisks refuses what QEMU cannot take an internal snapshot of, a domain
// without a disk that can be written among that, and notes how each disk is in it.
func (d *Domain) checkDisks(s *snapshot) error {
	some := false
	for _, disk := range diskElements(d.now()) {
		target := disk.child("target").attr("dev")
		how := ""
		for _, given := range s.disks {
			if given.attr("name") == target {
				how = given.attr("snapshot")
			}
		}
		if how == "" {
			how = disk.attr("snapshot")
		}
		switch {
		case how == "" && disk.child("readonly") != nil:
			how = "no"
		case how == "":
			how = "internal"
		}
		if how == "external" {
			return fail(codeConfig, fromQEMU, "external snapshots are not there in the fake libvirtd")
		}
		if format := diskFormat(disk); how == "internal" && format != "qcow2" && d.server.opts.Flavour == QEMU {
			return fail(codeConfig, fromQEMU, "internal snapshot for disk %s unsupported for storage type %s", target, format)
		}
		s.setDisk(target, how)
		some = some || how == "internal"
	}
	switch {
	case some || d.server.opts.Flavour == Test:
		return nil
	case d.active():
		return fail(codeConfig, fromQEMU, "internal and full system snapshots require all disks to be selected for snapshot")
	}
	return fail(codeConfig, fromQEMU, "nothing selected for snapshot")
}

func (s *snapshot) setDisk(target, how string) {
	for _, given := range s.disks {
		if given.attr("name") == target {
			given.setAttr("snapshot", how)
			return
		}
	}
	e := &element{name: "disk"}
	e.setAttr("name", target)
	e.setAttr("snapshot", how)
	s.disks = append(s.disks, e)
}

// holds tells whether a disk is in the snapshot.
func (s *snapshot) holds(disk *element) bool {
	for _, given := range s.disks {
		if given.attr("name") == disk.child("target").attr("dev") {
			return given.attr("snapshot") == "internal"
		}
	}
	return false
}

// takeSnapshot fills s with the domain as it is, and its images with a snapshot.
func (d *Domain) takeSnapshot(ctx context.Context, s *snapshot) (*snapshot, error) {
	if _, err := d.snapshot(s.name); err == nil {
		return nil, fail(codeFailed, fromDomain, "domain moment %s already exists", s.name)
	}
	s.created, s.def = time.Now(), d.now().clone()
	if s.name == "" {
		s.name = strconv.FormatInt(s.created.Unix(), 10)
	}
	if d.current != nil {
		s.parent = d.current.name
	}
	if err := d.checkDisks(s); err != nil {
		return nil, err
	}
	s.state = map[int32]string{stateRunning: "running", statePaused: "paused"}[d.state]
	if s.state == "" || !d.active() {
		s.state = "shutoff"
	}
	if err := d.saveSnapshot(ctx, s); err != nil {
		return nil, err
	}
	d.snapshots = append(d.snapshots, s)
	d.current = s
	return s, nil
}

// saveSnapshot writes a snapshot into the images; the machine stands still
// meanwhile, which clients of the QEMU driver hear of.
func (d *Domain) saveSnapshot(ctx context.Context, s *snapshot) error {
	if s.state == "shutoff" {
		return d.eachImage(s, d.def, func(im *qcow2.Image, _ bool) error { return im.TakeSnapshot(s.name, nil, s.created) })
	}
	if d.server.opts.Flavour == Test {
		memory, err := d.model.Save()
		s.memory = memory
		return err
	}
	gone := d.gone
	wasRunning := d.state == stateRunning
	if wasRunning {
		if err := d.suspend(ctx, pausedSave); err != nil {
			return err
		}
	}
	err := d.monitor(ctx, gone, "save")
	if err == nil {
		err = d.wait(ctx, gone, d.server.opts.Durations.Save)
	}
	if err == nil {
		err = d.saveInternal(s)
	}
	if err == nil {
		d.server.savedMemory(d, false)
	}
	if wasRunning && d.gone == gone {
		err = errors.Join(err, d.resume(ctx))
	}
	return err
}

// saveInternal has the first disk take the machine's memory, as QEMU does.
func (d *Domain) saveInternal(s *snapshot) error {
	state, err := d.saveMemory()
	if err != nil {
		return err
	}
	some := false
	for i, disk := range diskElements(d.live) {
		if i >= len(d.disks) || !s.holds(disk) {
			continue
		}
		im, ok := d.disks[i].image()
		if !ok {
			continue
		}
		if err := im.TakeSnapshot(s.name, state, s.created); err != nil {
			return fail(codeFailed, fromQEMU, "Failed to take snapshot: Error: %s", err)
		}
		state, some = nil, true
	}
	if !some {
		return fail(codeFailed, fromQEMU, "Failed to take snapshot: Error: No block device can accept snapshots")
	}
	return nil
}

// image is the disk's image, if it is one that takes snapshots.
func (s *diskSlot) image() (*qcow2.Image, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im, ok := s.disk.(*qcow2.Image)
	return im, ok
}

// eachImage opens the images that are in a snapshot, of a domain that is off.
func (d *Domain) eachImage(s *snapshot, def *element, do func(im *qcow2.Image, first bool) error) error {
	if d.server.opts.Flavour == Test {
		return nil // its disks are names
	}
	first := true
	for _, disk := range diskElements(def) {
		if !s.holds(disk) {
			continue
		}
		image, err := openDisk(disk)
		if err != nil {
			return err
		}
		if im, ok := image.(*qcow2.Image); ok {
			err = do(im, first)
			first = false
		}
		if image != nil {
			err = errors.Join(err, image.Close())
		}
		if err != nil {
			return fail(codeInternal, fromQEMU, "Child process (/usr/bin/qemu-img) unexpected exit status 1: %s", err)
		}
	}
	return nil
}

// memoryMagic begins what the fake saves of a machine's memory; how much memory the
// machine has follows, in bytes, then the model's own state.
const memoryMagic = "MMLVMEM\x01"

func (d *Domain) saveMemory() ([]byte, error) {
	state, err := d.model.Save()
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint64([]byte(memoryMagic), uint64(d.memory())<<10)
	return append(b, state...), nil
}

// openMemory looks at saved memory with QEMU's eyes: it has to be of a machine
// with as much of it.
func (d *Domain) openMemory(b []byte, def *element) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(b), memoryMagic)
	if !ok || len(rest) < 8 {
		return nil, exited("Not a migration stream\nqemu-system-x86_64: load of migration failed: Invalid argument")
	}
	saved := binary.LittleEndian.Uint64([]byte(rest[:8]))
	if has := uint64(memoryKiB(def.child("memory"))) << 10; has != saved {
		return nil, exited("Size mismatch: pc.ram: 0x%x != 0x%x: Invalid argument\nqemu-system-x86_64: error while loading state for instance 0x0 of device 'ram'", saved, has)
	}
	return []byte(rest[8:]), nil
}

// xml is the snapshot's XML as libvirt 9.0.0 gives it.
func (s *snapshot) xml() string {
	e := &element{name: "domainsnapshot"}
	add := func(name, text string) *element {
		c := &element{name: name, text: text}
		e.children = append(e.children, c)
		return c
	}
	add("name", s.name)
	if s.description != "" {
		add("description", s.description)
	}
	add("state", s.state)
	if s.parent != "" {
		add("parent", "").children = []*element{{name: "name", text: s.parent}}
	}
	add("creationTime", fmt.Sprint(s.created.Unix()))
	how := "internal"
	if s.state == "shutoff" {
		how = "no"
	}
	add("memory", "").setAttr("snapshot", how)
	if len(s.disks) > 0 {
		add("disks", "").children = s.disks
	}
	if s.def != nil {
		e.children = append(e.children, s.def)
	}
	return e.String()
}

func (d *Domain) snapRef(s *snapshot) golibvirt.DomainSnapshot {
	return golibvirt.DomainSnapshot{Name: s.name, Dom: d.ref()}
}
