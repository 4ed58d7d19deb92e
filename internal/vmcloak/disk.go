package vmcloak

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/machineries/machineries/internal/qcow2"
)

// errNoHeader is about a disk that QEMU can use, and that is unlikely to be the machine's.
var errNoHeader = errors.New("is no qcow2 image, as VMCloak makes them, and would be taken for a raw one")

// checkDisk is why QEMU could not open a machine's disk, or would take it for something that it is not.
func checkDisk(path string) error {
	f, err := openRegular(path) // which says best what keeps it from being read
	if err != nil {
		return err
	}
	info, err := f.Stat()
	f.Close()
	switch {
	case err != nil:
		return err
	case info.Size() == 0:
		return fmt.Errorf("%s is empty", path)
	}
	chain, err := qcow2.Chain(path)
	switch {
	case len(chain) > 0 && err != nil:
		top := chain[len(chain)-1]
		text := fmt.Errorf("%s is based on %q, which cannot be used: %w", top.Path, top.BackingFile, reason(err))
		if errors.Is(err, fs.ErrNotExist) {
			text = fmt.Errorf("%w (put it there, or make the disk one of its own with \"qemu-img rebase -b ''\" where the base still is)", text)
		}
		return text
	case err != nil:
		return fmt.Errorf("%s: %w", path, reason(err))
	case chain[0].Format != "qcow2":
		return fmt.Errorf("%s %w", path, errNoHeader)
	}
	return nil
}
