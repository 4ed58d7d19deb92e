//go:build linux

package libvirtlab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
	"github.com/machineries/machineries/internal/require"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	libvirtlab.Main()
	os.Exit(m.Run())
}

func newLab(t *testing.T, o libvirtlab.Options) *libvirtlab.Lab {
	t.Helper()
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	require.Tool(t, "qemu", "qemu-system-x86_64")
	o.Daemon = "libvirtd"
	l, err := libvirtlab.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newBench(t *testing.T, l *libvirtlab.Lab, specs ...conformance.MachineSpec) (conformance.Bench, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mlt")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err := l.NewBench(t.Context(), filepath.Clean(dir), specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the bench took %v", time.Since(began))
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the bench's directory is still there: %v", err)
		}
	})
	return b, dir
}

// connect connects to the lab's daemon as a driver does.
func connect(t *testing.T, l *libvirtlab.Lab) *libvirt.Libvirt {
	t.Helper()
	c := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(l.Socket())))
	if err := c.ConnectToURI(libvirt.ConnectURI(l.URI())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect() })
	return c
}

func onlyDomain(t *testing.T, c *libvirt.Libvirt) libvirt.Domain {
	t.Helper()
	all, _, err := c.ConnectListAllDomains(1, 0)
	if err != nil || len(all) != 1 {
		t.Fatalf("domains: %v, %v; want one", all, err)
	}
	return all[0]
}

func TestAMachineRevertsToItsSnapshot(t *testing.T) {
	for _, accel := range []string{"tcg", "kvm"} {
		for _, paused := range []bool{false, true} {
			name := accel
			if paused {
				name += " paused"
			}
			t.Run(name, func(t *testing.T) {
				l := newLab(t, libvirtlab.Options{Accel: accel})
				if err := l.Check(t.Context()); err != nil {
					if accel == "kvm" {
						require.Missing(t, "kvm", err.Error())
					}
					t.Fatal(err)
				}
				b, _ := newBench(t, l, conformance.MachineSpec{Name: "a", SavedPaused: paused})
				c := connect(t, l)
				dom := onlyDomain(t, c)
				before, err := b.Originals(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				for range 3 {
					began := time.Now()
					if err := c.DomainRevertToSnapshot(libvirt.DomainSnapshot{Name: "clean", Dom: dom}, 0); err != nil {
						t.Fatal(err)
					}
					t.Logf("the revert took %v", time.Since(began))
					if paused {
						if err := c.DomainResume(dom); err != nil {
							t.Fatal(err)
						}
					}
					runsFrom(t, b)
					began = time.Now()
					if err := c.DomainDestroy(dom); err != nil {
						t.Fatal(err)
					}
					t.Logf("the destroy took %v", time.Since(began))
				}
				after, err := b.Originals(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				for what, sum := range before {
					if after[what] != sum {
						t.Errorf("%s: %s became %s", what, sum, after[what])
					}
				}
				if left, err := b.Leftovers(t.Context()); err != nil || len(left) > 0 {
					t.Errorf("left: %v, %v", left, err)
				}
			})
		}
	}
}

// runsFrom fails the test unless the guest is as its snapshot was, and marks it.
func runsFrom(t *testing.T, b conformance.Bench) {
	t.Helper()
	if p, err := b.Power(t.Context(), "a"); err != nil || !p.On {
		t.Fatalf("the machine's power is %+v, %v", p, err)
	}
	g, err := b.Guest(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	saved := b.Saved("a")
	memory, err := g.Memory(t.Context(), 0)
	if err != nil || memory != saved.Memory {
		t.Errorf("the guest's memory has the mark %#x, %v; want %#x", memory, err, saved.Memory)
	}
	disk, err := g.Disk(t.Context(), 0)
	if err != nil || disk != saved.Disk {
		t.Errorf("the guest's disk has the mark %#x, %v; want %#x", disk, err, saved.Disk)
	}
	count, err := g.Counter(t.Context())
	if err != nil || count < saved.Counter {
		t.Errorf("the guest's counter is at %d, %v; want %d or more", count, err, saved.Counter)
	}
	if err := errors.Join(g.SetMemory(t.Context(), 0, 1), g.SetDisk(t.Context(), 0, 1)); err != nil {
		t.Error(err)
	}
}
