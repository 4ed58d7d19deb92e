//go:build linux

package libvirtlab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/conformance/internal/labkit"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
)

// bench is one set of machines in a directory:
//
//	kvm.yaml   the configuration
//	run/       the driver's runtime directory
//	N.g        the socket that guest N answers on
//	N/         the files of machine N
type bench struct {
	lab      *Lab
	daemon   daemon
	dir      string
	machines map[string]*machine
	order    []*machine
	restarts int            // of the daemon
	holds    sync.WaitGroup // of machines of the fake
}

// machine is one machine of a bench.
type machine struct {
	spec     conformance.MachineSpec
	dir      string
	domain   domain
	listener *guest.Listener // nil where machines have no guests
	network  *network        // nil for a machine without
	saved    *saved          // nil where machines have no guests
	files    map[string]string
	planned  bool // a fault is planned for it with the interposer
	gone     bool // it was removed from libvirt
}

var _ conformance.Bench = (*bench)(nil)

// NewBench implements conformance.Lab.
func (l *Lab) NewBench(ctx context.Context, dir string, specs []conformance.MachineSpec) (_ conformance.Bench, err error) {
	l.mu.Lock()
	d, err := l.started(ctx)
	l.serial++
	prefix := fmt.Sprintf("mm%d-", l.serial)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	b := &bench{lab: l, daemon: d, dir: dir, machines: make(map[string]*machine)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Close(ctx))
		}
	}()
	for i, spec := range specs {
		m, err := b.machine(ctx, i, prefix, spec)
		if m != nil {
			b.machines[spec.Name] = m
			b.order = append(b.order, m)
		}
		if err != nil {
			return nil, fmt.Errorf("machine %s: %w", spec, err)
		}
	}
	return b, os.WriteFile(b.ConfigPath(), []byte(b.config()), 0o600)
}

// config is the configuration in the form of Cuckoo3's kvm.yaml.
func (b *bench) config() string {
	var config strings.Builder
	fmt.Fprintf(&config, "dsn: %s\ninterface: lo\ncapture: filter-dump\nmachines:\n", quote(b.dsn()))
	for i, m := range b.order {
		fmt.Fprintf(&config, "  %s:\n    label: %s\n    ip: 192.0.2.%d\n    mac_address: %s\n    platform: windows\n    os_version: \"10\"\n    architecture: amd64\n    tags: [suite, machine%d]\n",
			quote(m.spec.Name), quote(m.domain.Name), i+1, macOf(i), i)
		switch {
		case m.files["memory image"] != "":
			fmt.Fprintf(&config, "    memory_path: %s\n", quote(m.files["memory image"]))
		case i%2 == 0:
			// The others are restored to their current snapshot, which is the same.
			fmt.Fprintf(&config, "    snapshot: %s\n", snapshotName)
		}
	}
	return config.String()
}

// dsn is the URI that a driver connects to.
func (b *bench) dsn() string {
	driver, path, _ := strings.Cut(b.daemon.URI(), ":")
	return driver + "+unix:" + path + "?socket=" + b.daemon.Socket()
}

// macOf is the address of a machine's network card.
func macOf(number int) string { return fmt.Sprintf("52:54:00:00:00:%02x", number+1) }

// quote makes a YAML string: JSON's strings are some.
func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// ConfigPath implements conformance.Bench.
func (b *bench) ConfigPath() string { return filepath.Join(b.dir, "kvm.yaml") }

// RuntimeDir implements conformance.Bench.
func (b *bench) RuntimeDir() string { return filepath.Join(b.dir, "run") }

// machine makes one machine, with its snapshot, and plans its faults. What it
// returns has to be closed also if there is an error.
func (b *bench) machine(ctx context.Context, number int, prefix string, spec conformance.MachineSpec) (m *machine, err error) {
	m = &machine{spec: spec, dir: filepath.Join(b.dir, fmt.Sprint(number)), files: make(map[string]string)}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	t := recipe{kind: spec.Kind, paused: spec.SavedPaused, variant: number, headless: spec.Headless, network: spec.Network, second: spec.SecondDisk}
	_, disk := spec.Announced(conformance.FaultChangeDisk)
	_, second := spec.Announced(conformance.FaultChangeSecondDisk)
	if spec.Damage.OfSnapshotFile() || disk || second {
		// A snapshot in a disk is no file that could be empty or end half-way, and
		// reverts whatever was written to the disk.
		t.kind = conformance.SnapshotMemory
	}
	m.domain = b.lab.domainOf(t)
	m.domain.Name, m.domain.Disk = prefix+spec.Name, filepath.Join(m.dir, "disk.qcow2")
	m.files["disk"], m.files["snapshot"] = m.domain.Disk, snapshotName
	if spec.SecondDisk {
		m.domain.Second = filepath.Join(m.dir, "second.qcow2")
		m.files["second disk"] = m.domain.Second
	}
	if b.lab.driver == driverTest {
		return m, b.makeTest(ctx, m)
	}
	m.domain.Serial = filepath.Join(b.dir, fmt.Sprintf("%d.g", number))
	if m.listener, err = guest.Listen(m.domain.Serial); err != nil {
		return m, err
	}
	if spec.Network {
		if m.network, err = listenNetwork(number, func(ctx context.Context) error { return b.untilRuns(ctx, m) }); err != nil {
			return m, err
		}
		m.domain.Network, m.domain.MAC = m.network.port(), macOf(number)
	}
	if m.saved, err = b.lab.saved(ctx, t); err != nil {
		return m, err
	}
	if err := b.plan(m); err != nil {
		return m, err
	}
	return m, b.fill(ctx, m, t)
}

// fakeDomain is the fake's own view of a machine, or nil.
func (b *bench) fakeDomain(m *machine) *fakelibvirt.Domain {
	if d, ok := b.daemon.(*fakeDaemon); ok {
		return d.Domain(m.domain.Name)
	}
	return nil
}

// plan plans the faults that strike at the machine's starts, where an interposer
// makes them.
func (b *bench) plan(m *machine) error {
	faults := labkit.Planned(planned(m.spec.Faults))
	if len(faults) == 0 || b.lab.fake() {
		return nil
	}
	b.lab.mu.Lock()
	defer b.lab.mu.Unlock()
	in, err := b.lab.interposer()
	if err != nil {
		return err
	}
	m.domain.Emulator, m.planned = in.Emulator, true
	return in.Plan(m.domain.Serial, faults...)
}

// fill puts the machine's disk and snapshot in place, and defines it.
func (b *bench) fill(ctx context.Context, m *machine, t recipe) error {
	from := m.saved
	if m.spec.Damage == conformance.SnapshotForeign {
		t.foreign = true
		other, err := b.lab.saved(ctx, t)
		if err != nil {
			return err
		}
		from = other
	}
	if err := labkit.CopyFile(m.domain.Disk, from.disk); err != nil {
		return err
	}
	if m.domain.Second != "" {
		if err := labkit.CopyFile(m.domain.Second, from.second); err != nil {
			return err
		}
	}
	if from.image != "" {
		m.files["memory image"] = filepath.Join(m.dir, "memory.save")
		m.files["snapshot"] = m.files["memory image"]
		if err := moveImage(m.files["memory image"], from.image, from.renamed(m.domain)); err != nil {
			return err
		}
	}
	if err := ask(ctx, b.daemon, func(c *client) error { return m.define(c) }); err != nil {
		return err
	}
	if d := b.fakeDomain(m); d != nil {
		if err := planFake(d, m.spec); err != nil {
			return err
		}
	}
	return damage(m.files, m.spec.Damage)
}

// renamed changes the XML of the domain that a snapshot was made of to that of
// another.
func (s *saved) renamed(d domain) *strings.Replacer {
	pairs := []string{"<name>" + s.domain.Name + "</name>", "<name>" + escape(d.Name) + "</name>", s.domain.UUID, d.UUID,
		s.domain.Disk, d.Disk, s.domain.Serial, d.Serial, "<emulator>" + s.domain.Emulator, "<emulator>" + d.Emulator}
	if d.Second != "" {
		pairs = append(pairs, s.domain.Second, d.Second)
	}
	if d.Network != 0 {
		pairs = append(pairs, fmt.Sprintf("port='%d'", s.domain.Network), fmt.Sprintf("port='%d'", d.Network), s.domain.MAC, d.MAC)
	}
	return strings.NewReplacer(pairs...)
}

// define makes the machine's domain, with the snapshot that its disk holds.
func (m *machine) define(c *client) error {
	dom, err := c.DomainDefineXML(m.domain.xml())
	if err != nil {
		return err
	}
	if m.files["memory image"] != "" || m.spec.Damage == conformance.SnapshotMissing {
		return nil
	}
	text, err := c.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	if err != nil {
		return err
	}
	state := "running"
	if m.spec.SavedPaused {
		state = "paused"
	}
	_, err = c.DomainSnapshotCreateXML(dom, snapshotXML(text, state, m.domain.Second != ""), uint32(libvirt.DomainSnapshotCreateRedefine|libvirt.DomainSnapshotCreateCurrent))
	return err
}

// Saved implements conformance.Bench.
func (b *bench) Saved(name string) conformance.Saved {
	m := b.machines[name]
	files := map[string]string{"program": b.daemon.Socket()}
	for what, path := range m.files {
		files[what] = path
	}
	if m.spec.Damage == conformance.SnapshotForeign {
		// QEMU's words for a snapshot with another size of memory, seen on
		// 7.2.22: "Size mismatch: pc.ram: 0x2000000 != 0x1000000".
		files["hypervisor says"] = "Size mismatch"
	}
	if m.saved == nil {
		return conformance.Saved{Files: files}
	}
	return m.saved.marks.Saved(files)
}

// Guest implements conformance.Bench.
func (b *bench) Guest(ctx context.Context, name string) (conformance.Guest, error) {
	m := b.machines[name]
	if m.listener == nil {
		return nil, errors.New("the machines of libvirt's test driver have no guests")
	}
	client, err := m.listener.Client(ctx)
	if err != nil {
		return nil, err
	}
	return labkit.View{Client: client}, nil
}

// Close implements conformance.Bench.
func (b *bench) Close(ctx context.Context) error {
	b.holds.Wait()
	err := b.daemon.Heal(ctx)
	// What the driver has started, and QEMU, whether or not libvirt would end it.
	err = errors.Join(err, labkit.EndAll(ctx, b.dir))
	err = errors.Join(err, ask(ctx, b.daemon, func(c *client) error {
		for _, m := range b.order {
			if err := m.undefine(ctx, c); err != nil {
				return fmt.Errorf("clearing %q up: %w", m.spec.Name, err)
			}
		}
		return nil
	}))
	for _, m := range b.order {
		err = errors.Join(err, m.close())
		if m.planned {
			b.lab.mu.Lock()
			b.lab.before.Clear(m.domain.Serial)
			b.lab.mu.Unlock()
		}
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}

// close lets go of what the machine is connected to.
func (m *machine) close() (err error) {
	if m.listener != nil {
		err = m.listener.Close()
	}
	if m.network != nil {
		err = errors.Join(err, m.network.close())
	}
	return err
}

// undefine removes the machine's domain, in whatever state it is. libvirt may
// still be at clearing up after a QEMU that has just been killed.
func (m *machine) undefine(ctx context.Context, c *client) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		dom, err := c.DomainLookupByName(m.domain.Name)
		if isCode(err, libvirt.ErrNoDomain) {
			return nil
		}
		if err == nil {
			_ = c.DomainDestroy(dom) // it may be off
			err = c.DomainUndefineFlags(dom, libvirt.DomainUndefineSnapshotsMetadata|libvirt.DomainUndefineManagedSave)
		}
		if err == nil {
			continue
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return err
		}
	}
}

// isCode reports whether an error is libvirt's of that number.
func isCode(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}
