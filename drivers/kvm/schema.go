//go:build linux

package kvm

import (
	_ "embed"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// Schema is the schema of kvm.yaml. Its keys are those of Cuckoo3, whose files load unchanged, and optional ones of this driver:
// runtime_dir, disposable_copy_dir, load_timeout, stop_timeout, call_timeout, capture, tcpdump and, for a machine, memory_path.
func Schema() *config.Schema { return schema }

// Template is kvm.yaml.jinja2, from which an example configuration is rendered.
//
//go:embed kvm.yaml.jinja2
var Template string

var shortest = time.Millisecond

var schema = &config.Schema{
	Name: "kvm",
	Doc:  "Machines that are domains of libvirt, restored from its snapshots.",
	Fields: []config.Field{
		{Key: "dsn", Example: DefaultURI, Type: config.HypervisorURI{},
			Doc: "How libvirt is reached: by its URI, or by the path of its socket."},
		{Key: "interface", Example: "virbr0", Type: config.NetworkInterface{MustExist: true},
			Doc: "The network interface of the host that the machines are reached by. Each machine can have its own."},
		{Key: "runtime_dir", Optional: true, AllowEmpty: true, Type: config.DirectoryPath{},
			Doc: "The directory for locks of running machines, closed to other users. It has to be a whole path. Empty: /run/machineries for root, else /run/user/<uid>/machineries, or /tmp/machineries-<uid> without that."},
		{Key: "disposable_copy_dir", Optional: true, AllowEmpty: true, Type: config.DirectoryPath{MustExist: true, Writable: true},
			Doc: "The directory for the disposable disks of machines with a memory_path. Empty: beside each machine's disks."},
		{Key: "load_timeout", Optional: true, Default: DefaultLoadTimeout, Type: config.Duration{Min: &shortest},
			Doc: "How long a machine may take to be restored, or to boot."},
		{Key: "stop_timeout", Optional: true, Default: DefaultStopTimeout, Type: config.Duration{Min: &shortest},
			Doc: "How long libvirt may take to end a machine."},
		{Key: "call_timeout", Optional: true, Default: DefaultCallTimeout, Type: config.Duration{Min: &shortest},
			Doc: "How long libvirt may take to answer any other call."},
		{Key: "capture", Optional: true, AllowEmpty: true, Default: CaptureTcpdump, Type: config.String{OneOf: []string{CaptureTcpdump, CaptureFilterDump}},
			Doc: "How a machine's traffic is recorded: tcpdump (on the machine's interface, by its address) or filter-dump (by QEMU itself, where libvirt runs on this host)."},
		{Key: "tcpdump", Optional: true, AllowEmpty: true, Default: DefaultTcpdump, Type: config.FilePath{},
			Doc: "The path of tcpdump. It is used if capture says so."},
		{Key: "machines", Doc: "The machines, by name.", Type: config.Machines{
			Example: "example2",
			Unique:  []string{"label", "ip"},
			Fields:  machineFields,
		}},
	},
}

var machineFields = []config.Field{
	{Key: "label", Example: "win10_1", Type: config.String{},
		Doc: "The name of the machine's domain in libvirt."},
	{Key: "ip", Example: "192.168.122.101", Type: config.IPAddress{},
		Doc: "The address at which the guest answers."},
	{Key: "platform", Example: "windows", Type: config.String{ToLower: true},
		Doc: "The guest's operating system."},
	{Key: "os_version", Example: "10", Type: config.String{},
		Doc: "The version of the guest's operating system."},
	{Key: "mac_address", Optional: true, AllowEmpty: true, Type: config.MACAddress{ToLower: true},
		Doc: "The address of the guest's network card."},
	{Key: "snapshot", Optional: true, AllowEmpty: true, Type: config.String{},
		Doc: "The snapshot that is restored. Empty: the domain's current one."},
	{Key: "memory_path", Optional: true, AllowEmpty: true, Type: config.FilePath{},
		Doc: "A memory image, as virsh save writes it, that is restored instead of a snapshot, with a disposable disk above each of the domain's disks."},
	{Key: "interface", Optional: true, AllowEmpty: true, Type: config.NetworkInterface{},
		Doc: "The network interface of the host that this machine is reached by, if it is not the one above."},
	{Key: "agent_port", Optional: true, Default: DefaultAgentPort, Type: config.Between(1, 65535),
		Doc: "The TCP port of the agent in the guest."},
	{Key: "architecture", Example: "amd64", Type: config.String{ToLower: true},
		Doc: "The guest's processor architecture."},
	{Key: "tags", AllowEmpty: true, Example: []string{"exampletag1", "exampletag2"}, Type: config.List{},
		Doc: "Words for what the machine offers."},
}
