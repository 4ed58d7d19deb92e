package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magicMicro = 0xA1B2C3D4
	magicNano  = 0xA1B23C4D

	// HeaderSize and RecordSize are the bytes of a file's header, and of that of each packet in it.
	HeaderSize = 24
	RecordSize = 16

	// MaxPacket is the longest packet that is read, in bytes: libpcap's own bound.
	MaxPacket = 262144
)

// The link types that packets are looked into for; others are recorded all the same. (Names and numbers are those of libpcap.)
const (
	LinkEthernet = 1
	LinkRaw      = 101
	LinkCooked   = 113
	LinkIPv4     = 228
	LinkIPv6     = 229
	LinkCooked2  = 276
)

// ErrCut is the error for a file that ends within a packet, as when the disk was full or its writer was killed. What was read
// before is whole.
var ErrCut = errors.New("the recording ends within a packet")

// Header is what a file says of itself.
type Header struct {
	// Nano is whether times are in nanoseconds; else in microseconds.
	Nano bool
	// SnapLen is how much of a packet was recorded at most, in bytes.
	SnapLen uint32
	// Link is the kind of network, such as LinkEthernet.
	Link uint32
}

// Packet is one packet.
type Packet struct {
	// Seconds since 1970, and the fraction in nanoseconds.
	Seconds, Nanos uint32
	// Length is that of the packet as it was on the network; Data may be less.
	Length uint32
	// Data is valid until the next packet is read.
	Data []byte
}

// before is whether a packet is older than another.
func (p *Packet) before(q *Packet) bool {
	return p.Seconds < q.Seconds || p.Seconds == q.Seconds && p.Nanos < q.Nanos
}

// Reader reads a file.
type Reader struct {
	Header
	in    *bufio.Reader
	order binary.ByteOrder
	data  []byte
}

// NewReader reads a file's header. The error is io.EOF for an empty file and ErrCut for one that ends within its header.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10)}
	var h [HeaderSize]byte
	if _, err := io.ReadFull(r.in, h[:]); err != nil {
		return nil, cut(err)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if magic := order.Uint32(h[:]); magic == magicMicro || magic == magicNano {
			r.order, r.Nano = order, magic == magicNano
		}
	}
	if r.order == nil {
		return nil, fmt.Errorf("it is no pcap file: it begins with % x", h[:4])
	}
	if major := r.order.Uint16(h[4:]); major != 2 {
		return nil, fmt.Errorf("its format has version %d.%d; 2.4 is known", major, r.order.Uint16(h[6:]))
	}
	r.SnapLen = r.order.Uint32(h[16:])
	r.Link = r.order.Uint32(h[20:]) & 0x0FFFFFFF // above that are bits about a checksum
	return r, nil
}

// Next reads a packet. The error is io.EOF at the end of the file, and ErrCut if that is within a packet.
func (r *Reader) Next() (*Packet, error) {
	var h [RecordSize]byte
	if _, err := io.ReadFull(r.in, h[:]); err != nil {
		return nil, cut(err)
	}
	p := &Packet{Seconds: r.order.Uint32(h[:]), Nanos: r.order.Uint32(h[4:]), Length: r.order.Uint32(h[12:])}
	if !r.Nano {
		p.Nanos = min(p.Nanos, 999_999) * 1000
	}
	p.Nanos = min(p.Nanos, 999_999_999)
	n := r.order.Uint32(h[8:])
	if n > MaxPacket {
		return nil, fmt.Errorf("a packet of %d bytes is longer than any that is recorded (%d)", n, MaxPacket)
	}
	if uint32(cap(r.data)) < n {
		r.data = make([]byte, n)
	}
	p.Data = r.data[:n]
	if _, err := io.ReadFull(r.in, p.Data); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrCut
		}
		return nil, cut(err)
	}
	return p, nil
}

// cut is what an error of io.ReadFull means for a file.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}
