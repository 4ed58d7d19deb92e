package qcow2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// Disk is what a guest sees of an image: a fixed number of bytes, which are read and
// written anywhere. Reads and writes outside Size are errors; a read that ends at
// Size returns the bytes and io.EOF only where it could not be filled. All methods may
// be called from several goroutines.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Size is the virtual size in bytes, a multiple of 512.
	Size() int64
	// Sync asks the operating system to make what was written durable.
	Sync() error
	// Close closes the image and everything below it.
	Close() error
}

// ErrReadOnly is returned for a write to a disk that was opened read-only.
var ErrReadOnly = errors.New("the disk is open for reading only")

// OpenOptions are the choices of Open.
type OpenOptions struct {
	// Format is "qcow2", "raw", or "" for what Inspect finds.
	Format string
	// ReadOnly opens the image, like everything below it, for reading alone.
	ReadOnly bool
	// NoBacking leaves the backing chain closed: what is not in this image reads as
	// zeros.
	NoBacking bool
}

// BackingError is the error of Open where the image itself is sound and something
// below it is not. Path is the backing file.
type BackingError struct {
	Image, Path string
	Err         error
}

func (e *BackingError) Error() string {
	return fmt.Sprintf("backing file %s of %s: %v", e.Path, e.Image, e.Err)
}

// Unwrap returns the reason.
func (e *BackingError) Unwrap() error { return e.Err }

// Open opens the image at path with its backing chain, which is opened for reading
// only. It takes no locks: whoever shares images between processes does that. The
// error matches *FormatError for images that are broken, or need a feature that this
// package lacks; *BackingError where that is so below the image.
func Open(path string, o OpenOptions) (Disk, error) {
	return open(path, o, nil)
}

func open(path string, o OpenOptions, above []string) (Disk, error) {
	flag := os.O_RDWR
	if o.ReadOnly {
		flag = os.O_RDONLY
	}
	f, size, err := openFile(path, flag)
	if err != nil {
		return nil, err
	}
	d, err := openOn(f, path, size, o, above)
	if err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func openOn(f *os.File, path string, size int64, o OpenOptions, above []string) (Disk, error) {
	if o.Format == "raw" {
		return &rawDisk{f: f, size: (size + 511) &^ 511, readOnly: o.ReadOnly}, nil
	}
	info, h, err := inspect(f, path, size)
	if err != nil {
		return nil, err
	}
	switch {
	case info.Format == "qcow2":
	case o.Format == "qcow2":
		return nil, badf("Image is not in qcow2 format")
	case info.Format == "raw":
		return &rawDisk{f: f, size: info.VirtualSize, readOnly: o.ReadOnly}, nil
	default:
		return nil, badf("%s is a %s image, which is not supported", path, info.Format)
	}
	if o.Format != "" && o.Format != "qcow2" {
		return nil, badf("Unknown driver '%s'", o.Format)
	}
	im := &Image{f: f, h: *h, info: info, readOnly: o.ReadOnly, end: size}
	if err := im.load(); err != nil {
		return nil, err
	}
	if info.BackingFile == "" || o.NoBacking {
		return im, nil
	}
	below, err := Resolve(path, info.BackingFile)
	if err == nil {
		above = append(above, path)
		for _, a := range above {
			if sameFile(a, below) {
				err = fmt.Errorf("it is above itself in the chain")
			}
		}
		if len(above) >= maxChain {
			err = fmt.Errorf("the chain is deeper than %d images", maxChain)
		}
	}
	if err == nil {
		im.backing, err = open(below, OpenOptions{Format: info.BackingFormat, ReadOnly: true}, above)
	} else if below == "" {
		below = info.BackingFile
	}
	if err != nil {
		var deeper *BackingError
		if errors.As(err, &deeper) {
			return nil, err
		}
		return nil, &BackingError{Image: path, Path: below, Err: err}
	}
	return im, nil
}

// rawDisk is an image without a format.
type rawDisk struct {
	f        *os.File
	size     int64
	readOnly bool
}

func (d *rawDisk) Size() int64  { return d.size }
func (d *rawDisk) Sync() error  { return d.f.Sync() }
func (d *rawDisk) Close() error { return d.f.Close() }

func (d *rawDisk) ReadAt(p []byte, off int64) (int, error) {
	n, err := clip(len(p), off, d.size)
	if n == 0 {
		return 0, err
	}
	got, rerr := d.f.ReadAt(p[:n], off)
	if rerr == io.EOF {
		clear(p[got:n]) // the part of the last sector that the file lacks
		rerr = nil
	}
	if rerr != nil {
		return got, rerr
	}
	return n, err
}

func (d *rawDisk) WriteAt(p []byte, off int64) (int, error) {
	if d.readOnly {
		return 0, ErrReadOnly
	}
	if err := inside(len(p), off, d.size); err != nil {
		return 0, err
	}
	return d.f.WriteAt(p, off)
}

// clip says how much of a read of n bytes at off lies within size, with the error
// that io.ReaderAt wants for the rest.
func clip(n int, off, size int64) (int, error) {
	switch {
	case off < 0:
		return 0, errors.New("negative offset")
	case off >= size && n > 0:
		return 0, io.EOF
	case int64(n) > size-off:
		return int(size - off), io.EOF
	}
	return n, nil
}

func inside(n int, off, size int64) error {
	if off < 0 || off > size || int64(n) > size-off {
		return fmt.Errorf("write of %d bytes at %d is outside of a disk of %d bytes", n, off, size)
	}
	return nil
}

// Image is an open qcow2 image. It implements Disk.
type Image struct {
	mu       sync.Mutex
	f        *os.File
	h        header
	info     Info
	readOnly bool
	backing  Disk

	l1       []uint64
	reftable []uint64
	tables   map[int64][]byte // L2 tables and refcount blocks by offset; written through
	end      int64            // where the next cluster goes that is appended
	free     []int64          // clusters that became free while the image is open
}

// Info returns what the header said when the image was opened.
func (im *Image) Info() Info { return im.info }

// Size implements Disk.
func (im *Image) Size() int64 { return int64(im.h.size) &^ 511 }

// Sync implements Disk.
func (im *Image) Sync() error { return im.f.Sync() }

// Close implements Disk.
func (im *Image) Close() error {
	err := im.f.Close()
	if im.backing != nil {
		err = errors.Join(err, im.backing.Close())
	}
	return err
}

// load reads the tables that stay in memory and refuses what cannot be kept right.
func (im *Image) load() error {
	h := &im.h
	var missing []string
	if h.crypt != 0 {
		missing = append(missing, "encryption")
	}
	for _, bit := range []Feature{FeatureExternalData, FeatureExtendedL2} {
		if h.incompatible&bit != 0 {
			missing = append(missing, bit.String())
		}
	}
	if len(missing) > 0 {
		return badf("%s is not supported", strings.Join(missing, ", "))
	}
	if !im.readOnly && h.incompatible&FeatureCorrupt != 0 {
		return badf("qcow2: Image is corrupt; cannot be opened read/write")
	}
	if !im.readOnly && h.incompatible&FeatureDirty != 0 {
		return badf("the image was not closed properly and needs `qemu-img check -r all`")
	}
	cs := h.clusterSize()
	im.end = (im.end + cs - 1) &^ (cs - 1)
	im.tables = map[int64][]byte{}
	var err error
	if im.l1, err = im.readTable(int64(h.l1Offset), int64(h.l1Size)); err != nil {
		return badf("Could not read L1 table")
	}
	if im.reftable, err = im.readTable(int64(h.reftableOffset), int64(h.reftableClus)*cs/8); err != nil {
		return badf("Could not read reference count table")
	}
	if !im.readOnly && h.version == 3 && h.autoclear != 0 {
		// Whoever writes without knowing these features has to clear them.
		if _, err := im.f.WriteAt(make([]byte, 8), 88); err != nil {
			return err
		}
		h.autoclear = 0
	}
	return nil
}

// readTable reads n big-endian words. What lies beyond the end of the file is zero:
// QEMU lets a table end in a hole that was never written.
func (im *Image) readTable(off, n int64) ([]uint64, error) {
	if off >= im.end && n > 0 {
		return nil, io.ErrUnexpectedEOF
	}
	buf := make([]byte, n*8)
	if _, err := im.f.ReadAt(buf, off); err != nil && err != io.EOF {
		return nil, err
	}
	words := make([]uint64, n)
	for i := range words {
		words[i] = word(buf, int64(i))
	}
	return words, nil
}
