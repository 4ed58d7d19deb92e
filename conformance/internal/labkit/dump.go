//go:build linux

package labkit

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	fakeguest "github.com/machineries/machineries/fakes/guest"
)

// Dumped returns the guest's memory mark of that slot, as the dump at path
// holds it; 0 if there is none. It reads ELF, which is what QEMU writes unless it
// is asked for something else.
func Dumped(path string, slot int) (uint32, error) {
	f, err := elf.Open(path)
	if err != nil {
		return 0, fmt.Errorf("the dump is no ELF core file: %w", err)
	}
	defer f.Close()
	at := uint64(fakeguest.MemoryMarkBase + slot*fakeguest.MemoryMarkStep)
	var mark [8]byte
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || at < p.Paddr || at+uint64(len(mark)) > p.Paddr+p.Filesz {
			continue
		}
		if _, err := p.ReadAt(mark[:], int64(at-p.Paddr)); err != nil {
			return 0, fmt.Errorf("the dump ends before the memory at %#x: %w", at, err)
		}
		if string(mark[:4]) != fakeguest.MemoryMagic {
			return 0, nil
		}
		return binary.LittleEndian.Uint32(mark[4:]), nil
	}
	return 0, fmt.Errorf("the dump has no memory at %#x", at)
}
