package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Describe implements Type.
func (t MACAddress) Describe() string { return "a MAC address such as 52:54:00:12:34:56" }

var (
	macForm  = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$`)
	macOther = regexp.MustCompile(`^([0-9a-fA-F]{2})[-.]?([0-9a-fA-F]{2})[-.]?([0-9a-fA-F]{2})[-.]?([0-9a-fA-F]{2})[-.]?([0-9a-fA-F]{2})[-.]?([0-9a-fA-F]{2})$`)
)

func (t MACAddress) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	if !macForm.MatchString(text) {
		hint := "write six pairs of hexadecimal digits with colons between them, such as 52:54:00:12:34:56"
		if m := macOther.FindStringSubmatch(text); m != nil {
			hint = "write it with colons: " + strings.Join(m[1:], ":")
		}
		return nil, faultf(hint, "%s is not a MAC address", show(text))
	}
	var warning *fault
	switch hw, _ := net.ParseMAC(text); {
	case slices.Equal(hw, make(net.HardwareAddr, 6)):
		warning = &fault{problem: fmt.Sprintf("%s is all zeros, which is no network card's address", show(text)), warning: true}
	case hw[0]&1 == 1:
		warning = &fault{problem: fmt.Sprintf("%s is a broadcast or multicast address, which no network card can have", show(text)), warning: true}
	}
	if warning != nil {
		warning.hint = "addresses for virtual machines begin with 52:54:00 by custom"
	}
	if t.ToLower {
		text = strings.ToLower(text)
	}
	return text, warning
}

// Describe implements Type.
func (t IPAddress) Describe() string {
	switch t.Version {
	case 4:
		return "an IPv4 address"
	case 6:
		return "an IPv6 address"
	}
	return "an IP address"
}

func (t IPAddress) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return nil, faultf(ipHint(text), "%s is not %s", show(text), t.Describe())
	case addr.Zone() != "":
		return nil, faultf("write "+addr.WithZone("").String(), "%s names an interface after the %%, which cannot be part of the address here", show(text))
	case t.Version == 4 && !addr.Is4(), t.Version == 6 && !addr.Is6():
		return nil, faultf("", "%s is an IP address of the other version: %s is wanted", show(text), t.Describe())
	}
	return addr.String(), nil
}

// hostName matches what can be nothing but a host's name.
var hostName = regexp.MustCompile(`^[A-Za-z0-9-]*[G-Zg-z][A-Za-z0-9.-]*$`)

// ipHint guesses what was meant by a text that is not an IP address.
func ipHint(text string) string {
	if p, err := netip.ParsePrefix(text); err == nil {
		return "write it without the network mask: " + p.Addr().String()
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return "write it without the port: " + ap.Addr().String()
	}
	const unresolved = "host names are not resolved here; write the address itself, such as 192.168.30.101"
	parts := strings.Split(text, ".")
	switch {
	case hostName.MatchString(text):
		return unresolved
	case len(parts) != 4:
		return "write four numbers from 0 to 255 with dots between them, such as 192.168.30.101"
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return unresolved
		}
		if n > 255 {
			return fmt.Sprintf("each of the four numbers is at most 255, and %s is more", part)
		}
		parts[i] = strconv.FormatUint(n, 10)
	}
	return "write the numbers without zeros in front: " + strings.Join(parts, ".")
}

// Describe implements Type.
func (t NetworkInterface) Describe() string { return "the name of a network interface" }

func (t NetworkInterface) read(text string, h *host) (any, *fault) {
	text = strings.TrimSpace(text)
	if f := nulFault(text); f != nil || !t.MustExist && !t.MustBeUp {
		return text, f
	}
	// 15 bytes is IFNAMSIZ less its NUL, on Linux as on macOS.
	if len(text) > 15 || strings.ContainsAny(text, "/ \t\n") || text == "." || text == ".." {
		return nil, faultf("such a name has at most 15 bytes, and neither slashes nor spaces: br0, virbr0", "%s cannot be the name of a network interface", show(text))
	}
	if h.static {
		return text, nil
	}
	ifaces, err := h.interfaces()
	if err != nil {
		return nil, faultf("", "%s cannot be looked for: the network interfaces of this host cannot be listed (%v)", show(text), err)
	}
	names := make([]string, len(ifaces))
	for i, iface := range ifaces {
		names[i] = iface.Name
	}
	i := slices.Index(names, text)
	switch {
	case i < 0 && len(names) == 0:
		return nil, faultf("", "there is no network interface %s on this host, nor any other", show(text))
	case i < 0:
		return nil, faultf("this host has "+list(names), "there is no network interface %s on this host", show(text))
	case t.MustBeUp && ifaces[i].Flags&net.FlagUp == 0:
		return nil, faultf("bring it up with: ip link set "+text+" up", "the network interface %s is down", show(text))
	}
	return text, nil
}

// Describe implements Type.
func (t HTTPUrl) Describe() string { return "a URL that begins with http:// or https://" }

func (t HTTPUrl) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	const form = "write it as https://host/path or http://host:port/path"
	u, err := url.Parse(text)
	switch {
	case err != nil && password.MatchString(text): // the reason would show a part of it
		return nil, faultf(form, "%s is not a URL", show(text))
	case err != nil:
		return nil, faultf(form, "%s is not a URL: %s", show(text), urlReason(err))
	case !strings.Contains(text, "://"):
		return nil, faultf(form, "%s does not begin with http:// or https://", show(text))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, faultf(form, "%s begins with %s://, but must begin with http:// or https://", show(text), u.Scheme)
	case u.Hostname() == "":
		return nil, faultf(form, "%s names no host", show(text))
	case strings.ContainsAny(text, " \t\n\x00"):
		return nil, faultf("write a space in a URL as %20", "%s holds white space", show(text))
	}
	if p := u.Port(); p != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(p, 10, 64); err != nil || n < 1 || n > 65535 {
			return nil, faultf("a port is a number from 1 to 65535", "%s has a port that cannot be", show(text))
		}
	}
	return text, nil
}

// urlReason is url.Parse's reason without the URL, which the message has already.
func urlReason(err error) string {
	if ue, is := err.(*url.Error); is {
		err = ue.Err
	}
	return strings.TrimPrefix(err.Error(), "net/url: ")
}

// Describe implements Type.
func (t HypervisorURI) Describe() string {
	return "a hypervisor URI such as qemu:///system"
}

// transports are those that libvirt's remote driver knows: https://libvirt.org/uri.html.
var transports = []string{"ext", "libssh", "libssh2", "ssh", "tcp", "tls", "unix"}

// hypervisors are the drivers of machines that libvirt has, or has had: https://libvirt.org/drivers.html.
var hypervisors = []string{"bhyve", "ch", "esx", "gsx", "hyperv", "lxc", "openvz", "parallels", "phyp", "qemu", "test", "uml", "vbox", "vmwarefusion",
	"vmwareplayer", "vmwarews", "vpx", "vz", "xen", "xenapi"}

var uriScheme = regexp.MustCompile(`^[a-z][a-z0-9.-]*(\+[a-z0-9]+)?$`)

func (t HypervisorURI) read(text string, _ *host) (any, *fault) {
	text = strings.TrimSpace(text)
	const form = "write it as qemu:///system for this host, or qemu+ssh://user@host/system for another"
	if strings.HasPrefix(text, "/") {
		return text, nil // the path of a socket
	}
	u, err := url.Parse(text)
	switch {
	case err != nil && password.MatchString(text), err == nil && hasPassword(u):
		f := faultf("remove it; libvirt knows who you are by a key (keyfile=PATH behind a ?, or an agent) or a certificate", "a URI must not hold a password, which every message about the hypervisor would show")
		f.secret = true
		return nil, f
	case err != nil:
		return nil, faultf(form, "%s is not a hypervisor URI: %s", show(text), urlReason(err))
	case !strings.Contains(text, "://") || !uriScheme.MatchString(u.Scheme):
		return nil, faultf(form, "%s is not a hypervisor URI", show(text))
	case strings.ContainsAny(text, " \t\n\x00"):
		return nil, faultf(form, "%s holds white space", show(text))
	}
	driver, transport, remote := strings.Cut(u.Scheme, "+")
	switch {
	case !slices.Contains(hypervisors, driver):
		return nil, faultf(form, "%s begins with %s, which is no hypervisor of libvirt's", show(text), show(driver))
	case remote && !slices.Contains(transports, transport):
		return nil, faultf("libvirt has "+list(transports), "%s goes over %s, which libvirt does not have", show(text), show(transport))
	case strings.HasSuffix(transport, "ssh") || transport == "libssh2":
		if u.Hostname() == "" {
			return nil, faultf(form, "%s goes over ssh but names no host", show(text))
		}
	}
	if driver == "qemu" && !slices.Contains([]string{"/system", "/session", "/embed"}, u.Path) {
		hint := form
		if u.Path == "" && slices.Contains([]string{"system", "session"}, u.Host) {
			hint = fmt.Sprintf("write it with three slashes: %s:///%s", u.Scheme, u.Host)
		}
		return nil, faultf(hint, "%s names neither /system nor /session after the host", show(text))
	}
	return text, nil
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}
