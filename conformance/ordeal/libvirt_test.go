//go:build linux

package ordeal

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// daemons runs a test on the fake libvirtd, and on a private one of the host's with QEMU where there is one. After the test nothing of it is
// left in this process.
func daemons(t *testing.T, test func(t *testing.T, l *libvirtlab.Lab)) {
	for _, d := range []struct{ name, daemon string }{{"fake", ""}, {"host", "/usr/sbin/libvirtd"}} {
		t.Run(d.name, func(t *testing.T) {
			if d.daemon != "" {
				require.Tool(t, "libvirt", d.daemon)
				require.Tool(t, "qemu", "qemu-system-x86_64")
			}
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) }) // the last thing that is done
			l, err := libvirtlab.New(t.Context(), libvirtlab.Options{Daemon: d.daemon})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, l)
		})
	}
}

// openKVM opens the libvirt driver on a bench's machines.
func openKVM(b conformance.Bench) (*kvm.Machinery, error) {
	doc, err := config.Load(b.ConfigPath(), kvm.Schema())
	if err != nil {
		return nil, err
	}
	return kvm.New(context.Background(), kvm.FromDocument(doc), machinery.Options{RuntimeDir: b.RuntimeDir()})
}
