package pcap

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Excluded is whether a packet comes from or goes to one of the endpoints: one of its two sides has that address and that port.
// TCP, UDP and SCTP over IPv4 and IPv6 have ports, also within VLAN tags. A fragment that is not the first of its packet says no
// port, nor does a packet whose ports come after an IPv6 extension header; those are not excluded. That is what the filter
// language of libpcap means by "src host A and src port P or dst host A and dst port P" too, but for the tags.
func Excluded(link uint32, data []byte, endpoints []netip.AddrPort) bool {
	if len(endpoints) == 0 {
		return false
	}
	from, to, ok := Sides(link, data)
	return ok && (slices.Contains(endpoints, from) || slices.Contains(endpoints, to))
}

// Sides is the addresses and ports of a packet that has both.
func Sides(link uint32, data []byte) (from, to netip.AddrPort, ok bool) {
	packet, is := network(link, data)
	if !is || len(packet) == 0 {
		return from, to, false
	}
	var protocol byte
	var source, target netip.Addr
	switch packet[0] >> 4 {
	case 4:
		header := int(packet[0]&0x0F) * 4
		if header < 20 || len(packet) < header || binary.BigEndian.Uint16(packet[6:])&0x1FFF != 0 {
			return from, to, false
		}
		protocol = packet[9]
		source, target = netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
		packet = packet[header:]
	case 6:
		const header = 40
		if len(packet) < header {
			return from, to, false
		}
		protocol = packet[6]
		source, target = netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		packet = packet[header:]
	default:
		return from, to, false
	}
	if !slices.Contains([]byte{6, 17, 132}, protocol) || len(packet) < 4 {
		return from, to, false
	}
	return netip.AddrPortFrom(source, binary.BigEndian.Uint16(packet)), netip.AddrPortFrom(target, binary.BigEndian.Uint16(packet[2:])), true
}

// The EtherTypes that are looked for.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86DD
)

var tagTypes = []uint16{0x8100, 0x88A8, 0x9100}

// network is the IP packet in a frame.
func network(link uint32, data []byte) ([]byte, bool) {
	switch link {
	case LinkRaw, LinkIPv4, LinkIPv6:
		return data, true
	case LinkEthernet:
		return inside(data, 12, 14)
	case LinkCooked:
		return inside(data, 14, 16)
	case LinkCooked2:
		return inside(data, 0, 20)
	}
	return nil, false
}

// inside is the IP packet at a place in a frame, or behind the VLAN tags that are there. typeAt is where the frame says what it holds.
func inside(data []byte, typeAt, at int) ([]byte, bool) {
	if len(data) < at {
		return nil, false
	}
	kind := binary.BigEndian.Uint16(data[typeAt:])
	data = data[at:]
	for slices.Contains(tagTypes, kind) {
		if len(data) < 4 {
			return nil, false
		}
		kind = binary.BigEndian.Uint16(data[2:])
		data = data[4:]
	}
	return data, kind == typeIPv4 || kind == typeIPv6
}
