package guest

import (
	_ "embed"

	"github.com/machineries/machineries/fakes/guest"
)

// code is the build of guest.asm: the boot sector and the sectors after it.
//
//go:embed guest.bin
var code []byte

// DefaultSize is the size of the disk that Image makes where none is asked for: 1 MiB.
const DefaultSize = 1 << 20

// Image returns the content of a raw disk that boots the guest. The size is in bytes: 0 is DefaultSize, and
// anything else is rounded up to whole sectors and to the room that the disk marks need, 16 KiB.
func Image(size int) []byte {
	if size == 0 {
		size = DefaultSize
	}
	size = max(size, guest.MinDiskSize)
	size = (size + guest.SectorSize - 1) / guest.SectorSize * guest.SectorSize
	disk := make([]byte, size)
	copy(disk, code)
	return disk
}
