//go:build linux

package rpc_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/drivers/kvm/rpc"
)

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

// BenchmarkStateReplayed sends the same bytes and reads as many: what the daemon and the socket take.
func BenchmarkStateReplayed(b *testing.B) {
	d := start(b)
	c := client(b, rpc.Options{URI: d.uri()})
	dom := firstDomain(b, c)
	nc, err := net.Dial("unix", d.Socket())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	call := func(procedure uint32, payload []byte) []byte {
		p := make([]byte, 0, 128)
		for _, n := range []uint32{uint32(28 + len(payload)), 0x20008086, 1, procedure, 0, 1, 0} {
			p = binary.BigEndian.AppendUint32(p, n)
		}
		return append(p, payload...)
	}
	text := func(s string) []byte {
		t := binary.BigEndian.AppendUint32(nil, uint32(len(s)))
		t = append(t, s...)
		return append(t, make([]byte, (4-len(s)%4)%4)...)
	}
	var answer [256]byte
	exchange := func(p []byte) []byte {
		if _, err := nc.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(nc, answer[:4]); err != nil {
			b.Fatal(err)
		}
		rest := answer[4:binary.BigEndian.Uint32(answer[:])]
		if _, err := io.ReadFull(nc, rest); err != nil {
			b.Fatal(err)
		}
		return rest
	}
	exchange(call(66, nil))
	exchange(call(1, bytes.Join([][]byte{{0, 0, 0, 1}, text("test:///default"), {0, 0, 0, 0}}, nil)))
	state := call(212, bytes.Join([][]byte{text(dom.Name), dom.UUID[:], {255, 255, 255, 255}, {0, 0, 0, 0}}, nil))
	if rest := exchange(state); len(rest) != 32 || rest[23] != 0 {
		b.Fatalf("the answer is %x", rest)
	}
	b.ReportAllocs()
	for b.Loop() {
		exchange(state)
	}
}
