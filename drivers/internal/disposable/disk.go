//go:build linux

// Package disposable makes the disks that a machine's run is thrown away with: empty overlays above disks that are never written to. QEMU locks the
// images that it has open, and drivers lock those that they have just made, so that nobody takes away what another one uses.
package disposable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/internal/qcow2"
)

// Name is the file name of a machine's disposable disk: the start of the machine's name, for people, and keys, which tell it from all others. It
// should depend on nothing else, so that a second driver that starts the same machine meets the first one's disk.
func Name(name string, keys ...string) string {
	readable := plain(name)
	return readable[:min(len(readable), 40)] + "-" + plain(strings.Join(keys, "-")) + "_disposable.qcow2"
}

// plain is text with an underscore for each character that is not the same in all file systems, languages and command lines.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, text)
}

// Make writes an empty disposable disk above a base, and keeps it for this driver until the file that it returns is
// closed. One that is there already is left from a run of which there is no ledger, such as one before the host was booted; it
// is replaced unless something uses it. If it fails, nothing of its own is left.
func Make(path string, base qcow2.Info) (*os.File, error) {
	inUse := fmt.Errorf("the disposable disk %s is there already, and a QEMU that this driver does not know uses it", path)
	err := qcow2.CreateOverlay(path, base.Path, base.Format, base.VirtualSize)
	if errors.Is(err, fs.ErrExist) {
		old, err := Take(path)
		if errors.Is(err, ErrInUse) {
			return nil, inUse
		}
		if old != nil { // it may be none that can be opened
			defer Release(old)
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
	own, err := Take(path)
	if errors.Is(err, ErrInUse) {
		return nil, inUse // another driver found it in the moment before it was locked, and replaces it
	}
	if err != nil {
		return nil, errors.Join(err, Remove(path))
	}
	return own, nil
}

// RemoveAll removes those that are there.
func RemoveAll(paths []string) error {
	var problems []error
	for _, path := range paths {
		if err := Remove(path); err != nil {
			problems = append(problems, err)
		}
	}
	return fault.Join(problems)
}

func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
