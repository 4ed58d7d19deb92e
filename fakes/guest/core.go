package guest

import "encoding/binary"

const (
	elfHeaderSize  = 64
	elfProgramSize = 56
	coreNotes      = 0x400
)

// CoreHeader is what an ELF core file of a guest's memory begins with, as QEMU
// writes one: a note segment, and one segment for the whole of memory at physical
// address 0. That many bytes of memory follow, which [Model.ReadMemory] gives.
func CoreHeader(memory int64) []byte {
	le := binary.LittleEndian
	h := make([]byte, elfHeaderSize+2*elfProgramSize+coreNotes)
	copy(h, "\x7fELF\x02\x01\x01")
	le.PutUint16(h[16:], 4)  // core file
	le.PutUint16(h[18:], 62) // x86-64
	le.PutUint32(h[20:], 1)
	le.PutUint64(h[32:], elfHeaderSize)
	le.PutUint16(h[52:], elfHeaderSize)
	le.PutUint16(h[54:], elfProgramSize)
	le.PutUint16(h[56:], 2)
	notes := h[elfHeaderSize:]
	le.PutUint32(notes, 4) // PT_NOTE
	le.PutUint64(notes[8:], elfHeaderSize+2*elfProgramSize)
	le.PutUint64(notes[32:], coreNotes)
	le.PutUint64(notes[40:], coreNotes)
	load := notes[elfProgramSize:]
	le.PutUint32(load, 1) // PT_LOAD
	le.PutUint64(load[8:], uint64(len(h)))
	le.PutUint64(load[32:], uint64(memory))
	le.PutUint64(load[40:], uint64(memory))
	return h
}
