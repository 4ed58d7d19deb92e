package libvirt

import (
	"fmt"
	"os"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// What the fake says it is.
const (
	libVersion = 9_000_000 // libvirt 9.0.0
	hvVersion  = 7_002_022 // QEMU 7.2.22
	maxVCPUs   = 16
)

// featureKeepalive is the one that may be asked for before the connection is open.
const featureKeepalive = 10

// features are those of libvirtd that the fake has, by number (VIR_DRV_FEATURE_).
var features = []int32{
	8, // text in typed parameters
	featureKeepalive,
	14, // close callback
	15, // callbacks for events of one domain
}

var connectProcedures = []procedure{
	early(remote(66, "AuthList", authList)),
	early(remote(60, "ConnectSupportsFeature", supportsFeature)),
	early(remote(1, "ConnectOpen", connectOpen)),
	remote(2, "ConnectClose", connectClose),
	remote(3, "ConnectGetType", connectType),
	remote(4, "ConnectGetVersion", func(*call, *none) (golibvirt.ConnectGetVersionRet, error) {
		return golibvirt.ConnectGetVersionRet{HvVer: hvVersion}, nil
	}),
	remote(157, "ConnectGetLibVersion", func(*call, *none) (golibvirt.ConnectGetLibVersionRet, error) {
		return golibvirt.ConnectGetLibVersionRet{LibVer: libVersion}, nil
	}),
	remote(59, "ConnectGetHostname", func(*call, *none) (golibvirt.ConnectGetHostnameRet, error) {
		name, err := os.Hostname()
		return golibvirt.ConnectGetHostnameRet{Hostname: name}, err
	}),
	remote(110, "ConnectGetURI", func(c *call, _ *none) (golibvirt.ConnectGetUriRet, error) {
		return golibvirt.ConnectGetUriRet{Uri: c.uri()}, nil
	}),
	remote(5, "ConnectGetMaxVcpus", func(*call, *golibvirt.ConnectGetMaxVcpusArgs) (golibvirt.ConnectGetMaxVcpusRet, error) {
		return golibvirt.ConnectGetMaxVcpusRet{MaxVcpus: maxVCPUs}, nil
	}),
	remote(7, "ConnectGetCapabilities", connectCapabilities),
	remote(6, "NodeGetInfo", nodeInfo),
	remote(149, "ConnectIsSecure", func(*call, *none) (int32, error) { return 1, nil }),
	remote(122, "NodeGetSecurityModel", func(*call, *none) (golibvirt.NodeGetSecurityModelRet, error) {
		return golibvirt.NodeGetSecurityModelRet{Model: chars("none"), Doi: chars("0")}, nil
	}),
	remote(360, "ConnectRegisterCloseCallback", func(*call, *none) (none, error) { return none{}, nil }),
	remote(361, "ConnectUnregisterCloseCallback", func(*call, *none) (none, error) { return none{}, nil }),
}

// chars is a string as libvirt sends one that is a list of characters.
func chars(s string) []int8 {
	var out []int8
	for _, b := range append([]byte(s), 0) {
		out = append(out, int8(b))
	}
	return out
}

func authList(*call, *none) (golibvirt.AuthListRet, error) {
	return golibvirt.AuthListRet{Types: []golibvirt.AuthType{0}}, nil
}

func supportsFeature(c *call, a *golibvirt.ConnectSupportsFeatureArgs) (golibvirt.ConnectSupportsFeatureRet, error) {
	if !c.client.opened && a.Feature != featureKeepalive {
		return golibvirt.ConnectSupportsFeatureRet{}, errNotOpen()
	}
	if slices.Contains(features, a.Feature) {
		return golibvirt.ConnectSupportsFeatureRet{Supported: 1}, nil
	}
	return golibvirt.ConnectSupportsFeatureRet{}, nil
}

// connectOpen opens a connection. Names may have parameters after a question
// mark, as libvirtd lets them have.
func connectOpen(c *call, a *golibvirt.ConnectOpenArgs) (none, error) {
	if c.client.opened {
		return none{}, fail(codeInternal, fromRPC, "connection already open")
	}
	name := ""
	if len(a.Name) > 0 {
		name, _, _ = strings.Cut(a.Name[0], "?")
	}
	if path, ok := strings.CutPrefix(name, "qemu://"); ok && c.opts.Flavour == QEMU && path != "/system" && path != "/session" {
		return none{}, fail(codeInternal, 0, "unexpected qemu URI path '%s', try qemu:///system", path)
	}
	known := []string{"", "qemu:///system", "qemu:///session"}
	if c.opts.Flavour == Test {
		known = []string{"", "test:///default"}
	}
	if !slices.Contains(known, name) {
		const noConnect = 5
		return none{}, &Error{Code: noConnect, Message: "no connection driver available for " + name}
	}
	c.client.opened = true
	return none{}, nil
}

// connectClose ends what a client had asked to be told. libvirtd 9.0.0 goes on
// answering it until it has closed its socket.
func connectClose(c *call, _ *none) (none, error) {
	c.client.forget()
	return none{}, nil
}

func connectType(c *call, _ *none) (golibvirt.ConnectGetTypeRet, error) {
	if c.opts.Flavour == Test {
		return golibvirt.ConnectGetTypeRet{Type: "Test"}, nil
	}
	return golibvirt.ConnectGetTypeRet{Type: "QEMU"}, nil
}

func connectCapabilities(c *call, _ *none) (golibvirt.ConnectGetCapabilitiesRet, error) {
	// Who runs the machines: libvirt's QEMU driver says it so as root (secmodel dac), its test driver has no users.
	security := ""
	if c.opts.Flavour == QEMU {
		owner := fmt.Sprintf("+%d:+%d", os.Geteuid(), os.Getegid())
		security = `
    <secmodel>
      <model>none</model>
      <doi>0</doi>
    </secmodel>
    <secmodel>
      <model>dac</model>
      <doi>0</doi>
      <baselabel type='kvm'>` + owner + `</baselabel>
      <baselabel type='qemu'>` + owner + `</baselabel>
    </secmodel>`
	}
	return golibvirt.ConnectGetCapabilitiesRet{Capabilities: `<capabilities>

  <host>
    <cpu>
      <arch>x86_64</arch>
    </cpu>` + security + `
  </host>

  <guest>
    <os_type>hvm</os_type>
    <arch name='x86_64'>
      <wordsize>64</wordsize>
      <emulator>/usr/bin/qemu-system-x86_64</emulator>
      <machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine>
      <machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
      <domain type='qemu'/>
    </arch>
  </guest>

</capabilities>
`}, nil
}

func nodeInfo(*call, *none) (golibvirt.NodeGetInfoRet, error) {
	ret := golibvirt.NodeGetInfoRet{Memory: 8 << 20, Cpus: 2, Mhz: 2000, Nodes: 1, Sockets: 1, Cores: 2, Threads: 1}
	for i, b := range []byte("x86_64") {
		ret.Model[i] = int8(b)
	}
	return ret, nil
}

// errNotOpen is the answer to a call on a connection that is not open yet.
func errNotOpen() *Error { return fail(codeInternal, fromRPC, "hypervisor connection not open") }
