//go:build linux

package diagnosis

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/machineries/machineries/machinery"
)

// Interfaces looks at the host's network interfaces that machines are reached by: each is there, up, and the way to its machines. absent, if not nil, says
// what to do about one that is not there. It returns those that traffic can pass.
func (l *List) Interfaces(machines []machinery.Machine, key func(iface string) string, absent func(iface string) string) []string {
	var names, usable []string
	for _, m := range machines {
		if m.Interface != "" && !slices.Contains(names, m.Interface) {
			names = append(names, m.Interface)
		}
	}
	for _, name := range names {
		f := About(machinery.AreaNetwork, name, key(name))
		iface, err := net.InterfaceByName(name)
		switch {
		case err != nil:
			do := ""
			if absent != nil {
				do = absent(name)
			}
			if do == "" {
				do = "make it, or name another one" + others()
			}
			l.Problem(f, do, "there is no such network interface on this host")
		case iface.Flags&net.FlagUp == 0:
			l.Problem(f, "bring it up with: ip link set "+name+" up", "the network interface is down")
		default:
			usable = append(usable, name)
			l.ways(f, iface, machines)
		}
	}
	return usable
}

// others are the interfaces that there are.
func others() string {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		return ""
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return ": this host has " + strings.Join(names, ", ")
}

// ways says whether the host would reach the machines by the interface.
func (l *List) ways(f machinery.Finding, iface *net.Interface, machines []machinery.Machine) {
	var own []string
	addrs, _ := iface.Addrs() // without any, the ways below lead elsewhere
	for _, a := range addrs {
		own = append(own, a.String())
	}
	if iface.Flags&net.FlagLoopback != 0 {
		l.OK(f, "up")
		return
	}
	var astray []string
	elsewhere := ""
	for _, m := range machines {
		if m.Interface != iface.Name {
			continue
		}
		by, is := wayTo(m.IP)
		if is && by != iface.Name {
			astray, elsewhere = append(astray, m.IP), by
		}
	}
	has := "it has no address"
	if len(own) > 0 {
		has = "it has " + strings.Join(own, ", ")
	}
	switch {
	case len(astray) == 0:
		l.OK(f, "up; %s", has)
	case elsewhere == "":
		l.Warn(f, "give it an address in their network: ip addr add ADDRESS/24 dev "+f.Subject, "it is up, but this host has no way to %s (%s)", someOf(astray), has)
	default:
		l.Warn(f, "give it an address in their network (ip addr add ADDRESS/24 dev "+f.Subject+"), or correct the machines' addresses",
			"it is up, but this host would reach %s by %s (%s)", someOf(astray), elsewhere, has)
	}
}

// someOf is a list that may be long.
func someOf(list []string) string {
	if len(list) > 3 {
		list = append(slices.Clone(list[:3]), "…")
	}
	return strings.Join(list, ", ")
}

// wayTo is the interface by which this host would send to an address; empty if it has no way there. It sends nothing. is is false if
// that cannot be told.
func wayTo(address string) (name string, is bool) {
	to, err := netip.ParseAddr(address)
	if err != nil {
		return "", false
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 9)))
	if err != nil {
		return "", true
	}
	defer conn.Close()
	from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	all, err := net.Interfaces()
	if err != nil {
		return "", false
	}
	for _, i := range all {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == from {
				return i.Name, true
			}
		}
	}
	return "", false
}
