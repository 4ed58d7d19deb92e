package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/machineries/machineries/internal/pcap"
)

// Networked is a bench whose machines have a network card, if their spec says so, with the lab at its other end. It is what
// [FeatureNetwork] means.
type Networked interface {
	// Greeting is the frame that the lab sends a machine as soon as its card is there, before the machine can do anything.
	Greeting(machine string) []byte
	// Transmit sends an Ethernet frame to the card of the machine's present run, and returns when the hypervisor has taken it.
	Transmit(ctx context.Context, machine string, frame []byte) error
}

// Frame is an Ethernet frame to all that holds a text, of the type for experiments.
func Frame(text string) []byte {
	f := append(ethernet(0x88B5), text...)
	return append(f, make([]byte, max(0, 60-len(f)))...)
}

func ethernet(kind uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1}, kind)
}

// Datagram is an Ethernet frame to all with a UDP datagram that holds a text. The addresses are of IPv4.
func Datagram(from, to netip.AddrPort, text string) []byte {
	f := ethernet(0x0800)
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(28+len(text)))
	f = append(f, 0, 0, 0, 0, 64, 17, 0, 0) // without a checksum: nobody looks at it
	f = append(append(f, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	for _, n := range []uint16{from.Port(), to.Port(), uint16(8 + len(text)), 0} {
		f = binary.BigEndian.AppendUint16(f, n)
	}
	f = append(f, text...)
	return append(f, make([]byte, max(0, 60-len(f)))...)
}

// recording is the packets of a pcap file.
type recording [][]byte

func (r recording) has(frame []byte) bool {
	// What is shorter than a frame has to be may have been filled up.
	return slices.ContainsFunc(r, func(p []byte) bool { return bytes.HasPrefix(p, frame) || bytes.HasPrefix(frame, p) && len(p) > 20 })
}

// readRecording reads a pcap file.
func readRecording(path string) (recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcap.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s is no pcap file: %w", path, err)
	}
	var all recording
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s, packet %d: %w", path, len(all)+1, err)
		}
		all = append(all, bytes.Clone(p.Data))
	}
}
