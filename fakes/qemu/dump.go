//go:build linux

package qemu

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/machineries/machineries/fakes/guest"
)

// dump is what query-dump tells.
type dump struct {
	status           string
	completed, total int64
}

func (du *dump) active() bool { return du.status == "active" }

var dumpCommands = map[string]command{
	"dump-guest-memory": {args: []arg{
		{name: "paging", kind: kindBool}, {name: "protocol", kind: kindString}, {name: "detach", kind: kindBool, optional: true},
		{name: "begin", kind: kindInt, optional: true}, {name: "length", kind: kindInt, optional: true},
		{name: "format", kind: kindEnum, optional: true, values: strings.Fields("elf kdump-zlib kdump-lzo kdump-snappy win-dmp")},
	}, run: dumpGuestMemory},
	"query-dump":                         {run: queryDump},
	"query-dump-guest-memory-capability": {run: queryDumpCapability},
}

func queryDump(m *machine, _ *session, _ *dict) (any, error) {
	status := m.dump.status
	if status == "" {
		status = "none"
	}
	return d("status", status, "completed", m.dump.completed, "total", m.dump.total), nil
}

func queryDumpCapability(*machine, *session, *dict) (any, error) {
	return d("formats", []any{"elf", "kdump-zlib", "win-dmp"}), nil
}

func dumpGuestMemory(m *machine, _ *session, args *dict) (any, error) {
	format := args.str("format")
	switch {
	case m.status == stateInmigrate:
		return nil, generic("Dump not allowed during incoming migration.")
	case m.dump.active():
		return nil, errDumping()
	case format != "" && format != "elf" && (args.flag("paging") || args.has("begin") || args.has("length")):
		return nil, generic("kdump-compressed format doesn't support paging or filter")
	case args.has("begin") && !args.has("length"):
		return nil, generic("Parameter 'length' is missing")
	case !args.has("begin") && args.has("length"):
		return nil, generic("Parameter 'begin' is missing")
	case format == "kdump-lzo":
		return nil, generic("kdump-lzo is not available now")
	case format == "kdump-snappy":
		return nil, generic("kdump-snappy is not available now")
	}
	var out *os.File
	protocol := args.str("protocol")
	if name, ok := strings.CutPrefix(protocol, "fd:"); ok {
		fd, err := m.takeNamed(name)
		if err != nil {
			return nil, err
		}
		out = os.NewFile(uintptr(fd), "dump")
	} else if path, ok := strings.CutPrefix(protocol, "file:"); ok {
		// QEMU makes the file readable for its owner alone, and writes into one that is
		// there.
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o400)
		if err != nil {
			return nil, generic("Could not open '%s': %s", path, strerror(err))
		}
		out = f
	} else {
		return nil, generic("Invalid parameter 'protocol'")
	}
	if format == "kdump-zlib" || format == "win-dmp" {
		out.Close()
		return nil, generic("the fake emulator writes memory dumps as ELF only")
	}
	m.dump = dump{status: "active", total: m.memory + 262144} // QEMU counts the BIOS too
	resume := m.running()
	before := m.status
	m.stop(stateSave)
	m.status = stateSave
	if !args.flag("detach") {
		return nil, m.finishDump(out, resume, before)
	}
	m.after = func() {
		go func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if !m.ending {
				_ = m.finishDump(out, resume, before)
			}
		}()
	}
	return nil, nil
}

// finishDump writes the dump and lets the machine be as before. The machine is
// locked, but not while it writes.
func (m *machine) finishDump(out *os.File, resume bool, before string) error {
	m.mu.Unlock()
	err := writeELF(out, m.memory, m.guest.ReadMemory, func(n int64) {
		m.mu.Lock()
		m.dump.completed = n
		m.mu.Unlock()
	})
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	m.mu.Lock()
	result := d("total", m.dump.total, "status", "completed", "completed", m.dump.total)
	m.dump.status, m.dump.completed = "completed", m.dump.total
	data := d("result", result)
	if err != nil {
		m.dump.status, m.dump.completed = "failed", 0
		result.set("status", "failed")
		result.set("completed", 0)
		data.set("error", err.Error())
	}
	m.event("DUMP_COMPLETED", data)
	m.status = before
	if resume {
		m.status = statePaused
		m.start()
	}
	if err != nil {
		return generic("%s", err.Error())
	}
	return nil
}

// writeELF writes guest memory as an ELF core file.
func writeELF(w io.Writer, memory int64, read func([]byte, int64), progress func(int64)) error {
	if _, err := w.Write(guest.CoreHeader(memory)); err != nil {
		return fmt.Errorf("dump: failed to write elf header: %s", strerror(err))
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < memory; at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), memory-at)]
		read(part, at)
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("dump: failed to save memory: %s", strerror(err))
		}
		progress(at + int64(len(part)))
	}
	return nil
}
