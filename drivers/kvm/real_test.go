//go:build linux

package kvm

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

var (
	labsMu sync.Mutex
	labs   = map[string]*libvirtlab.Lab{}
)

// site is a bench of a lab on a libvirtd, and the configuration of its machines.
type site struct {
	t      testing.TB
	lab    *libvirtlab.Lab
	bench  conformance.Bench
	dir    string
	config Config
}

// newSite makes machines below a real libvirtd with that driver, "qemu" or "test", or below the "fake" one.
func newSite(t testing.TB, driver string, specs ...conformance.MachineSpec) *site {
	t.Helper()
	o := libvirtlab.Options{}
	if driver != "fake" {
		require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
		o = libvirtlab.Options{Daemon: "libvirtd", Driver: driver}
	}
	if driver == "qemu" {
		require.Tool(t, "qemu", "qemu-system-x86_64")
	}
	labsMu.Lock()
	defer labsMu.Unlock()
	lab := labs[driver]
	if lab == nil {
		var err error
		if lab, err = libvirtlab.New(limit(t), o); err != nil {
			t.Fatal(err)
		}
		labs[driver] = lab
	}
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, lab: lab, dir: dir}
	if s.bench, err = lab.NewBench(limit(t), dir, specs); err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if left, err := s.bench.Leftovers(ctx); err != nil || len(left) > 0 {
			t.Errorf("this is left: %s (%v)", strings.Join(left, "\n"), err)
		}
		if err := s.bench.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	doc, err := config.Options{}.Load(s.bench.ConfigPath(), Schema())
	if err != nil {
		t.Fatal(err)
	}
	s.config = FromDocument(doc)
	return s
}

// open opens a driver for the site's machines. It is closed, with its machines stopped, at the end of the test.
func (s *site) open() *Machinery {
	s.t.Helper()
	d, err := New(limit(s.t), s.config, machinery.Options{RuntimeDir: s.bench.RuntimeDir()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if d.frame.IsClosed() {
			return
		}
		if err := d.Shutdown(ctx); err != nil {
			s.t.Error(err)
		}
	})
	return d
}

// virsh calls libvirt for the machine as somebody else would.
func (s *site) virsh(d *Machinery, name string, f func(*libvirt.Libvirt, libvirt.Domain) error) {
	s.t.Helper()
	if err := d.frame.Named(name).do(limit(s.t), "as somebody else", f); err != nil {
		s.t.Fatal(err)
	}
}

func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustKind(t testing.TB, err, kind error, words ...string) {
	t.Helper()
	if machinery.KindOf(err) != kind {
		t.Fatalf("the error is %v; want one of kind %q", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

func mustState(t testing.TB, m machinery.Machinery, name string, want machinery.State, reason string) machinery.Status {
	t.Helper()
	got, err := m.State(limit(t), name)
	if err != nil || got.State != want || got.Reason != reason {
		t.Fatalf("%s is %s (%s), %v; want %s (%s)", name, got, got.Detail, err, want, reason)
	}
	return got
}

func TestASnapshotOfAMachineThatWasOffIsRefusedBeforeItBoots(t *testing.T) {
	s := newSite(t, "qemu", conformance.MachineSpec{Name: "a"})
	d := s.open()
	s.virsh(d, "a", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
		_, err := l.DomainSnapshotCreateXML(dom, "<domainsnapshot><name>off</name></domainsnapshot>", 0)
		return err
	})
	s.config.Machines[0].Snapshot = "off"
	other := s.open()
	mustState(t, other, "a", machinery.StateError, reasonConfig)
	mustKind(t, other.RestoreStart(limit(t), "a"), machinery.ErrConfig, "would boot", `"off"`)
	mustState(t, d, "a", machinery.StatePoweroff, "")
	s.virsh(d, "a", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
		snap, err := l.DomainSnapshotLookupByName(dom, "off", 0)
		if err == nil {
			err = l.DomainSnapshotDelete(snap, 0)
		}
		return err
	})
}

func TestADomainThatIsMadeAnewIsFoundAgain(t *testing.T) {
	s := newSite(t, "test", conformance.MachineSpec{Name: "a"})
	d := s.open()
	mustState(t, d, "a", machinery.StatePoweroff, "destroyed")
	var xml, snapshot string
	s.virsh(d, "a", func(l *libvirt.Libvirt, dom libvirt.Domain) (err error) {
		if xml, err = l.DomainGetXMLDesc(dom, 0); err != nil {
			return err
		}
		snap, err := l.DomainSnapshotCurrent(dom, 0)
		if err != nil {
			return err
		}
		if snapshot, err = l.DomainSnapshotGetXMLDesc(snap, 0); err != nil {
			return err
		}
		return l.DomainUndefineFlags(dom, libvirt.DomainUndefineSnapshotsMetadata)
	})
	mustState(t, d, "a", machinery.StateError, reasonNoDomain)
	mustKind(t, d.RestoreStart(limit(t), "a"), machinery.ErrConfig, "no domain")
	uuid := d.frame.All()[0].conf.Label
	must(t, d.client.Do(limit(t), "defining it again", func(l *libvirt.Libvirt) error {
		from, to := xml[strings.Index(xml, "<uuid>"):strings.Index(xml, "</uuid>")], "<uuid>0f0f0f0f-1111-2222-3333-444444444444"
		dom, err := l.DomainDefineXML(strings.Replace(xml, from, to, 1))
		if err == nil {
			_, err = l.DomainSnapshotCreateXML(dom, strings.Replace(snapshot, from, to, 1), uint32(libvirt.DomainSnapshotCreateRedefine|libvirt.DomainSnapshotCreateCurrent))
		}
		return err
	}))
	if got := mustState(t, d, "a", machinery.StatePoweroff, ""); got.State != machinery.StatePoweroff {
		t.Errorf("%s (%s)", got, uuid)
	}
	must(t, d.RestoreStart(limit(t), "a"))
	mustState(t, d, "a", machinery.StateRunning, "")
	must(t, d.Stop(limit(t), "a"))
}

func TestTheStatesOfAllMachinesComeAtOnce(t *testing.T) {
	s := newSite(t, "qemu", conformance.MachineSpec{Name: "on"}, conformance.MachineSpec{Name: "paused", SavedPaused: true}, conformance.MachineSpec{Name: "off"})
	s.config.Machines = append(s.config.Machines, MachineConfig{Name: "missing", Label: "nosuch"})
	d := s.open()
	must(t, d.RestoreStart(limit(t), "on"))
	must(t, d.RestoreStart(limit(t), "paused"))
	all, err := d.States(limit(t))
	must(t, err)
	for name, want := range map[string]machinery.State{"on": machinery.StateRunning, "paused": machinery.StatePaused, "off": machinery.StatePoweroff, "missing": machinery.StateError} {
		if all[name].State != want {
			t.Errorf("%s is %s; want %s", name, all[name], want)
		}
		if one, err := d.State(limit(t), name); err != nil || one.State != want {
			t.Errorf("%s alone is %s, %v; want %s", name, one, err, want)
		}
	}
}

func TestTheDaemonsSilenceAndDeathAreToldAndOverWithIt(t *testing.T) {
	s := newSite(t, "qemu", conformance.MachineSpec{Name: "a"})
	d := s.open()
	must(t, d.RestoreStart(limit(t), "a"))
	must(t, s.bench.Inject(limit(t), "a", conformance.Fault{Kind: conformance.FaultSilent}))
	began := time.Now()
	if status, err := d.State(limit(t), "a"); err == nil {
		t.Errorf("a silent libvirt says %s", status)
	} else {
		mustKind(t, err, machinery.ErrConnection)
	}
	if took := time.Since(began); took > 2*stateTime {
		t.Errorf("State took %v", took)
	}
	must(t, s.bench.Heal(limit(t), "a"))
	mustState(t, d, "a", machinery.StateRunning, "")
	must(t, d.Stop(limit(t), "a"))
}

func TestWhatADriverLeftIsListedAndSweptOnRequest(t *testing.T) {
	s := newSite(t, "qemu", conformance.MachineSpec{Name: "a", Kind: conformance.SnapshotMemory})
	d := s.open()
	must(t, d.RestoreStart(limit(t), "a"))
	runs, err := d.Account(limit(t))
	must(t, err)
	if len(runs) != 1 || !runs[0].Held || runs[0].Owner != os.Getpid() || !runs[0].Configured || len(runs[0].Files) != 2 {
		t.Fatalf("%+v", runs)
	}
	mustKind(t, d.Sweep(limit(t), runs[0].ID, true), machinery.ErrBusy)
	must(t, d.Close())
	machines := s.config.Machines
	s.config.Machines = nil
	bare := s.open() // the machine is in nobody's configuration any more
	runs, err = bare.Account(limit(t))
	must(t, err)
	if len(runs) != 1 || runs[0].Held || runs[0].Configured || runs[0].Machine != "a" || runs[0].Status.State != machinery.StateRunning {
		t.Fatalf("%+v", runs)
	}
	mustKind(t, bare.Sweep(limit(t), runs[0].ID, false), machinery.ErrUnexpectedState)
	must(t, bare.Sweep(limit(t), runs[0].ID, true))
	mustKind(t, bare.Sweep(limit(t), runs[0].ID, true), machinery.ErrNotFound)
	s.config.Machines = machines
	mustState(t, s.open(), "a", machinery.StatePoweroff, "destroyed")
}
