//go:build linux

package conformance_test

import (
	"context"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/internal/require"
)

func TestTheKVMDriverIsConformantOnTheFake(t *testing.T) {
	conformance.Run(t, conformance.Subject{Driver: kvm.Driver(), Lab: fakeLibvirtLab(t)})
}

func TestTheKVMDriverIsConformantOnLibvirtsTestDriver(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	conformance.Run(t, conformance.Subject{Driver: kvm.Driver(), Lab: realLibvirtLab(t, libvirtlab.Options{Driver: "test"})})
}

func TestTheKVMDriverIsConformantOnARealLibvirt(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	require.Tool(t, "qemu", "qemu-system-x86_64")
	conformance.Run(t, conformance.Subject{Driver: kvm.Driver(), Lab: realLibvirtLab(t, libvirtlab.Options{})})
}

// realLibvirtLab is the lab on a libvirtd of its own.
func realLibvirtLab(t *testing.T, o libvirtlab.Options) conformance.Lab {
	t.Helper()
	o.Daemon = "libvirtd"
	lab, err := libvirtlab.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return lab
}
