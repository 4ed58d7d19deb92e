package vmstate

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Packing is how a snapshot is packed, or that it is not.
type Packing struct {
	// Name is what users call it: raw, gzip, lz4 or zstd.
	Name  string
	magic string
	open  func(io.Reader) (io.ReadCloser, error)
}

// maxWindow is how much of what was unpacked zstd may need at once, in bytes. It is what zstd's --long=29 needs; a file that claims more is
// not worth that memory.
const maxWindow = 512 << 20

// packings are told by a snapshot's first bytes and never by its name.
var packings = []Packing{
	{"raw", migrationMagic, nil},
	{"gzip", "\x1f\x8b\x08", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"lz4", "\x04\x22\x4d\x18", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(lz4.NewReader(r)), nil }},
	{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}},
}

// Recognise tells how a snapshot is packed that begins with head. The text of its error goes on after the file's name.
func Recognise(head []byte) (Packing, error) {
	if len(head) == 0 {
		return Packing{}, errors.New("is empty")
	}
	for _, p := range packings {
		// What is shorter than its first bytes is cut short, which Head says.
		if strings.HasPrefix(string(head), p.magic) || !p.Packed() && strings.HasPrefix(p.magic, string(head)) {
			return p, nil
		}
	}
	return Packing{}, fmt.Errorf("is not a memory snapshot of QEMU: it begins with % x, which is neither a migration stream (QEVM) nor gzip, lz4 or zstd", head[:min(len(head), 8)])
}

// Packed is whether it is packed at all.
func (p Packing) Packed() bool { return p.open != nil }

// Open reads what is packed. Its errors, and those of the reader, are for Damaged.
func (p Packing) Open(r io.Reader) (io.ReadCloser, error) { return p.open(r) }

// Damaged is why what is packed cannot be unpacked, in words that go on after the file's name.
func (p Packing) Damaged(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("is cut short: %s ends before its end mark", p.Name)
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return fmt.Errorf("is packed with a window of more than %d MiB, which is not supported (zstd --long=29 or less does it)", maxWindow>>20)
	}
	return fmt.Errorf("is damaged: %s: %s", p.Name, strings.TrimPrefix(err.Error(), p.Name+": "))
}
