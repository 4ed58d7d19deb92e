//go:build linux

package labkit

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"

	"github.com/machineries/machineries/conformance/guest"
	"github.com/machineries/machineries/internal/qcow2"
)

// DiskSize is the virtual size of a machine's disk in bytes.
const DiskSize = 1 << 20

// MakeDisk writes a qcow2 disk that boots the suite's guest.
func MakeDisk(path string) (err error) {
	if err := qcow2.Create(path, qcow2.Options{VirtualSize: DiskSize}); err != nil {
		return err
	}
	disk, err := qcow2.Open(path, qcow2.OpenOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	image := guest.Image(DiskSize)
	const sector = 512
	for at := 0; at < len(image); at += sector {
		if part := image[at : at+sector]; !bytes.Equal(part, make([]byte, sector)) {
			if _, err := disk.WriteAt(part, int64(at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// CopyFile copies a file to a path at which there is none.
func CopyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// ChangeDisk changes the last byte of a disk's file.
func ChangeDisk(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)-1] ^= 1
	return os.WriteFile(path, data, 0o600)
}

// Scribble overwrites a file from an offset on with noise, the same each time.
func Scribble(path string, from int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{1})
	for i := from; i < int64(len(data)); i += 8 {
		word := noise.Uint64()
		for k := int64(0); k < 8 && i+k < int64(len(data)); k++ {
			data[i+k] = byte(word >> (8 * k))
		}
	}
	return os.WriteFile(path, data, 0o600)
}

// Truncate cuts a file to a share of its length.
func Truncate(path string, share float64) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, int64(float64(info.Size())*share))
}
