package config

import (
	"time"
)

// The schemas of Cuckoo3's own two files, key for key as its typeloaders have them, are what the tests read most files with.

var machineTail = []Field{
	{Key: "platform", Doc: "The guest's operating system.", Type: String{ToLower: true}, Example: "windows"},
	{Key: "os_version", Doc: "The version of the guest's operating system.", Type: String{}, Example: "10"},
	{Key: "architecture", Doc: "The guest's processor.", Type: String{ToLower: true}, Example: "amd64"},
	{Key: "interface", Doc: "The interface of this machine, where it differs.", Type: NetworkInterface{MustExist: true}, Optional: true, AllowEmpty: true},
	{Key: "agent_port", Doc: "The agent's port in the guest.", Type: Between(1, 65535), Optional: true, Default: 8000},
	{Key: "tags", Doc: "What the machine can be chosen by.", Type: List{Of: String{}}, AllowEmpty: true, Example: []string{"exampletag1", "exampletag2"}},
}

func qemuSchema() *Schema {
	return &Schema{Name: "qemu", Doc: "Machines that run in QEMU.", Fields: []Field{
		{Key: "interface", Doc: "The network interface that the machines' traffic passes.", Type: NetworkInterface{MustExist: true}, Example: "br0"},
		{Key: "disposable_copy_dir", Doc: "Where the machines' overlays are made.", Type: DirectoryPath{MustExist: true, Writable: true}, AllowEmpty: true},
		{Key: "binaries", Doc: "The programs of QEMU.", Type: Section{Fields: []Field{
			{Key: "qemu_img", Doc: "The disk image tool.", Type: FilePath{Readable: true, Executable: true}, Example: "/usr/bin/qemu-img"},
			{Key: "qemu_system_x86_64", Doc: "The emulator.", Type: FilePath{Readable: true, Executable: true}, Example: "/usr/bin/qemu-system-x86_64"},
		}}},
		{Key: "machines", Doc: "The machines.", Type: Machines{
			Example: "example1",
			Unique:  []string{"ip", "qcow2_path", "snapshot_path", "mac_address"},
			Fields: append([]Field{
				{Key: "qcow2_path", Doc: "The machine's disk.", Type: FilePath{Readable: true}, Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/disk.qcow2"},
				{Key: "snapshot_path", Doc: "The machine's memory snapshot.", Type: FilePath{Readable: true}, Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/memory.snapshot"},
				{Key: "machineinfo_path", Doc: "The machine's QEMU arguments.", Type: FilePath{Readable: true}, Example: "/home/cuckoo/.vmcloak/vms/qemu/win10_1/machineinfo.json"},
				{Key: "ip", Doc: "The machine's address.", Type: IPAddress{}, Example: "192.168.30.101"},
				{Key: "mac_address", Doc: "The address of its network card.", Type: MACAddress{ToLower: true}, Optional: true, AllowEmpty: true},
			}, machineTail...),
		}},
	}}
}

func kvmSchema() *Schema {
	return &Schema{Name: "kvm", Doc: "Machines that libvirt runs.", Fields: []Field{
		{Key: "dsn", Doc: "How libvirt is reached.", Type: HypervisorURI{}, Example: "qemu:///system"},
		{Key: "interface", Doc: "The network interface that the machines' traffic passes.", Type: NetworkInterface{MustExist: true}, Example: "virbr0"},
		{Key: "machines", Doc: "The machines.", Type: Machines{
			Example: "example1",
			Unique:  []string{"label", "ip"},
			Fields: []Field{
				{Key: "label", Doc: "The domain's name.", Type: String{}, Example: "win10_1"},
				{Key: "ip", Doc: "The machine's address.", Type: IPAddress{}, Example: "192.168.122.101"},
				{Key: "platform", Type: String{ToLower: true}, Example: "windows"},
				{Key: "os_version", Type: String{}, Example: "10"},
				{Key: "mac_address", Type: MACAddress{ToLower: true}, Optional: true, AllowEmpty: true},
				{Key: "snapshot", Doc: "The snapshot to restore; the current one if not set.", Type: String{}, Optional: true, AllowEmpty: true},
				{Key: "interface", Type: NetworkInterface{}, Optional: true, AllowEmpty: true},
				{Key: "agent_port", Type: Between(1, 65535), Optional: true, Default: 8000},
				{Key: "architecture", Type: String{ToLower: true}, Example: "amd64"},
				{Key: "tags", Type: List{}, AllowEmpty: true},
			},
		}},
	}}
}

// everySchema has every type, with every constraint, each key optional so that a file may hold one alone.
func everySchema() *Schema {
	return &Schema{Name: "every", Doc: "A key of every type.", Fields: []Field{
		{Key: "text", Type: String{}, Optional: true, Default: "default text"},
		{Key: "lower", Type: String{ToLower: true}, Optional: true, AllowEmpty: true},
		{Key: "mode", Type: String{ToLower: true, OneOf: []string{"fast", "careful"}}, Optional: true, Default: "careful"},
		{Key: "password", Type: String{}, Optional: true, Sensitive: true},
		{Key: "pin", Type: Between(1000, 9999), Optional: true, Sensitive: true},
		{Key: "number", Type: Int{}, Optional: true},
		{Key: "port", Type: Between(1, 65535), Optional: true, Default: 8000, Example: 8000},
		{Key: "not_negative", Type: Int{Min: new(int64(0))}, Optional: true, Default: 3},
		{Key: "not_positive", Type: Int{Max: new(int64(0))}, Optional: true, AllowEmpty: true},
		{Key: "flag", Type: Bool{}, Optional: true, Default: true},
		{Key: "file", Type: FilePath{}, Optional: true, AllowEmpty: true},
		{Key: "present", Type: FilePath{MustExist: true}, Optional: true},
		{Key: "readable", Type: FilePath{Readable: true}, Optional: true},
		{Key: "writable", Type: FilePath{Writable: true}, Optional: true},
		{Key: "program", Type: FilePath{Executable: true}, Optional: true},
		{Key: "directory", Type: DirectoryPath{}, Optional: true},
		{Key: "work", Type: DirectoryPath{MustExist: true, Readable: true, Writable: true}, Optional: true},
		{Key: "socket", Type: UnixSocketPath{}, Optional: true},
		{Key: "monitor", Type: UnixSocketPath{MustExist: true, Writable: true}, Optional: true},
		{Key: "bridge", Type: NetworkInterface{}, Optional: true},
		{Key: "interface", Type: NetworkInterface{MustExist: true}, Optional: true},
		{Key: "uplink", Type: NetworkInterface{MustBeUp: true}, Optional: true},
		{Key: "mac", Type: MACAddress{}, Optional: true},
		{Key: "ip", Type: IPAddress{}, Optional: true},
		{Key: "ip4", Type: IPAddress{Version: 4}, Optional: true},
		{Key: "ip6", Type: IPAddress{Version: 6}, Optional: true},
		{Key: "dsn", Type: HypervisorURI{}, Optional: true, Default: "qemu:///system"},
		{Key: "url", Type: HTTPUrl{}, Optional: true},
		{Key: "timeout", Type: Duration{Min: new(time.Second), Max: new(time.Hour)}, Optional: true, Default: time.Minute},
		{Key: "delay", Type: Duration{}, Optional: true},
		{Key: "tags", Type: List{}, Optional: true, Default: []string{"a", "b"}},
		{Key: "ports", Type: List{Of: Between(1, 65535)}, Optional: true, AllowEmpty: true},
		{Key: "labels", Type: Dict{}, Optional: true},
		{Key: "weights", Type: Dict{Of: Between(0, 9)}, Optional: true},
		{Key: "disks", Type: DictList{Unique: []string{"path"}, Fields: []Field{
			{Key: "path", Type: FilePath{}, Example: "/vms/disk.qcow2"},
			{Key: "read_only", Type: Bool{}, Optional: true},
		}}, Optional: true},
		{Key: "limits", Type: Section{Fields: []Field{
			{Key: "memory", Type: Int{Min: new(int64(1))}, Optional: true, Default: 1024},
			{Key: "cpus", Type: Int{Min: new(int64(1))}, Optional: true},
		}}, Optional: true},
		{Key: "login", Type: Section{Fields: []Field{
			{Key: "user", Type: String{}, Example: "root"},
			{Key: "token", Type: String{}, Sensitive: true},
		}}, Optional: true},
		{Key: "machines", Type: Machines{Unique: []string{"ip", "mac", "disk"}, Fields: []Field{
			{Key: "ip", Type: IPAddress{}, Example: "192.168.30.101"},
			{Key: "mac", Type: MACAddress{}, Optional: true, AllowEmpty: true},
			{Key: "disk", Type: FilePath{}, Optional: true, AllowEmpty: true},
			{Key: "port", Type: Between(1, 65535), Optional: true, Default: 8000},
		}}, Optional: true, AllowEmpty: true},
	}}
}
