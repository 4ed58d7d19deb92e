//go:build linux

package kvm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/machinery"
)

// newFake is a fake libvirtd with a machine "a", whose current snapshot was taken while it ran, and the configuration of a driver for it.
func newFake(t *testing.T, o fakelibvirt.Options) (*fakelibvirt.Server, Config) {
	t.Helper()
	server, err := fakelibvirt.New(o)
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.qcow2")
	must(t, qcow2.Create(disk, qcow2.Options{VirtualSize: 1 << 20}))
	dom, err := server.Define(fmt.Sprintf(`<domain type='qemu'><name>a</name><memory unit='MiB'>16</memory><os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='sda' bus='sata'/></disk></devices></domain>`, disk))
	must(t, err)
	must(t, dom.Start())
	must(t, dom.TakeSnapshot("clean"))
	must(t, dom.Destroy())
	return server, Config{URI: server.URI(), RuntimeDir: filepath.Join(dir, "run"), Machines: []MachineConfig{{Name: "a", Label: "a", IP: "192.0.2.1"}}}
}

// As with libvirt 9.0.0 and QEMU 7.2: the new daemon would resume the machine, and QEMU, which writes on, does not let it.
func TestAMachineGoesOnWhenQEMUIsDoneWithADumpWhoseDaemonWasKilled(t *testing.T) {
	server, config := newFake(t, fakelibvirt.Options{Durations: fakelibvirt.Durations{Dump: 700 * time.Millisecond}})
	d, err := New(limit(t), config, machinery.Options{})
	must(t, err)
	defer d.Shutdown(limit(t))
	must(t, d.RestoreStart(limit(t), "a"))
	dir := t.TempDir()
	dumped := make(chan error, 1)
	go func() { dumped <- d.DumpMemory(limit(t), "a", filepath.Join(dir, "dump")) }()
	becomes(t, d, "a", machinery.StatePaused, "memory dump")
	must(t, server.Restart(0))
	mustKind(t, <-dumped, machinery.ErrConnection)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left of the dump: %v, %v", left, err)
	}
	mustState(t, d, "a", machinery.StatePaused, "memory dump")
	becomes(t, d, "a", machinery.StateRunning, "")
}

// becomes waits until a machine is in a state.
func becomes(t *testing.T, d *Machinery, name string, want machinery.State, reason string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		status, err := d.State(limit(t), name)
		if err == nil && status.State == want && status.Reason == reason {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(errors.Join(fmt.Errorf("%s is %s; want %s (%s)", name, status, want, reason), err))
		}
		time.Sleep(5 * time.Millisecond) // what it waits for is the driver's answer
	}
}
