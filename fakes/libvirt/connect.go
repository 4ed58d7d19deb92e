package libvirt

import (
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

// Features that libvirtd is asked for, by number (VIR_DRV_FEATURE_), which it
// has. Seen with virsh 9.0.0: it asks for 10, 14, 15 and 22 or so, and gets on without.
var features = []int32{
	8,  // remote close callback
	10, // program keepalive
	14, // remote close callback
	15, // remote event callback
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

func supportsFeature(_ *call, a *golibvirt.ConnectSupportsFeatureArgs) (golibvirt.ConnectSupportsFeatureRet, error) {
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
	known := []string{"", "qemu:///system", "qemu:///session"}
	if c.opts.Flavour == Test {
		known = []string{"", "test:///default"}
	}
	if !slices.Contains(known, name) {
		return none{}, &Error{Code: 5, Domain: 0, Message: "no connection driver available for " + name}
	}
	c.client.opened = true
	return none{}, nil
}

// connectClose ends a connection, when its answer is on its way.
func connectClose(c *call, _ *none) (none, error) {
	c.client.opened = false
	c.client.forget()
	return none{}, nil
}

func connectType(c *call, _ *none) (golibvirt.ConnectGetTypeRet, error) {
	if c.opts.Flavour == Test {
		return golibvirt.ConnectGetTypeRet{Type: "Test"}, nil
	}
	return golibvirt.ConnectGetTypeRet{Type: "QEMU"}, nil
}

func connectCapabilities(*call, *none) (golibvirt.ConnectGetCapabilitiesRet, error) {
	return golibvirt.ConnectGetCapabilitiesRet{Capabilities: `<capabilities>

  <host>
    <cpu>
      <arch>x86_64</arch>
    </cpu>
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
