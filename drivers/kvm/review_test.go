//go:build linux

package kvm

import (
	"context"
	"os"
	"path/filepath"
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
