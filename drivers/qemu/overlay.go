//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/machineries/machineries/internal/qcow2"
)

// checkDisk says what a machine's base disk is, or why it cannot be one.
func checkDisk(path string) (qcow2.Info, error) {
	f, err := openRegular(path)
	if err != nil {
		return qcow2.Info{}, err
	}
	defer f.Close()
	info, err := qcow2.Inspect(path)
	switch {
	case err != nil:
		return info, fmt.Errorf("%s: %w", path, err)
	case info.Format != "qcow2" && info.Format != "raw":
		return info, fmt.Errorf("%s is an image of format %s; only qcow2 and raw are supported (qemu-img convert makes one)", path, info.Format)
	case info.VirtualSize == 0:
		return info, fmt.Errorf("%s is an empty disk", path)
	case info.Encrypted:
		return info, fmt.Errorf("%s is encrypted, which is not supported", path)
	case info.Incompatible&qcow2.FeatureExternalData != 0:
		return info, fmt.Errorf("%s keeps its data in another file, which is not supported", path)
	case info.Incompatible&qcow2.FeatureCorrupt != 0:
		return info, fmt.Errorf("%s is marked as corrupt; qemu-img check says more", path)
	case info.Format == "raw" && !bootable(f):
		// Anything at all could be a raw disk. A machine's own has to be one that firmware would boot from.
		return info, fmt.Errorf("%s is neither a qcow2 image nor a raw disk with a boot record", path)
	}
	return info, nil
}

// bootable is whether a raw disk has a master boot record, which disks with a GUID partition table have too.
func bootable(f *os.File) bool {
	signature := make([]byte, 2)
	_, err := f.ReadAt(signature, 510)
	return err == nil && signature[0] == 0x55 && signature[1] == 0xaa
}

// overlayName is the file name of a machine's disposable disk: the start of the machine's name, for people, and a key. It depends
// on nothing but the name, so that a second QEMU on the same machine meets the first one's disk, whatever else its configuration
// says.
func overlayName(name, key string) string {
	readable := []rune(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, name))
	return string(readable[:min(len(readable), 40)]) + "-" + key + "_disposable.qcow2"
}

// makeOverlay writes an empty disposable disk above a base, and keeps it for this driver until the file that it returns is
// closed. One that is there already is left from a run of which there is no ledger, such as one before the host was booted; it
// is replaced unless something uses it. If it fails, nothing of its own is left.
func makeOverlay(path string, base qcow2.Info) (*os.File, error) {
	inUse := fmt.Errorf("the disposable disk %s is there already, and a QEMU that this driver does not know uses it", path)
	err := qcow2.CreateOverlay(path, base.Path, base.Format, base.VirtualSize)
	if errors.Is(err, fs.ErrExist) {
		old, err := takeImage(path)
		if errors.Is(err, errImageInUse) {
			return nil, inUse
		}
		if old != nil { // it may be none that can be opened
			defer releaseImage(old)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		if err := qcow2.CreateOverlay(path, base.Path, base.Format, base.VirtualSize); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	own, err := takeImage(path)
	if errors.Is(err, errImageInUse) {
		return nil, inUse // another driver found it in the moment before it was locked, and replaces it
	}
	if err != nil {
		return nil, errors.Join(err, removeOverlay(path))
	}
	return own, nil
}

// The bytes that QEMU locks in an image to say what it does with it, by open file description locks (QEMU 7.2).
const lockFirst, lockLength = 100, 165

// imageInUse is whether a QEMU has the image open, or a driver has just made it.
func imageInUse(path string) bool { return lockedAt(path, lockFirst, ownByte-lockFirst+1) }

// lockedAt is whether anybody has a lock on those bytes of a file.
func lockedAt(path string, start, length int64) bool {
	f, err := openRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	used, _ := lockSeen(f, start, length)
	return used
}

// lockWrites is the byte of those above whose lock means "I write to it": the permission number 1 of QEMU's block layer.
const lockWrites = lockFirst + 1

// imageWritten is whether a QEMU has the image open for writing. Readers do not count: machines elsewhere may have the same
// disk as their base.
func imageWritten(path string) bool { return lockedAt(path, lockWrites, 1) }
