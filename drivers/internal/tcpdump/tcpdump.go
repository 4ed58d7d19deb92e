// Package tcpdump knows how tcpdump is called to record the traffic of one machine, for drivers whose hypervisor cannot do that
// itself. It starts nothing: the drivers account for their processes each in its own way.
package tcpdump

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/machineries/machineries/internal/pcap"
)

// Args are the arguments with which tcpdump records, in the pcap format and to its standard output, all that goes over an interface
// to and from an address, but for what goes to or comes from the endpoints. No value can be taken for an option, and none comes from
// a guest.
//
// Standard output, because tcpdump that was started by root gives root's rights up (Debian's 4.99.3) and could not open a file in a
// directory of root's. Immediate mode, because packets of the last second would otherwise be lost when it ends. An address of an
// interface that is a bridge or a tap is seen there, because tcpdump makes the interface promiscuous.
func Args(iface, address string, exclude []netip.AddrPort) ([]string, error) {
	host, err := netip.ParseAddr(address)
	switch {
	case iface == "":
		return nil, errors.New("no network interface is configured to record on")
	case len(iface) > 15 || strings.ContainsAny(iface, "/ \t\n\x00"):
		return nil, fmt.Errorf("%q is no name of a network interface", iface)
	case err != nil || host.Zone() != "":
		return nil, fmt.Errorf("%q is no address whose traffic can be told from others'", address)
	}
	filter := "host " + host.Unmap().String()
	if left := pcap.Expression(exclude); left != "" {
		filter += " and " + left
	}
	return []string{"-n", "-U", "--immediate-mode", "-s", fmt.Sprint(pcap.MaxPacket), "-i", iface, "-w", "-", "--", filter}, nil
}

// Ready is whether what tcpdump has said on its standard error tells that it records. It says so when its filter is in place, in a line
// that ends with the length of a snapshot in bytes and that it writes in four pieces (4.99.3). The whole line has to be there: who takes
// the first pieces for an answer and goes away, the pipe with him, has tcpdump die of a broken pipe at the next.
func Ready(said string) bool {
	_, rest, found := strings.Cut(said, "listening on ")
	return found && strings.Contains(rest, " bytes")
}
