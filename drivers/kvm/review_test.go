//go:build linux

package kvm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/rundir"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	"github.com/machineries/machineries/machinery"
)

func TestAMemoryImageThatIsAPipeIsRefusedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, err := readImage(path); err == nil || !strings.Contains(err.Error(), "a named pipe") {
		t.Errorf("the error is %v", err)
	}
}

func TestSweepingARunOfADomainThatIsGoneLeavesItsSuccessorAlone(t *testing.T) {
	server, config := newFake(t, fakelibvirt.Options{})
	d, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer d.Close()
	must(t, server.Domain("a").Start())
	// What a driver left that was killed, of a domain that was undefined and defined again since.
	dir := d.dirOf(libvirt.UUID{0xab})
	overlay := filepath.Join(t.TempDir(), "overlay")
	must(t, os.WriteFile(overlay, nil, 0o600))
	held, err := rundir.Acquire(dir)
	must(t, err)
	left := &hold{Hold: held, ledger: ledger{Machine: "a", Label: "a", Overlays: []string{overlay}}}
	must(t, left.write())
	held.Unlock()
	must(t, d.Sweep(limit(t), filepath.Base(dir), true))
	if !server.Domain("a").Running() {
		t.Error("the domain that has the name now was ended")
	}
	for _, path := range []string{overlay, dir} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	mustKind(t, d.Sweep(limit(t), filepath.Base(dir), true), machinery.ErrNotFound)
}

func TestWhatCloseEndsSaysThatTheDriverIsClosed(t *testing.T) {
	server, config := newFake(t, fakelibvirt.Options{})
	d, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer server.Silence()()
	asked := map[string]func(context.Context) error{
		"State":             func(ctx context.Context) error { _, err := d.State(ctx, "a"); return err },
		"States":            func(ctx context.Context) error { _, err := d.States(ctx); return err },
		"Account":           func(ctx context.Context) error { _, err := d.Account(ctx); return err },
		"Version":           func(ctx context.Context) error { _, err := d.Version(ctx); return err },
		"CheckDependencies": d.CheckDependencies,
	}
	var all sync.WaitGroup
	for what, ask := range asked {
		all.Go(func() {
			if err := ask(limit(t)); machinery.KindOf(err) != machinery.ErrClosed {
				t.Errorf("%s: %v; want one of kind %v", what, err, machinery.ErrClosed)
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // libvirt, which is silent, tells nothing of the questions; one that comes later is refused by the same kind
	must(t, d.Close())
	all.Wait()
}

func TestMachinesThatDoNotAnswerLeaveLibvirtWorkersForOthers(t *testing.T) {
	const machines, workers = 24, 20 // libvirtd's max_workers
	server := many(t, machines)
	for _, domain := range server.Domains() {
		must(t, domain.Start())
	}
	d := opened(t, server)
	for _, domain := range server.Domains() {
		domain.Wedge()
	}
	server.ForgetCalls()
	var all sync.WaitGroup
	for _, m := range d.Machines() {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(limit(t), time.Second)
			defer cancel()
			if status, err := d.State(ctx, m.Name); err == nil && status.State == machinery.StateRunning {
				t.Errorf("%s is said to run, and does not answer", m.Name)
			}
		})
	}
	all.Wait()
	asked := 0
	for _, name := range procedures(server) {
		if name == "DomainGetDiskErrors" {
			asked++
		}
	}
	if asked == 0 || asked > workers-4 {
		t.Errorf("%d machines are asked at once whether they answer, of libvirtd's %d workers", asked, workers)
	}
}

func TestACaptureThatIsTakenOverHasItsBound(t *testing.T) {
	server := many(t, 0)
	_, err := server.Define(`<domain type='qemu'><name>a</name><memory unit='MiB'>1</memory><os><type arch='x86_64'>hvm</type></os><devices><interface type='user'/></devices></domain>`)
	must(t, err)
	config := Config{URI: server.URI(), RuntimeDir: filepath.Join(t.TempDir(), "run"), Capture: CaptureFilterDump, Machines: []MachineConfig{{Name: "a", Label: "a", IP: "192.0.2.1"}}}
	const bound = 1000
	dir := t.TempDir()
	first, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer first.Close()
	must(t, first.NoRestoreStart(limit(t), "a"))
	must(t, first.StartCapture(limit(t), "a", machinery.Capture{Path: filepath.Join(dir, "traffic.pcap"), MaxBytes: bound}))
	must(t, first.Close())

	second, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer second.Close()
	must(t, second.DumpMemory(limit(t), "a", filepath.Join(dir, "memory"))) // takes it over
	raw, err := filepath.Glob(filepath.Join(dir, ".*.part"))
	must(t, err)
	if len(raw) != 1 {
		t.Fatalf("it is recorded to %q", raw)
	}
	server.ForgetCalls()
	must(t, os.Truncate(raw[0], 2*bound)) // as much was recorded
	for ctx := limit(t); !slices.Contains(procedures(server), "QEMUDomainMonitorCommand"); {
		select {
		case <-ctx.Done():
			t.Fatalf("QEMU records on beyond the bound; libvirt was called for %q", procedures(server))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestAPathWithAPercentSignIsToldAsItIs(t *testing.T) {
	_, config := newFake(t, fakelibvirt.Options{})
	config.Capture = CaptureTcpdump
	config.Machines[0].Interface = "lo"
	d, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer d.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "50%disk.pcap")
	must(t, d.StartCapture(limit(t), "a", machinery.Capture{Path: path}))
	err = d.StartCapture(limit(t), "a", machinery.Capture{Path: filepath.Join(dir, "other.pcap")})
	mustKind(t, err, machinery.ErrUnexpectedState)
	if want := path + " (the machine is poweroff"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q; want it to have %q", err, want)
	}
}
