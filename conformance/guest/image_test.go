package guest

import (
	"bytes"
	"testing"

	"github.com/machineries/machineries/fakes/guest"
)

func TestImageHoldsCodeAndRoomForMarks(t *testing.T) {
	for _, tt := range []struct{ ask, want int }{
		{0, DefaultSize}, {1, MinSize}, {MinSize, MinSize}, {MinSize + 1, MinSize + 512}, {1 << 22, 1 << 22},
	} {
		disk := Image(tt.ask)
		if len(disk) != tt.want {
			t.Errorf("Image(%d) has %d bytes, want %d", tt.ask, len(disk), tt.want)
		}
		if !bytes.HasPrefix(disk, code) {
			t.Errorf("Image(%d) does not start with the code", tt.ask)
		}
		for slot := range guest.Slots {
			if v, err := guest.ReadDiskMark(bytes.NewReader(disk), slot); v != 0 || err != nil {
				t.Errorf("Image(%d) has the disk mark %d: %d, %v", tt.ask, slot, v, err)
			}
		}
	}
	if MinSize < guest.MinDiskSize {
		t.Errorf("the smallest disk has %d bytes, and the marks need %d", MinSize, guest.MinDiskSize)
	}
	if len(code)%guest.SectorSize != 0 || len(code) > guest.FirstMarkLBA*guest.SectorSize {
		t.Errorf("the code has %d bytes", len(code))
	}
	if !bytes.Equal(code[446:510], make([]byte, 64)) {
		t.Error("the partition table is not empty")
	}
}

func TestImagesAreSeparateCopies(t *testing.T) {
	Image(0)[0] ^= 0xFF
	if Image(0)[0] != code[0] {
		t.Error("a change to one image shows in the next")
	}
}
