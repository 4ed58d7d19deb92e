//go:build linux

package qemu

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/machinery/config"
)

// The defaults of Config.
const (
	// DefaultQEMU, DefaultQEMUImg and DefaultAgentPort are those of Cuckoo3's qemu.yaml.
	DefaultQEMU      = "/usr/bin/qemu-system-x86_64"
	DefaultQEMUImg   = "/usr/bin/qemu-img"
	DefaultAgentPort = 8000
	// DefaultTcpdump is where Debian and Ubuntu have it.
	DefaultTcpdump = "/usr/bin/tcpdump"
	// DefaultLoadTimeout is how long Cuckoo3's manager waits for a restored machine to run.
	DefaultLoadTimeout = 180 * time.Second
	// DefaultQuitTimeout is long for a QEMU that is well, which needs 5 ms.
	DefaultQuitTimeout = time.Second
)

// Config is what a qemu.yaml holds, for programs that have none. The zero value of a field is its default, where there
// is one.
type Config struct {
	// QEMU is the path of the emulator. Default DefaultQEMU.
	QEMU string
	// QEMUImg is the path of qemu-img, which SaveSnapshot alone uses. Default DefaultQEMUImg.
	QEMUImg string
	// DisposableDir is where the overlays of running machines are. They grow with what the guest writes. Empty means
	// beside each machine's disk.
	DisposableDir string
	// RuntimeDir is where locks, sockets and the ledgers of running machines are. It is made if it is not there, belongs
	// to the user and is closed to others (mode 0700), and those above it belong to the user or root. It has to be absolute.
	// Programs that are to see the same machines have to use the same. machinery.Options.RuntimeDir goes before it. Default:
	// /run/machineries for root; else /run/user/<uid>/machineries if there is a /run/user/<uid>, else /tmp/machineries-<uid>.
	RuntimeDir string
	// Interface is the host's network interface that the guests are reached by; a machine may have its own.
	Interface string
	// LoadTimeout bounds the time from starting QEMU to a machine that is running or paused. Default DefaultLoadTimeout.
	LoadTimeout time.Duration
	// QuitTimeout is how long Stop waits for a QEMU that was told to quit, before it kills it. Default DefaultQuitTimeout.
	QuitTimeout time.Duration
	// AllowArguments are those of every machine.
	AllowArguments []string
	// NoSandbox leaves QEMU's own sandbox out, for a QEMU that was built without. See the package's documentation for what the
	// sandbox keeps QEMU from.
	NoSandbox bool
	// FileQuota is how long, in bytes, each file may become that a QEMU writes to: the disposable disks, and the files of serial
	// ports and captures that a machine's arguments name. It does not count for memory dumps. 0 is no limit, but then a disposable disk
	// is still bounded by the size of the guest's disk.
	FileQuota int64
	// Capture is how traffic is recorded: CaptureFilterDump (the default) or CaptureTcpdump.
	Capture string
	// Tcpdump is the path of tcpdump. Default DefaultTcpdump.
	Tcpdump string
	// Machines are the machines, in the order in which they are listed.
	Machines []MachineConfig

	// file is the path of the configuration file, without symbolic links; empty without a file.
	file string
}

// where is what tells a machine from those of the same name in other configurations: the file that it is in or, without one, its
// disk as it is named. What the files that it names are at the moment makes no difference, so that a machine can be found
// again whatever has become of them.
func (c Config) where(m MachineConfig) string {
	if c.file != "" {
		return "file " + c.file
	}
	if m.Disk == "" {
		return ""
	}
	disk, _ := filepath.Abs(m.Disk)
	return "disk " + disk
}

// MachineConfig is one machine.
type MachineConfig struct {
	// Name is how the machine is addressed. Any text that is not empty; it must be unique.
	Name string
	// Disk is the base disk, a qcow2 or raw image. It is never written to.
	Disk string
	// Snapshot is the memory snapshot that belongs to the disk.
	Snapshot string
	// Info is the machine's machineinfo.json. If Args is not nil it is not read and may be empty.
	Info string
	// Args are the arguments for QEMU, instead of those in Info. They are the program's own, and need nobody's word.
	Args []string
	// AllowArguments allows arguments in Info that could harm the host or let others into the guest, which are refused otherwise.
	// Each is what the error proposes, such as "-gdb" or "-netdev tap"; "-netdev" allows every network and "all" everything.
	// [ReviewArgs] lists them.
	AllowArguments []string

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
	// unsaved makes it a machine that can be booted and not restored: what its configuration file has wrong with the snapshot.
	unsaved error
	// place says where the configuration file has the machine; empty without a file.
	place string
}

func (c Config) withDefaults() Config {
	if c.QEMU == "" {
		c.QEMU = DefaultQEMU
	}
	if c.Capture == "" {
		c.Capture = CaptureFilterDump
	}
	if c.Tcpdump == "" {
		c.Tcpdump = DefaultTcpdump
	}
	if c.QEMUImg == "" {
		c.QEMUImg = DefaultQEMUImg
	}
	if c.LoadTimeout <= 0 {
		c.LoadTimeout = DefaultLoadTimeout
	}
	if c.QuitTimeout <= 0 {
		c.QuitTimeout = DefaultQuitTimeout
	}
	return c
}

// FromDocument reads a Config from a qemu.yaml that the schema accepted. Machines that the schema found wrong are among
// them, each with its problem.
func FromDocument(doc *config.Document) Config {
	c := Config{
		QEMU:          doc.Section("binaries").String("qemu_system_x86_64"),
		QEMUImg:       doc.Section("binaries").String("qemu_img"),
		DisposableDir: doc.String("disposable_copy_dir"),
		RuntimeDir:    doc.String("runtime_dir"),
		Interface:     doc.String("interface"),
		LoadTimeout:   doc.Duration("load_timeout"),
		QuitTimeout:   doc.Duration("quit_timeout"),
		Capture:       doc.String("capture"),
		Tcpdump:       doc.Section("binaries").String("tcpdump"),

		AllowArguments: doc.Strings("allow_arguments"),
		NoSandbox:      !doc.Bool("sandbox"),
		FileQuota:      int64(doc.Int("file_quota")) << 20,

		file: outfile.RealPath(doc.Name()),
	}
	for _, e := range doc.Machines() {
		problem, unsaved := machineProblems(e.Err())
		c.Machines = append(c.Machines, MachineConfig{
			Name:         e.Name,
			Disk:         e.String("qcow2_path"),
			Snapshot:     e.String(snapshotKey),
			Info:         e.String("machineinfo_path"),
			IP:           e.String("ip"),
			MACAddress:   e.String("mac_address"),
			Platform:     e.String("platform"),
			OSVersion:    e.String("os_version"),
			Architecture: e.String("architecture"),
			AgentPort:    e.Int("agent_port"),
			Tags:         e.Strings("tags"),
			Interface:    e.String("interface"),

			AllowArguments: e.Strings("allow_arguments"),

			problem: problem,
			unsaved: unsaved,
			place:   e.Position().String(),
		})
	}
	return c
}

// machineProblems is what a configuration's schema found wrong with a machine, without the lines of the file: what makes it useless,
// and what only keeps it from being restored.
func machineProblems(err error) (problem, unsaved error) {
	found, is := errors.AsType[config.Problems](err)
	if !is {
		return err, nil
	}
	var problems, snapshot []error
	for _, d := range found.Errors() {
		if strings.HasSuffix(d.Path, "."+snapshotKey) {
			snapshot = append(snapshot, d)
		} else {
			problems = append(problems, d)
		}
	}
	return fault.Join(problems), fault.Join(snapshot)
}
