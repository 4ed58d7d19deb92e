//go:build linux

package libvirtlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/conformance/internal/labkit"
	"github.com/machineries/machineries/internal/qcow2"
)

// recipe is a kind of machine that a snapshot is made of.
type recipe struct {
	// kind is how the snapshot is kept: in the disk, or as a memory image.
	kind conformance.SnapshotKind
	// paused: it is saved while it is paused.
	paused bool
	// variant tells machines of one bench apart, by their marks.
	variant int
	// foreign: it has other hardware, more memory.
	foreign, headless, network, second bool
}

// saved is a machine's files with a snapshot.
type saved struct {
	recipe recipe
	marks  labkit.Marks
	disk   string
	second string // the second disk; empty without
	image  string // the memory image; empty where the snapshot is in the disk
	domain domain // what it was made of
}

// saved returns the snapshot of a template, making it if need be.
func (l *Lab) saved(ctx context.Context, t recipe) (*saved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.saves[t]; s != nil {
		return s, nil
	}
	d, err := l.started(ctx)
	if err != nil {
		return nil, err
	}
	home, err := l.tempDir()
	if err != nil {
		return nil, err
	}
	l.serial++
	dir := filepath.Join(home, fmt.Sprintf("t%d", l.serial))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := l.save(ctx, d, dir, t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a snapshot: %w", err), os.RemoveAll(dir))
	}
	l.saves[t] = s
	return s, nil
}

// domainOf is the domain of a template, without what is its own.
func (l *Lab) domainOf(t recipe) domain {
	d := domain{Type: l.domainType(), UUID: newUUID(), Memory: memory, Emulator: l.emulator, Headless: t.headless}
	if t.foreign {
		d.Memory = memoryForeign
	}
	return d
}

// domainType is libvirt's word for what runs a domain.
func (l *Lab) domainType() string {
	switch {
	case l.driver == driverTest:
		return "test"
	case l.accel == "kvm":
		return "kvm"
	}
	return "qemu"
}

// save boots a machine, marks its memory and disk, and saves it.
func (l *Lab) save(ctx context.Context, dm daemon, dir string, t recipe) (_ *saved, err error) {
	s := &saved{recipe: t, marks: labkit.NewMarks(t.variant, t.second), disk: filepath.Join(dir, "disk.qcow2")}
	if t.second {
		s.second = filepath.Join(dir, "second.qcow2")
	}
	if err := s.makeDisks(); err != nil {
		return nil, err
	}
	listener, err := guest.Listen(filepath.Join(dir, "g"))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	d := l.domainOf(t)
	d.Name, d.Disk, d.Second, d.Serial = filepath.Base(dir), s.disk, s.second, filepath.Join(dir, "g")
	if t.network {
		port, err := listenNowhere()
		if err != nil {
			return nil, err
		}
		defer port.Close()
		d.Network, d.MAC = portOf(port), macOf(t.variant)
	}
	s.domain = d
	return s, ask(ctx, dm, func(c *client) error { return s.make(ctx, c, d, listener) })
}

// makeDisks makes the machine's disks, with the guest on the first.
func (s *saved) makeDisks() error {
	err := labkit.MakeDisk(s.disk)
	if err == nil && s.second != "" {
		err = qcow2.Create(s.second, qcow2.Options{VirtualSize: labkit.DiskSize})
	}
	return err
}

// make runs the domain, and makes the snapshot of it.
func (s *saved) make(ctx context.Context, c *client, d domain, listener *guest.Listener) (err error) {
	dom, err := c.DomainDefineXML(d.xml())
	if err != nil {
		return err
	}
	defer func() {
		_ = c.DomainDestroy(dom) // it may be off
		err = errors.Join(err, c.DomainUndefineFlags(dom, libvirt.DomainUndefineSnapshotsMetadata))
	}()
	if err := c.DomainCreate(dom); err != nil {
		return err
	}
	g, err := listener.Client(ctx)
	if err != nil {
		return err
	}
	if err := s.marks.Write(ctx, g); err != nil {
		return err
	}
	if s.recipe.paused {
		if err := c.DomainSuspend(dom); err != nil {
			return err
		}
	}
	if s.recipe.kind == conformance.SnapshotMemory {
		s.image = filepath.Join(filepath.Dir(s.disk), "memory.save")
		flags := libvirt.DomainSaveRunning
		if s.recipe.paused {
			flags = libvirt.DomainSavePaused
		}
		return c.DomainSaveFlags(dom, s.image, nil, uint32(flags))
	}
	_, err = c.DomainSnapshotCreateXML(dom, "<domainsnapshot><name>"+snapshotName+"</name></domainsnapshot>", 0)
	return err
}

// Kinds implements conformance.Kinder.
func (l *Lab) Kinds() []conformance.SnapshotKind {
	return []conformance.SnapshotKind{conformance.SnapshotPlain, conformance.SnapshotMemory}
}
