//go:build linux

package qemu

import (
	"fmt"
	"os"
	"strings"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/internal/qcow2"
)

// checkDisk says what a machine's base disk is, or why it cannot be one.
func checkDisk(path string) (qcow2.Info, error) {
	f, err := hostfile.OpenRegular(path)
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

// inactive says why a QEMU whose machine stands still after the load did not take its disks into use, or nothing. It then stands
// still because of that, however the machine was saved (seen on QEMU 7.2.22: no event, no error on the monitor, a line on its
// standard error).
func (v *vm) inactive(overlays []string, said string) string {
	for line := range strings.Lines(said) {
		if strings.Contains(line, "Failed to get ") && strings.Contains(line, " lock") {
			return "another process uses one of them"
		}
	}
	if v.args == nil {
		return ""
	}
	for _, arg := range v.args.args {
		if strings.Contains(arg, "locking") {
			return "" // QEMU may have been told to take no locks
		}
	}
	for _, overlay := range overlays {
		if disposable.Unlocked(overlay) {
			return "it has no lock on the disposable disk " + overlay
		}
	}
	return ""
}
