package pcap

import (
	"encoding/binary"
	"io"
)

// Writer writes a file, in little-endian byte order.
type Writer struct {
	out  io.Writer
	nano bool
	buf  []byte
	size int64
}

// NewWriter writes a file's header.
func NewWriter(out io.Writer, h Header) (*Writer, error) {
	magic := uint32(magicMicro)
	if h.Nano {
		magic = magicNano
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...) // time zone and accuracy, which are always 0
	b = binary.LittleEndian.AppendUint32(b, h.SnapLen)
	b = binary.LittleEndian.AppendUint32(b, h.Link)
	w := &Writer{out: out, nano: h.Nano, size: int64(len(b))}
	_, err := out.Write(b)
	return w, err
}

// Write writes a packet.
func (w *Writer) Write(p *Packet) error {
	fraction := p.Nanos
	if !w.nano {
		fraction /= 1000
	}
	b := w.buf[:0]
	for _, n := range []uint32{p.Seconds, fraction, uint32(len(p.Data)), max(p.Length, uint32(len(p.Data)))} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	w.buf = append(b, p.Data...)
	n, err := w.out.Write(w.buf)
	w.size += int64(n)
	return err
}

// Size is how much was written, in bytes.
func (w *Writer) Size() int64 { return w.size }
