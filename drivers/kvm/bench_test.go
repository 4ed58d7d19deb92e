//go:build linux

package kvm

import (
	"context"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/conformance"
)

// What State costs of a machine that is off: one question to libvirt; and beside it that question alone, on the same connection.
func BenchmarkState(b *testing.B) {
	d := benchDriver(b)
	v := d.machines[0]
	if _, err := d.State(context.Background(), "a"); err != nil {
		b.Fatal(err)
	}
	b.Run("libvirt alone", func(b *testing.B) {
		for b.Loop() {
			if err := v.do(context.Background(), "asking", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
				_, _, err := l.DomainGetState(dom, 0)
				return err
			}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("State", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.State(context.Background(), "a"); err != nil {
				b.Fatal(err)
			}
		}
	})
	if err := d.RestoreStart(context.Background(), "a"); err != nil {
		b.Fatal(err)
	}
	b.Run("State of one that runs", func(b *testing.B) {
		for b.Loop() {
			if _, err := d.State(context.Background(), "a"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchDriver(b *testing.B) *Machinery {
	b.Helper()
	return newSite(b, "qemu", conformance.MachineSpec{Name: "a"}).open()
}
