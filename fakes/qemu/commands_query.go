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
		"default-cpu-type", "qemu64-x86_64-cpu", "default-ram-id", "pc.ram", "acpi", true)
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
	// QEMU lists them by name, as its object tree does.
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
	for i := len(m.chardevs) - 1; i >= 0; i-- {
		if strings.Contains(m.chardevs[i].filename, "unix:") {
			list = append(list, d("type", "chardev", "id", m.chardevs[i].id))
		}
	}
	return list, nil
}
