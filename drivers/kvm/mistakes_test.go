//go:build linux

package kvm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/machinery"
)

func TestAMachineWithoutALabelIsToldSoAndNotThatItsDomainIsMissing(t *testing.T) {
	server := many(t, 1)
	path := filepath.Join(t.TempDir(), "kvm.yaml")
	must(t, os.WriteFile(path, []byte("dsn: "+server.URI()+`
interface: lo
machines:
  win10_1:
    lable: m0
    ip: 10.0.0.1
    platform: windows
    os_version: "10"
    architecture: amd64
    tags: [office]
`), 0o600))
	var registry machinery.Registry
	must(t, registry.Register(Driver()))
	m, err := registry.Open(limit(t), path, machinery.Options{RuntimeDir: filepath.Join(t.TempDir(), "run")})
	must(t, err)
	d := m.(*Machinery)
	t.Cleanup(func() { must(t, d.Close()) })
	one := mustState(t, d, "win10_1", machinery.StateError, reasonConfig)
	all, err := d.States(limit(t))
	must(t, err)
	for how, status := range map[string]machinery.Status{"State": one, "States": all["win10_1"]} {
		if !strings.Contains(status.Detail, path+":4:3") || !strings.Contains(status.Detail, "label: this key is missing") {
			t.Errorf("%s: the machine is %s, %q; want the line of the file that has no label", how, status, status.Detail)
		}
	}
}

func TestAMemoryImageOfAnotherMachineIsFoundBeforeAnythingIsRestored(t *testing.T) {
	saved := conformance.MachineSpec{Name: "a", Kind: conformance.SnapshotMemory}
	other := saved
	other.Name = "b"
	s := newSite(t, "fake", saved, other)
	s.config.Machines[0].Memory = s.config.Machines[1].Memory
	d := s.open()
	status := mustState(t, d, "a", machinery.StateError, reasonConfig)
	if !strings.Contains(status.Detail, `of the domain "`+s.config.Machines[1].Label+`"`) {
		t.Errorf("the detail is %q; want whose image it is", status.Detail)
	}
	mustKind(t, d.RestoreStart(limit(t), "a"), machinery.ErrConfig, s.config.Machines[1].Label)
	mustState(t, d, "b", machinery.StatePoweroff, "")
}

func TestWhoWaitsForASilentDaemonIsToldWhichOne(t *testing.T) {
	server := many(t, 1)
	defer server.Silence()()
	ctx, cancel := context.WithTimeout(limit(t), 100*time.Millisecond) // nothing is answered, however long it is
	defer cancel()
	_, err := New(ctx, Config{URI: server.URI(), Machines: []MachineConfig{{Name: "a", Label: "m0"}}}, machinery.Options{RuntimeDir: filepath.Join(t.TempDir(), "run")})
	mustKind(t, err, machinery.ErrInterrupted, server.URI())
}
