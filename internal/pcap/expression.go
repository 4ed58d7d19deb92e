package pcap

import (
	"fmt"
	"net/netip"
	"strings"
)

// Expression is Excluded in the filter language of libpcap (pcap-filter(7)): it takes all that does not come from or go to one of
// the endpoints. It is empty for none.
func Expression(endpoints []netip.AddrPort) string {
	if len(endpoints) == 0 {
		return ""
	}
	pairs := make([]string, len(endpoints))
	for i, e := range endpoints {
		pairs[i] = fmt.Sprintf("(src host %[1]s and src port %[2]d) or (dst host %[1]s and dst port %[2]d)", e.Addr(), e.Port())
	}
	return "not (" + strings.Join(pairs, " or ") + ")"
}
