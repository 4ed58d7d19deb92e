//go:build linux

package qemu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// The saved state of a machine. It begins as QEMU's does (magic, version 3, a configuration section that
// names the machine type, a section "ram" that says how large memory is), so that each takes the
// other's for what it is: a state of another emulator. The rest is the fake's own:
//
//	"ram" section:    flags, block name and size, then ramFill bytes that stand for pages
//	"guest" section:  length, run state, the guest model's state, CRC-32 of the payload
//	end marker
//	description:      of the sections, in JSON with its length before it, as QEMU writes last
const (
	streamMagic   = 0x5145564d // "QEVM"
	streamVersion = 3
	sectionEOF    = 0
	sectionStart  = 1
	sectionFull   = 4
	sectionDesc   = 6
	sectionConfig = 7
	ramFlagSize   = 4

	ramFill  = 690 << 10 // a boot sector's real state is about 700 KB
	maxState = 1 << 20
)

// saved is what a stream holds.
type saved struct {
	machineType string
	memory      int64
	status      string
	guest       []byte
}

func putName(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// head is the stream up to the guest's state: what a live migration sends while the
// guest still runs.
func (s *saved) head() []byte {
	be := binary.BigEndian
	b := be.AppendUint32(nil, streamMagic)
	b = be.AppendUint32(b, streamVersion)
	b = append(b, sectionConfig)
	b = be.AppendUint32(b, uint32(len(s.machineType)))
	b = append(b, s.machineType...)
	b = append(b, sectionStart)
	b = be.AppendUint32(b, 2)
	b = putName(b, "ram")
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, 4)
	b = be.AppendUint64(b, uint64(s.memory)|ramFlagSize)
	b = putName(b, "pc.ram")
	b = be.AppendUint64(b, uint64(s.memory))
	b = be.AppendUint32(b, ramFill)
	fill := make([]byte, ramFill)
	for i := range fill {
		fill[i] = byte(i>>4) ^ byte(i>>12)*31
	}
	return append(b, fill...)
}

// tail is the rest.
func (s *saved) tail() []byte {
	be := binary.BigEndian
	payload := append(putName(nil, s.status), s.guest...)
	b := append([]byte{}, sectionFull)
	b = be.AppendUint32(b, 3)
	b = putName(b, "guest")
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	b = be.AppendUint32(b, crc32.ChecksumIEEE(payload))
	b = append(b, sectionEOF, sectionDesc)
	b = be.AppendUint32(b, uint32(len(description)))
	return append(b, description...)
}

// description is what a state ends with. Nobody has to read it: QEMU skips it, and does not miss it.
const description = `{"page_size": 4096, "devices": [{"name": "guest", "instance_id": 0, "vmsd_name": "", "version": 1}]}`

// loadError is a stream that cannot be loaded: what QEMU says on stderr, line by
// line.
type loadError struct{ lines []string }

func (e *loadError) Error() string { return strings.Join(e.lines, "\n") }

func loadFailure(errno string, lines ...string) error {
	return &loadError{append(lines, "load of migration failed: "+errno)}
}

const (
	ioError      = "Input/output error"
	invalid      = "Invalid argument"
	notSupported = "Operation not supported"
)

// readStream reads a state and holds it against the machine that is to become it.
// Errors have QEMU's texts for the same fault.
func readStream(r io.Reader, machineType string, memory int64) (*saved, error) {
	be := binary.BigEndian
	// Reads beyond the end give zeros, as in QEMU's; short says whether that happened.
	short := false
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			short = true
		}
		return b
	}
	if be.Uint32(read(4)) != streamMagic {
		return nil, loadFailure(invalid, "Not a migration stream")
	}
	switch v := be.Uint32(read(4)); v {
	case streamVersion:
	case 2:
		return nil, loadFailure(notSupported, "SaveVM v2 format is obsolete and don't work anymore")
	default:
		return nil, loadFailure(notSupported, "Unsupported migration stream version")
	}
	if read(1)[0] != sectionConfig {
		return nil, loadFailure(invalid, "Configuration section missing")
	}
	n := be.Uint32(read(4))
	if short {
		return nil, loadFailure(ioError, "Failed to load configuration:len")
	}
	if n > 256 {
		return nil, loadFailure(ioError, "Failed to load configuration:name")
	}
	s := &saved{machineType: string(read(int(n)))}
	if short {
		return nil, loadFailure(ioError, "Failed to load configuration:name")
	}
	if s.machineType != machineType {
		return nil, loadFailure(invalid, fmt.Sprintf("Machine type received is '%s' and local is '%s'", s.machineType, machineType))
	}
	kind := read(1)[0]
	if short || kind != sectionStart {
		return nil, loadFailure(ioError, fmt.Sprintf("Unknown savevm section type %d", kind))
	}
	id := be.Uint32(read(4))
	if name := string(read(int(read(1)[0]))); short || name != "ram" || id != 2 {
		return nil, loadFailure(invalid, fmt.Sprintf("Unable to read ID string for section %d", id))
	}
	read(8)
	flags := be.Uint64(read(8))
	if flags&ramFlagSize == 0 {
		return nil, loadFailure(invalid, fmt.Sprintf("Unknown combination of migration flags: 0x%x", flags), "error while loading state for instance 0x0 of device 'ram'")
	}
	block := string(read(int(read(1)[0])))
	s.memory = int64(be.Uint64(read(8)))
	if short {
		return nil, loadFailure(ioError, "error while loading state for instance 0x0 of device 'ram'")
	}
	if s.memory != memory {
		return nil, loadFailure(invalid, fmt.Sprintf("Size mismatch: %s: 0x%x != 0x%x: Invalid argument", block, s.memory, memory),
			"error while loading state for instance 0x0 of device 'ram'")
	}
	fill := int64(be.Uint32(read(4)))
	if fill != ramFill {
		return nil, loadFailure(invalid, "Unknown combination of migration flags: 0x0", "error while loading state section id 2(ram)")
	}
	if _, err := io.CopyN(io.Discard, r, fill); err != nil || short {
		return nil, loadFailure(ioError, "error while loading state section id 2(ram)")
	}
	return s, s.readGuest(read, &short)
}

func (s *saved) readGuest(read func(int) []byte, short *bool) error {
	broken := loadFailure(ioError, "error while loading state for instance 0x0 of device 'guest'")
	be := binary.BigEndian
	kind := read(1)[0]
	id := be.Uint32(read(4))
	if name := string(read(int(read(1)[0]))); *short || kind != sectionFull || name != "guest" || id != 3 {
		return broken
	}
	read(8)
	n := be.Uint32(read(4))
	if *short || n > maxState {
		return broken
	}
	payload := read(int(n))
	sum := be.Uint32(read(4))
	end := read(1)[0]
	if *short || end != sectionEOF || sum != crc32.ChecksumIEEE(payload) || len(payload) < 1 || int(payload[0]) >= len(payload) {
		return broken
	}
	s.status = string(payload[1 : 1+payload[0]])
	s.guest = bytes.Clone(payload[1+payload[0]:])
	if read(1)[0] == sectionDesc {
		read(int(min(be.Uint32(read(4)), maxState)))
	}
	return nil
}
