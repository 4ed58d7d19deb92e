package rpc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Lengths of a packet, in bytes, its own length field counted (libvirt's virnetprotocol.x: a message of at
// most 32 MiB after the length field).
const (
	lengthSize    = 4
	headerSize    = 24
	leastPacket   = lengthSize + headerSize
	longestPacket = lengthSize + 32<<20
)

// The types of a packet, and the statuses.
const (
	typeCall   uint32 = 0
	typeReply  uint32 = 1
	typeEvent  uint32 = 2
	typeStream uint32 = 3

	statusOK       uint32 = 0
	statusError    uint32 = 1
	statusContinue uint32 = 2
)

// A packet is one message of the protocol.
type packet struct {
	program, version, procedure, kind uint32
	serial                            int32
	status                            uint32
	payload                           []byte
}

func (p *packet) String() string {
	return fmt.Sprintf("program %#x version %d procedure %d type %d serial %d status %d, %d bytes",
		p.program, p.version, p.procedure, p.kind, p.serial, p.status, len(p.payload))
}

// bytes is the packet as it is sent.
func (p *packet) bytes() []byte {
	b := make([]byte, 0, leastPacket+len(p.payload))
	for _, n := range []uint32{uint32(leastPacket + len(p.payload)), p.program, p.version, p.procedure, p.kind, uint32(p.serial), p.status} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, p.payload...)
}

// parsePacket reads what is behind a length field.
func parsePacket(b []byte) *packet {
	n := binary.BigEndian.Uint32
	return &packet{program: n(b), version: n(b[4:]), procedure: n(b[8:]), kind: n(b[12:]), serial: int32(n(b[16:])), status: n(b[20:]),
		payload: b[headerSize:]}
}

// readPacket reads one packet. Memory is taken as bytes come, not as the length field asks.
func readPacket(r io.Reader) (*packet, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < leastPacket || n > longestPacket {
		return nil, violation("a packet with a length of %d (%d to %d can be)", n, leastPacket, longestPacket)
	}
	n -= lengthSize
	var b []byte
	if n <= 64<<10 {
		b = make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, halfway(err)
		}
	} else {
		var buf bytes.Buffer
		if _, err := io.CopyN(&buf, r, int64(n)); err != nil {
			return nil, halfway(err)
		}
		b = buf.Bytes()
	}
	return parsePacket(b), nil
}

func halfway(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// violation is an error that matches ErrProtocol.
func violation(format string, args ...any) error {
	return fmt.Errorf("the daemon sent %s: %w", fmt.Sprintf(format, args...), ErrProtocol)
}
