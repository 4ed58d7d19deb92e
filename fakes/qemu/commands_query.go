//go:build linux

package qemu

import (
	"fmt"
	"os"
	"strings"
)

// queryCommandsTable tell things that do not change.
var queryCommandsTable = map[string]command{
	"query-version":             {run: func(*machine, *session, *dict) (any, error) { return version(), nil }},
	"query-name":                {run: queryName},
	"query-uuid":                {run: func(m *machine, _ *session, _ *dict) (any, error) { return d("UUID", m.uuidText()), nil }},
	"query-kvm":                 {run: queryKVM},
	"query-target":              {run: func(*machine, *session, *dict) (any, error) { return d("arch", "x86_64"), nil }},
	"query-cpus-fast":           {run: queryCPUs},
	"query-machines":            {run: queryMachines},
	"query-current-machine":     {run: func(*machine, *session, *dict) (any, error) { return d("wakeup-suspend-support", true), nil }},
	"query-memory-size-summary": {run: queryMemory},
	"query-iothreads":           {run: nothingYet},
	"query-jobs":                {run: nothingYet},
	"query-block-jobs":          {run: nothingYet},
	"query-memory-devices":      {run: nothingYet},
	"query-acpi-ospm-status":    {run: nothingYet},
	"query-mice":                {run: queryMice},
	"query-balloon": {run: func(*machine, *session, *dict) (any, error) {
		return nil, &qerror{"DeviceNotActive", "No balloon device has been activated"}
	}},
	"query-chardev": {run: queryChardev},
	"query-pci":     {run: queryPCI},
	"query-yank":    {oob: true, run: queryYank},
}

// nothingYet answers for what a machine of the fake has none of.
func nothingYet(*machine, *session, *dict) (any, error) { return []any{}, nil }

func queryName(m *machine, _ *session, _ *dict) (any, error) {
	if m.name == "" {
		return d(), nil
	}
	return d("name", m.name), nil
}

func queryKVM(m *machine, _ *session, _ *dict) (any, error) {
	return d("enabled", strings.HasPrefix(m.accel, "kvm"), "present", true), nil
}

func queryCPUs(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for i := range m.cpus {
		path := "/machine/unattached/device[0]"
		if i > 0 {
			path = fmt.Sprintf("/machine/unattached/device[%d]", i+1)
		}
		list = append(list, d("cpu-index", i, "qom-path", path, "thread-id", os.Getpid(),
			"props", d("core-id", 0, "thread-id", 0, "socket-id", i), "target", "x86_64"))
	}
	return list, nil
}

// queryMachines answers with the machine that runs alone.
func queryMachines(m *machine, _ *session, _ *dict) (any, error) {
	e := d("name", m.machineType, "cpu-max", 255, "hotpluggable-cpus", true, "numa-mem-supported", false, "deprecated", false,
		"default-cpu-type", "qemu64-x86_64-cpu", "default-ram-id", "pc.ram")
	for short, long := range machineTypes {
		if long == m.machineType && short != long {
			e.set("alias", short)
		}
	}
	if strings.Contains(m.machineType, "q35") {
		e.set("cpu-max", 288)
	} else {
		e.set("is-default", true)
	}
	return []any{e}, nil
}

func queryMemory(m *machine, _ *session, _ *dict) (any, error) {
	return d("base-memory", m.memory, "plugged-memory", 0), nil
}

func queryMice(*machine, *session, *dict) (any, error) {
	return []any{d("index", 2, "name", "QEMU PS/2 Mouse", "current", true, "absolute", false)}, nil
}

func queryChardev(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	// QEMU lists them as its hash table of objects has them; here it is the order in
	// which they were made.
	for _, c := range m.chardevs {
		list = append(list, d("frontend-open", true, "filename", c.describe(), "label", c.id))
	}
	return list, nil
}

func (c *chardev) describe() string {
	if strings.HasSuffix(c.filename, ",server=on") && !c.isOpen() {
		return "disconnected:" + c.filename
	}
	return c.filename
}

func queryYank(m *machine, _ *session, _ *dict) (any, error) {
	list := []any{}
	for _, c := range m.chardevs {
		if strings.Contains(c.filename, "unix:") {
			list = append(list, d("type", "chardev", "id", c.id))
		}
	}
	return list, nil
}

// pciDevice is one that is on the board of a machine type.
type pciDevice struct {
	slot, function, device, class int
	desc                          string
	regions                       []any
}

// boards are the devices that every machine of a type has, as QEMU 7.2 lists them
// under -nodefaults. What -device adds is not listed.
var boards = map[bool][]pciDevice{
	true: { // q35
		{0, 0, 10688, 1536, "Host bridge", nil},
		{31, 0, 10520, 1537, "ISA bridge", nil},
		{31, 2, 10530, 262, "SATA controller", []any{
			d("bar", 4, "type", "io", "address", -1, "size", 32), d("bar", 5, "type", "memory", "address", -1, "size", 4096, "prefetch", false, "mem_type_64", false)}},
		{31, 3, 10544, 3077, "SMBus", []any{d("bar", 4, "type", "io", "address", -1, "size", 64)}},
	},
	false: { // i440fx
		{0, 0, 4663, 1536, "Host bridge", nil},
		{1, 0, 28672, 1537, "ISA bridge", nil},
		{1, 1, 28688, 257, "IDE controller", []any{d("bar", 4, "type", "io", "address", -1, "size", 16)}},
		{1, 3, 28947, 1664, "Bridge", nil},
	},
}

func queryPCI(m *machine, _ *session, _ *dict) (any, error) {
	devices := []any{}
	for _, p := range boards[strings.Contains(m.machineType, "q35")] {
		regions := p.regions
		if regions == nil {
			regions = []any{}
		}
		e := d("bus", 0, "slot", p.slot, "function", p.function, "class_info", d("desc", p.desc, "class", p.class),
			"id", d("device", p.device, "vendor", 32902, "subsystem", 4352, "subsystem-vendor", 6900), "irq_pin", 0, "qdev_id", "", "regions", regions)
		if p.function > 1 { // these have an interrupt
			e.set("irq_pin", 1)
			e.set("irq", 0)
		}
		devices = append(devices, e)
	}
	return []any{d("bus", 0, "devices", devices)}, nil
}
