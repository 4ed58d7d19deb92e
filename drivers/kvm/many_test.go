//go:build linux

package kvm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	"github.com/machineries/machineries/machinery"
)

// handful is how many calls libvirt may get while a driver is opened, however many machines it has. It makes eight: two for each of two connections, three
// questions, and the registration for events.
const handful = 10

// many is a fake libvirtd with so many domains, named m0, m1 …, without disks.
func many(t *testing.T, n int) *fakelibvirt.Server {
	t.Helper()
	server, err := fakelibvirt.New(fakelibvirt.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	for i := range n {
		_, err := server.Define(fmt.Sprintf("<domain type='qemu'><name>m%d</name><memory unit='MiB'>1</memory><os><type arch='x86_64'>hvm</type></os></domain>", i))
		must(t, err)
	}
	return server
}

// opened opens a kvm.yaml with the machines of that server.
func opened(t *testing.T, server *fakelibvirt.Server) *Machinery {
	t.Helper()
	dir := t.TempDir()
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "dsn: %s\ninterface: lo\nmachines:\n", server.URI())
	for i, domain := range server.Domains() {
		fmt.Fprintf(&yaml, "  %[1]s:\n    label: %[1]s\n    snapshot: clean\n    ip: 10.0.%d.%d\n    platform: windows\n    os_version: \"10\"\n    architecture: amd64\n    tags: [office]\n", domain.Name(), i/250, i%250+1)
	}
	path := filepath.Join(dir, "kvm.yaml")
	must(t, os.WriteFile(path, []byte(yaml.String()), 0o600))
	var registry machinery.Registry
	must(t, registry.Register(Driver()))
	m, err := registry.Open(limit(t), path, machinery.Options{RuntimeDir: filepath.Join(dir, "run")})
	must(t, err)
	t.Cleanup(func() { must(t, m.Close()) })
	d := m.(*Machinery)
	hears(t, d)
	return d
}

// hears waits until the driver hears libvirt's events: until then it makes calls by itself.
func hears(t *testing.T, d *Machinery) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !d.hearing.Load(); time.Sleep(time.Millisecond) { // nothing tells of it
		if time.Now().After(deadline) {
			t.Fatal("the driver does not hear libvirt's events")
		}
	}
}

// procedures are the names of the calls that the server has had.
func procedures(server *fakelibvirt.Server) (names []string) {
	for _, c := range server.Calls() {
		names = append(names, c.Procedure)
	}
	return names
}

func TestAThousandMachinesAreOpenedByAHandfulOfCalls(t *testing.T) {
	server := many(t, 1000)
	d := opened(t, server)
	if n := len(d.Machines()); n != 1000 {
		t.Fatalf("there are %d machines", n)
	}
	if calls := procedures(server); len(calls) > handful {
		t.Errorf("libvirt got %d calls; want %d at most: %q", len(calls), handful, calls[:min(len(calls), 30)])
	} else {
		t.Logf("%d calls: %q", len(calls), calls)
	}
	for _, v := range d.frame.All() {
		if v.dom.Load() == nil {
			t.Fatalf("the domain of %s is not known, and would have to be looked for", v.machine.Name)
		}
	}
}

func TestTheStatesOfAThousandMachinesAreOneCall(t *testing.T) {
	server := many(t, 1000)
	for i, domain := range server.Domains() {
		if i%100 == 0 {
			must(t, domain.Start())
		}
	}
	d := opened(t, server)
	server.Domain("m17").Undefine()
	server.ForgetCalls()
	all, err := d.States(limit(t))
	must(t, err)
	if calls := procedures(server); len(calls) != 1 {
		t.Errorf("libvirt got %d calls: %q", len(calls), calls[:min(len(calls), 30)])
	}
	for i, m := range d.Machines() {
		want := machinery.StatePoweroff
		switch {
		case i == 17:
			want = machinery.StateError
		case i%100 == 0:
			want = machinery.StateRunning
		}
		if all[m.Name].State != want {
			t.Fatalf("%s is %s (%s); want %s", m.Name, all[m.Name], all[m.Name].Detail, want)
		}
	}
}

func TestTheAccountOfAThousandMachinesIsOneCall(t *testing.T) {
	server := many(t, 1000)
	for i, domain := range server.Domains() {
		if i%100 == 0 {
			must(t, domain.Start())
		}
	}
	d := opened(t, server)
	server.ForgetCalls()
	runs, err := d.Account(limit(t))
	must(t, err)
	if calls := procedures(server); len(calls) != 1 {
		t.Errorf("libvirt got %d calls: %q", len(calls), calls[:min(len(calls), 30)])
	}
	if len(runs) != 10 {
		t.Errorf("%d machines run; want 10", len(runs))
	}
	for i, run := range runs {
		if want := fmt.Sprintf("m%d", 100*i); run.Machine != want || run.Status.State != machinery.StateRunning || !run.Configured || run.Held || run.Left != "" {
			t.Errorf("%+v; want %s, running and held by nobody", run, want)
		}
	}
}

func TestARestoreAndAStopAreLibvirtsOwnAndAFewQuestions(t *testing.T) {
	server, config := newFake(t, fakelibvirt.Options{})
	d, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer d.Close()
	hears(t, d)
	// Both have a connection for long calls, which is made once.
	must(t, d.RestoreStart(limit(t), "a"))
	must(t, d.Stop(limit(t), "a"))
	for _, c := range []struct {
		what string
		do   func(context.Context, string) error
		want []string
	}{
		{"a restore", d.RestoreStart, []string{"DomainGetState", "DomainSnapshotCurrent", "DomainSnapshotGetXMLDesc", "DomainRevertToSnapshot", "DomainGetState"}},
		{"a stop", d.Stop, []string{"DomainGetState", "DomainDestroyFlags"}},
	} {
		server.ForgetCalls()
		must(t, c.do(limit(t), "a"))
		got := slices.DeleteFunc(procedures(server), func(name string) bool { return name == "ConnectGetAllDomainStats" }) // the patrol's, which may come at any time
		if !slices.Equal(got, c.want) {
			t.Errorf("%s takes the calls %q; want %q", c.what, got, c.want)
		}
	}
}

// libvirtd carries out five requests of one connection at a time, and reads nothing more from it meanwhile; so does the fake.
func TestFiveDumpsOfFiftyMachinesHoldUpNothingElse(t *testing.T) {
	server := many(t, 50)
	for _, domain := range server.Domains() {
		must(t, domain.Start())
	}
	d := opened(t, server)
	const dumps = 5
	dir := t.TempDir()
	dumped := make(chan error, dumps)
	for i := range dumps {
		name := fmt.Sprintf("m%d", i)
		must(t, server.Domain(name).Plan(fakelibvirt.Fault{Point: fakelibvirt.PointMachine, Procedure: "dump", Action: fakelibvirt.Hang, Times: 1}))
		go func() { dumped <- d.DumpMemory(limit(t), name, filepath.Join(dir, name)) }()
	}
	for i := range dumps {
		becomes(t, d, fmt.Sprintf("m%d", i), machinery.StatePaused, reasonDump)
	}

	want := func(i int) machinery.State {
		if i < dumps {
			return machinery.StatePaused
		}
		return machinery.StateRunning
	}
	var each sync.WaitGroup
	for i, m := range d.Machines() {
		each.Go(func() {
			if status, err := d.State(limit(t), m.Name); err != nil || status.State != want(i) {
				t.Errorf("%s is %s, %v; want %s", m.Name, status, err, want(i))
			}
		})
	}
	each.Wait()
	all, err := d.States(limit(t))
	must(t, err)
	for i, m := range d.Machines() {
		if all[m.Name].State != want(i) {
			t.Errorf("%s is %s among all; want %s", m.Name, all[m.Name], want(i))
		}
	}
	must(t, d.Stop(limit(t), "m5"))
	if server.Domain("m5").Running() {
		t.Error("m5 was stopped, and runs")
	}
	select {
	case err := <-dumped:
		t.Fatalf("a dump has ended (%v), so that it shows nothing", err)
	default:
	}

	for i := range dumps {
		server.Domain(fmt.Sprintf("m%d", i)).Heal()
	}
	for range dumps {
		must(t, <-dumped)
	}
	for i := range dumps {
		name := fmt.Sprintf("m%d", i)
		mustState(t, d, name, machinery.StateRunning, "")
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() < 1<<20 {
			t.Errorf("the dump of %s is not whole: %v, %v", name, info, err)
		}
	}
}
