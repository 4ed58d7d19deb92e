//go:build linux

package rpc_test

import (
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/drivers/kvm/rpc"
)

// BenchmarkStateByTheClient is for a profile: what the client costs beside the round trip BenchmarkState of package kvm shows, in turns.
func BenchmarkStateByTheClient(b *testing.B) {
	d := start(b)
	c := client(b, rpc.Options{URI: d.uri()})
	dom := firstDomain(b, c)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Do(b.Context(), "ask", func(l *libvirt.Libvirt) error {
			_, _, err := l.DomainGetState(dom, 0)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}
