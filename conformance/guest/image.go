package guest

import (
	_ "embed"

	"github.com/machineries/machineries/fakes/guest"
)

// code is the build of guest.asm: the boot sector and the sectors after it.
//
//go:embed guest.bin
var code []byte

// DefaultSize is the size of the disk that Image makes where none is asked for: 1 MiB. MinSize is the size
// below which it does not boot: SeaBIOS passes over a virtio disk of less than one cylinder, 16 heads of 63
// sectors, 504 KiB (seen on QEMU 7.2.22; if=ide boots from less).
const (
	DefaultSize = 1 << 20
	MinSize     = 16 * 63 * guest.SectorSize
)

// Image returns the content of a raw disk that boots the guest. The size is in bytes: 0 is DefaultSize, and
// anything else is rounded up to whole sectors and to MinSize.
func Image(size int) []byte {
	if size == 0 {
		size = DefaultSize
	}
	size = max(size, MinSize)
	size = (size + guest.SectorSize - 1) / guest.SectorSize * guest.SectorSize
	disk := make([]byte, size)
	copy(disk, code)
	return disk
}
