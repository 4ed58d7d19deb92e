//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
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

func TestWhoMayNotOpenADiskIsNamedWithThePath(t *testing.T) {
	server := many(t, 1)
	d := opened(t, server)
	must(t, server.Plan(fakelibvirt.Fault{Point: fakelibvirt.PointCall, Procedure: "DomainCreateWithFlags", Action: fakelibvirt.Refuse, Code: 1, From: 10,
		Text: "internal error: process exited while connecting to monitor: Could not open '/vms/a.qcow2': Permission denied"}))
	mustKind(t, d.NoRestoreStart(limit(t), "m0"), machinery.ErrHypervisor,
		"'/vms/a.qcow2': Permission denied (error 1 of domain 10)", fmt.Sprintf("(%d:%d)", os.Geteuid(), os.Getegid()), "libvirt runs its machines as the user")

	own := d.frame.Named("m0").whoMayNot(limit(t), &fs.PathError{Op: "open", Path: "/vms/a.qcow2", Err: syscall.EACCES})
	if want := fmt.Sprintf("(%d:%d)", os.Geteuid(), os.Getegid()); !errors.Is(own, fs.ErrPermission) || !strings.Contains(own.Error(), "this program runs as the user") || !strings.Contains(own.Error(), want) {
		t.Errorf("a file that this program may not open: %v; want the user %s named", own, want)
	}
	other := errors.New("no space left on device")
	if err := d.frame.Named("m0").whoMayNot(limit(t), other); err != other {
		t.Errorf("what is no question of permission is told as %v", err)
	}
}

func TestTheUserOfTheMachinesIsReadFromTheCapabilities(t *testing.T) {
	const dac = "<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+108</baselabel></secmodel>"
	for text, want := range map[string]bool{
		"<capabilities><host><secmodel><model>apparmor</model><baselabel type='kvm'>x</baselabel></secmodel>" + dac + "</host></capabilities>": true,
		"<capabilities><host/></capabilities>": false,
		"<capabilities><host>" + strings.Replace(dac, "+64055:+108", "root", 1) + "</host></capabilities>": false,
		"":                     false,
		"<capabilities><host>": false,
	} {
		uid, gid, is := dacUser(text)
		if is != want || is && (uid != 64055 || gid != 108) {
			t.Errorf("%s: %d:%d, %v", text, uid, gid, is)
		}
	}
}

func TestAWayToCaptureThatThereIsNotIsRefused(t *testing.T) {
	server := many(t, 1)
	c := Config{URI: server.URI(), Capture: "wireshark", Machines: []MachineConfig{{Name: "a", Label: "m0"}}}
	d, err := New(limit(t), c, machinery.Options{RuntimeDir: filepath.Join(t.TempDir(), "run")})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	status := mustState(t, d, "a", machinery.StateError, reasonConfig)
	if !strings.Contains(status.Detail, `capture is "wireshark"`) || !strings.Contains(status.Detail, CaptureFilterDump) {
		t.Errorf("the detail is %q; want the wrong word and those that are known", status.Detail)
	}
	mustKind(t, d.NoRestoreStart(limit(t), "a"), machinery.ErrConfig, "wireshark")
}
