package libvirt

import (
	"encoding/binary"
	"fmt"
	"io"
	"reflect"
)

// The programs of the protocol, all of version 1.
const (
	programRemote    = 0x20008086
	programQEMU      = 0x20008087
	programKeepalive = 0x6b656570
)

// Types of packets.
const (
	typeCall        = 0
	typeReply       = 1
	typeEvent       = 2
	typeStream      = 3
	typeCallWithFDs = 4
)

// Status of packets.
const (
	statusOK       = 0
	statusError    = 1
	statusContinue = 2
)

const (
	lengthSize = 4
	headerSize = 24
	// maxPacket is VIR_NET_MESSAGE_MAX of libvirt 9, without the length itself.
	maxPacket = 33554432
	// maxStreamData is how much of a stream goes into a packet: what libvirt
	// 0.10 and later send (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX).
	maxStreamData = 262120
)

// header is what every packet begins with.
type header struct {
	Program   uint32
	Version   uint32
	Procedure int32
	Type      int32
	Serial    uint32
	Status    int32
}

// packet is a header and what follows it.
type packet struct {
	header
	payload []byte
}

// encode is the packet as it goes over the wire.
func (p packet) encode() []byte {
	b := make([]byte, lengthSize, lengthSize+headerSize+len(p.payload))
	b = encodeXDR(b, reflect.ValueOf(p.header))
	b = append(b, p.payload...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// readPacket reads a packet. libvirtd closes the connection of a client whose
// packet is shorter than a header or longer than the protocol's maximum (seen on
// libvirt 9.0.0), so whoever calls this does so on any error.
func readPacket(r io.Reader) (packet, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return packet{}, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < lengthSize+headerSize || n > lengthSize+maxPacket {
		return packet{}, fmt.Errorf("a packet with a length of %d", n)
	}
	// What was announced is read as it comes: a length alone costs no memory.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)-lengthSize))
	if err != nil {
		return packet{}, err
	}
	if len(body) < int(n)-lengthSize {
		return packet{}, io.ErrUnexpectedEOF
	}
	p := packet{payload: body[headerSize:]}
	if err := decodeXDR(body[:headerSize], &p.header); err != nil {
		return packet{}, err
	}
	return p, nil
}
