//go:build linux

package kvm

import (
	"path/filepath"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// The defaults of Config.
const (
	// DefaultURI is the hypervisor of this host, as in Cuckoo3's kvm.yaml.
	DefaultURI = "qemu:///system"
	// DefaultAgentPort is that of Cuckoo3's kvm.yaml.
	DefaultAgentPort = 8000
	// DefaultTcpdump is where Debian and Ubuntu have it.
	DefaultTcpdump = "/usr/bin/tcpdump"
	// DefaultLoadTimeout is how long Cuckoo3's manager waits for a restored machine to run.
	DefaultLoadTimeout = 180 * time.Second
	// DefaultStopTimeout is longer than libvirt itself takes: 9.0.0 needs 0.2 s for a QEMU that is well and 10 s for one that has to be
	// killed, and gives up on one that does not die after 15 s.
	DefaultStopTimeout = 17 * time.Second
	// DefaultCallTimeout is long for libvirt, which answers a question in less than a millisecond unless something is wrong.
	DefaultCallTimeout = 10 * time.Second
)

// Config is what a kvm.yaml holds, for programs that have none. The zero value of a field is its default, where there is one.
type Config struct {
	// URI is how libvirt is reached: qemu:///system, test:///default, qemu+unix:///system?socket=PATH, and what else package rpc
	// knows. Default DefaultURI.
	URI string
	// RuntimeDir is where the locks and the ledgers of running machines are. It is made if it is not there, belongs to the user and is closed to
	// others (mode 0700), and those above it belong to the user or root. It has to be absolute. Programs that are to see
	// the same machines have to use the same. machinery.Options.RuntimeDir goes before it. Default: /run/machineries for root; else
	// /run/user/<uid>/machineries if there is a /run/user/<uid>, else /tmp/machineries-<uid>.
	RuntimeDir string
	// DisposableDir is where the overlays of machines with a memory image are. Empty means beside each disk.
	DisposableDir string
	// Interface is the host's network interface that the guests are reached by; a machine may have its own.
	Interface string
	// LoadTimeout bounds the time that a machine may take to be restored or to boot. Default DefaultLoadTimeout.
	LoadTimeout time.Duration
	// StopTimeout bounds the time that libvirt may take to end a machine. Default DefaultStopTimeout.
	StopTimeout time.Duration
	// CallTimeout bounds each other call of libvirt. Default DefaultCallTimeout.
	CallTimeout time.Duration
	// Capture is how traffic is recorded: CaptureTcpdump (the default) or CaptureFilterDump.
	Capture string
	// Tcpdump is the path of tcpdump. Default DefaultTcpdump.
	Tcpdump string
	// Machines are the machines, in the order in which they are listed.
	Machines []MachineConfig
}

// MachineConfig is one machine.
type MachineConfig struct {
	// Name is how the machine is addressed. Any text that is not empty; it must be unique.
	Name string
	// Label is the name of the libvirt domain.
	Label string
	// Snapshot is the snapshot of the domain that is restored; empty means its current one.
	Snapshot string
	// Memory is the path of a memory image, as virsh save writes it, that is restored instead of a snapshot: with an empty overlay
	// above each of the domain's disks, which are never written to. It is a path on the host of libvirt, which has to be this one.
	Memory string

	// IP, MACAddress, Platform, OSVersion, Architecture, AgentPort and Tags are passed on in machinery.Machine. AgentPort
	// is DefaultAgentPort if it is 0.
	IP, MACAddress                    string
	Platform, OSVersion, Architecture string
	AgentPort                         int
	Tags                              []string
	// Interface is Config.Interface if it is empty.
	Interface string

	// problem makes the machine unusable from the outset: what its configuration file has wrong.
	problem error
	// place says where the configuration file has the machine; empty without a file.
	place string
}

func (c Config) withDefaults() Config {
	if c.URI == "" {
		c.URI = DefaultURI
	}
	if c.Capture == "" {
		c.Capture = CaptureTcpdump
	}
	if c.Tcpdump == "" {
		c.Tcpdump = DefaultTcpdump
	}
	if c.LoadTimeout <= 0 {
		c.LoadTimeout = DefaultLoadTimeout
	}
	if c.StopTimeout <= 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	if c.CallTimeout <= 0 {
		c.CallTimeout = DefaultCallTimeout
	}
	return c
}

// FromDocument reads a Config from a kvm.yaml that the schema accepted. Machines that the schema found wrong are among them,
// each with its problem.
func FromDocument(doc *config.Document) Config {
	c := Config{
		URI:           doc.String("dsn"),
		Interface:     doc.String("interface"),
		RuntimeDir:    doc.String("runtime_dir"),
		DisposableDir: doc.String("disposable_copy_dir"),
		LoadTimeout:   doc.Duration("load_timeout"),
		StopTimeout:   doc.Duration("stop_timeout"),
		CallTimeout:   doc.Duration("call_timeout"),
		Capture:       doc.String("capture"),
		Tcpdump:       doc.String("tcpdump"),
	}
	for _, e := range doc.Machines() {
		c.Machines = append(c.Machines, MachineConfig{
			Name:         e.Name,
			Label:        e.String("label"),
			Snapshot:     e.String("snapshot"),
			Memory:       e.String("memory_path"),
			IP:           e.String("ip"),
			MACAddress:   e.String("mac_address"),
			Platform:     e.String("platform"),
			OSVersion:    e.String("os_version"),
			Architecture: e.String("architecture"),
			AgentPort:    e.Int("agent_port"),
			Tags:         e.Strings("tags"),
			Interface:    e.String("interface"),

			problem: e.Err(),
			place:   e.Position().String(),
		})
	}
	return c
}

// absolute is a path as other processes see it; empty stays empty.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
