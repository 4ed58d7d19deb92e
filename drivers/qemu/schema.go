//go:build linux

package qemu

import (
	_ "embed"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// Schema is the schema of qemu.yaml. Its keys are those of Cuckoo3, whose files load unchanged, and optional ones of this driver:
// runtime_dir, load_timeout, quit_timeout, sandbox, file_quota, allow_arguments, capture and, among the binaries, tcpdump.
func Schema() *config.Schema { return schema }

// Template is qemu.yaml.jinja2, from which an example configuration is rendered.
//
//go:embed qemu.yaml.jinja2
var Template string

var shortest = time.Millisecond

var schema = &config.Schema{
	Name: "qemu",
	Doc:  "Machines that run in QEMU, one process each, restored from a disk and a memory snapshot.",
	Fields: []config.Field{
		{Key: "interface", Example: "br0", Type: config.NetworkInterface{MustExist: true},
			Doc: "The network interface of the host that the machines are reached by. Each machine can have its own."},
		{Key: "disposable_copy_dir", AllowEmpty: true, Type: config.DirectoryPath{MustExist: true, Writable: true},
			Doc: "The directory for the disposable disks of running machines. Empty: beside each machine's disk."},
		{Key: "runtime_dir", Optional: true, AllowEmpty: true, Type: config.DirectoryPath{},
			Doc: "The directory for locks and sockets of running machines, closed to other users. It has to be a whole path. Empty: /run/machineries for root, else /run/user/<uid>/machineries, or /tmp/machineries-<uid> without that."},
		{Key: "load_timeout", Optional: true, Default: DefaultLoadTimeout, Type: config.Duration{Min: &shortest},
			Doc: "How long a machine may take from starting QEMU to running or paused."},
		{Key: "quit_timeout", Optional: true, Default: DefaultQuitTimeout, Type: config.Duration{Min: &shortest},
			Doc: "How long a QEMU that was told to quit may take before it is killed."},
		{Key: "sandbox", Optional: true, Default: true, Type: config.Bool{},
			Doc: "Whether QEMU runs in its own sandbox, in which it cannot start programs or change its rights. Only a QEMU that was built without it needs false."},
		{Key: "file_quota", Optional: true, Default: 0, Type: config.Between(0, 1<<30),
			Doc: "How long each file may become that QEMU writes to, such as a disposable disk or the log of a serial port, in MiB. 0 is no limit."},
		{Key: "allow_arguments", Optional: true, AllowEmpty: true, Default: []string{}, Type: config.List{},
			Doc: "Arguments that machines may have though they could harm the host or let others into the guest. Each machine can have its own."},
		{Key: "capture", Optional: true, AllowEmpty: true, Default: CaptureFilterDump, Type: config.String{OneOf: []string{CaptureTcpdump, CaptureFilterDump}},
			Doc: "How a machine's traffic is recorded: filter-dump (by QEMU itself, which needs no rights) or tcpdump (on the machine's interface, by its address)."},
		{Key: "binaries", Doc: "The programs of QEMU.", Type: config.Section{Fields: []config.Field{
			{Key: "qemu_img", Example: "/usr/bin/qemu-img", Type: config.FilePath{Readable: true, Executable: true},
				Doc: "The path of qemu-img. Making a snapshot uses it, restoring does not."},
			{Key: "qemu_system_x86_64", Example: DefaultQEMU, Type: config.FilePath{Readable: true, Executable: true},
				Doc: "The path of the emulator."},
			{Key: "tcpdump", Optional: true, AllowEmpty: true, Default: DefaultTcpdump, Type: config.FilePath{},
				Doc: "The path of tcpdump. It is used if capture says so."},
		}}},
		{Key: "machines", Doc: "The machines, by name.", Type: config.Machines{
			Example: "example1",
			Unique:  []string{"qcow2_path", "snapshot_path", "ip", "mac_address"},
			Fields:  machineFields,
		}},
	},
}

// snapshotKey is the key of a machine's memory snapshot, the one file that a machine can be booted without.
const snapshotKey = "snapshot_path"

var machineFields = []config.Field{
	{Key: "qcow2_path", Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/disk.qcow2", Type: config.FilePath{Readable: true},
		Doc: "The machine's disk. It is never written to."},
	{Key: snapshotKey, Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/memory.snapshot", Type: config.FilePath{Readable: true},
		Doc: "The memory snapshot that belongs to the disk: raw, or compressed with gzip, lz4 or zstd."},
	{Key: "machineinfo_path", Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/machineinfo.json", Type: config.FilePath{Readable: true},
		Doc: "A JSON file with the arguments for QEMU in machine.start_args; %DISPOSABLE_DISK_PATH% in them stands for the disposable disk."},
	{Key: "ip", Example: "192.168.30.101", Type: config.IPAddress{},
		Doc: "The address at which the guest answers."},
	{Key: "mac_address", Optional: true, AllowEmpty: true, Type: config.MACAddress{ToLower: true},
		Doc: "The address of the guest's network card."},
	{Key: "platform", Example: "windows", Type: config.String{ToLower: true},
		Doc: "The guest's operating system."},
	{Key: "os_version", Example: "10", Type: config.String{},
		Doc: "The version of the guest's operating system."},
	{Key: "architecture", Example: "amd64", Type: config.String{ToLower: true},
		Doc: "The guest's processor architecture."},
	{Key: "interface", Optional: true, AllowEmpty: true, Type: config.NetworkInterface{MustExist: true},
		Doc: "The network interface of the host that this machine is reached by, if it is not the one above."},
	{Key: "agent_port", Optional: true, Default: DefaultAgentPort, Type: config.Between(1, 65535),
		Doc: "The TCP port of the agent in the guest."},
	{Key: "allow_arguments", Optional: true, AllowEmpty: true, Default: []string{}, Type: config.List{},
		Doc: "Arguments in the machineinfo.json that the machine may have though they could harm the host or let others into the guest, such as \"-gdb\" or \"-netdev tap\"; the message that refuses one says what to write here."},
	{Key: "tags", AllowEmpty: true, Example: []string{"exampletag1", "exampletag2"}, Type: config.List{},
		Doc: "Words for what the machine offers."},
}
