//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"

	"github.com/machineries/machineries/internal/qcow2"
)

func imgConvert(args []string, out io.Writer) error {
	f, err := parseImg(args, "f O o t T m B F S object", "p q n c U W force-share")
	switch {
	case err != nil:
		return err
	case len(f.files) < 2:
		return errors.New("Must specify image file name")
	case f.has("c"):
		return errors.New("-c is not supported by the fake qemu-img")
	}
	from, to := f.files[0], f.files[len(f.files)-1]
	format := f.values["O"]
	if format == "" {
		format = "raw"
	}
	info, err := openImage(from, f.values["f"], f.has("U") || f.has("force-share"))
	if err != nil {
		return err
	}
	if format != "raw" && format != "qcow2" {
		return fmt.Errorf("Unknown file format '%s'", format)
	}
	source, err := qcow2.Open(info.Path, qcow2.OpenOptions{Format: info.Format, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("Could not open '%s': %s", from, imageProblem(err))
	}
	defer source.Close()
	c := creation{path: to, format: format, size: source.Size(), sized: true, quiet: true, clusterSize: 65536}
	if err := c.options(f.values["o"]); err != nil {
		return err
	}
	if err := c.make(); err != nil {
		return fmt.Errorf("%s: error while converting %s: Could not create '%s': %s", to, format, to, strerror(err))
	}
	return copyImage(source, to, format)
}

// copyImage writes what is not zero.
func copyImage(source qcow2.Disk, to, format string) error {
	target, err := qcow2.Open(to, qcow2.OpenOptions{Format: format})
	if err != nil {
		return fmt.Errorf("Could not open '%s': %s", to, imageProblem(err))
	}
	buf := make([]byte, 64<<10)
	for at := int64(0); at < source.Size(); at += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), source.Size()-at)]
		if _, err := source.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(fmt.Errorf("error while reading at byte %d: %s", at, strerror(err)), target.Close())
		}
		if allZero(part) {
			continue
		}
		if _, err := target.WriteAt(part, at); err != nil {
			return errors.Join(fmt.Errorf("error while writing at byte %d: %s", at, strerror(err)), target.Close())
		}
	}
	return target.Close()
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
