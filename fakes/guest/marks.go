package guest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Where marks are. A disk mark is a sector of its own; a memory mark is at the start of a page of its own,
// so that a restore which loses single sectors or pages is seen, and so that a memory dump can be searched.
// Both begin with a magic word; the value follows, little endian.
const (
	SectorSize     = 512
	FirstMarkLBA   = 16      // disk mark n is sector FirstMarkLBA+n; the rest of the sector is zero
	MemoryMarkBase = 0x20000 // memory mark n is at guest-physical MemoryMarkBase + n*MemoryMarkStep
	MemoryMarkStep = 0x1000
	DiskMagic      = "MMrk"
	MemoryMagic    = "MMmk"
	MinDiskSize    = (FirstMarkLBA + Slots) * SectorSize // a disk must be this large to hold every mark
	memoryMarkEnd  = MemoryMarkBase + Slots*MemoryMarkStep
	markSize       = 8
	bootSignature  = "\x55\xAA" // at the end of sector 0, or a BIOS does not boot the disk
	bootSignatureA = SectorSize - 2
)

// Disk is a machine's disk as the guest sees it: a size that does not change, read and written by sector.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// ReadDiskMark reads disk mark slot from d: 0 where the sector holds none.
func ReadDiskMark(d io.ReaderAt, slot int) (uint32, error) {
	if slot < 0 || slot >= Slots {
		return 0, fmt.Errorf("disk mark %d does not exist: marks are 0 to %d", slot, Slots-1)
	}
	var sector [SectorSize]byte
	if err := readFull(d, sector[:], markOffset(slot)); err != nil {
		return 0, fmt.Errorf("cannot read disk mark %d: %w", slot, err)
	}
	if string(sector[:4]) != DiskMagic {
		return 0, nil
	}
	return binary.LittleEndian.Uint32(sector[4:]), nil
}

// WriteDiskMark writes disk mark slot to d.
func WriteDiskMark(d io.WriterAt, slot int, value uint32) error {
	if slot < 0 || slot >= Slots {
		return fmt.Errorf("disk mark %d does not exist: marks are 0 to %d", slot, Slots-1)
	}
	var sector [SectorSize]byte
	copy(sector[:], DiskMagic)
	binary.LittleEndian.PutUint32(sector[4:], value)
	if _, err := d.WriteAt(sector[:], markOffset(slot)); err != nil {
		return fmt.Errorf("cannot write disk mark %d: %w", slot, err)
	}
	return nil
}

func markOffset(slot int) int64 { return int64(FirstMarkLBA+slot) * SectorSize }

// bootable tells whether a BIOS would start the disk: its first sector ends in 55 AA.
func bootable(d io.ReaderAt) bool {
	var sector [SectorSize]byte
	return readFull(d, sector[:], 0) == nil && string(sector[bootSignatureA:]) == bootSignature
}

// readFull reads len(p) bytes. io.ReaderAt may return io.EOF with the last byte, which is no error here.
func readFull(d io.ReaderAt, p []byte, off int64) error {
	n, err := d.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
