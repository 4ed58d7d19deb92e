package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// DefaultClusterBits is the cluster size that qemu-img uses: 64 KiB.
const DefaultClusterBits = 16

// CreateOverlay writes an empty qcow2 image (version 3, 64 KiB clusters) at path,
// whose content is that of backing until something is written to it.
//
// A relative backing name is taken from the directory of path, as QEMU does;
// absolute names are the safe choice. Any bytes but NUL are allowed in it, at most 1023
// of them, which is the limit of the format. backingFormat is "qcow2" or "raw" (any
// name of at most 15 bytes is written); it must not be empty, because a guest that can
// write the first sector of a raw backing file could then choose how it is read.
// virtualSize is in bytes, at least 1, and is rounded up to a whole sector of 512.
// The backing file is neither opened nor checked.
//
// The file is made with O_EXCL and mode 0600: an existing path gives an error matching
// fs.ErrExist and is left alone. After any other error nothing is left at path.
func CreateOverlay(path, backing, backingFormat string, virtualSize int64) error {
	switch {
	case backing == "":
		return fmt.Errorf("create overlay %s: no backing file is named", path)
	case backingFormat == "" || len(backingFormat) > 15 || strings.IndexByte(backingFormat, 0) >= 0:
		return fmt.Errorf("create overlay %s: %q is no format of a backing file", path, backingFormat)
	}
	if hasProtocol(backing) {
		// "a:b" in the current directory would be protocol "a" to QEMU.
		backing = "./" + backing
	}
	return Create(path, Options{VirtualSize: virtualSize, BackingFile: backing, BackingFormat: backingFormat})
}

// Options are the choices of Create.
type Options struct {
	// VirtualSize is in bytes and rounded up to a whole sector of 512.
	VirtualSize int64
	// ClusterBits is the logarithm of the cluster size, 9 to 21; 0 is
	// DefaultClusterBits.
	ClusterBits int
	// BackingFile is written as it is; "" for an image of its own. A backing format
	// may be left out, though QEMU warns of that.
	BackingFile, BackingFormat string
}

// Create writes an empty qcow2 image of version 3 at path, with the same promises
// as CreateOverlay.
func Create(path string, o Options) error {
	if o.ClusterBits == 0 {
		o.ClusterBits = DefaultClusterBits
	}
	switch {
	case o.VirtualSize < 1 || o.VirtualSize > 1<<62:
		return fmt.Errorf("create %s: virtual size %d is out of range", path, o.VirtualSize)
	case o.ClusterBits < minClusterBits || o.ClusterBits > maxClusterBits:
		return fmt.Errorf("create %s: cluster size 2^%d is out of range", path, o.ClusterBits)
	case len(o.BackingFile) > maxBackingName:
		return fmt.Errorf("create %s: the backing file's name has %d bytes, a qcow2 image can hold %d", path, len(o.BackingFile), maxBackingName)
	case strings.IndexByte(o.BackingFile, 0) >= 0:
		return fmt.Errorf("create %s: the backing file's name has a NUL byte", path)
	}
	l, err := newLayout(&o)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create qcow2 image: %w", err)
	}
	if err := errors.Join(l.write(f), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("create qcow2 image: %w", err), os.Remove(path))
	}
	return nil
}

// layout is where the metadata of an empty image goes: header in cluster 0, then
// the refcount table, the refcount blocks, the L1 table.
type layout struct {
	head     header
	blocks   uint64 // refcount blocks, one cluster each
	clusters uint64 // all of the metadata
}

func newLayout(o *Options) (*layout, error) {
	l := &layout{head: header{
		version:       3,
		clusterBits:   uint32(o.ClusterBits),
		size:          (uint64(o.VirtualSize) + 511) &^ 511,
		refcountOrder: 4,
		backingFile:   o.BackingFile,
		backingFormat: o.BackingFormat,
	}}
	h := &l.head
	cs := uint64(h.clusterSize())
	n := h.l1Needed()
	if n*8 > maxL1Bytes {
		return nil, fmt.Errorf("%d bytes are too many for clusters of %d bytes", o.VirtualSize, cs)
	}
	h.l1Size = uint32(n)
	l1Clusters := (n*8 + cs - 1) / cs
	perBlock := cs / 2 // 16-bit entries
	table := uint64(1)
	// The refcount blocks count themselves and the table, which may take another
	// block to count: repeat until it fits.
	for l.blocks = 1; ; {
		table = (l.blocks*8 + cs - 1) / cs
		l.clusters = 1 + table + l.blocks + l1Clusters
		need := (l.clusters + perBlock - 1) / perBlock
		if need <= l.blocks {
			break
		}
		l.blocks = need
	}
	h.reftableOffset = cs
	h.reftableClus = uint32(table)
	h.l1Offset = cs * (1 + table + l.blocks)
	return l, nil
}

// write fills f. Only what is not zero is written: the rest of the metadata is a
// hole, so that a new overlay costs a few pages.
func (l *layout) write(f *os.File) error {
	h := &l.head
	cs := h.clusterSize()
	head := h.encode()
	if int64(len(head)) > cs {
		return fmt.Errorf("header and backing file name take %d bytes, a cluster has %d", len(head), cs)
	}
	if err := f.Truncate(int64(l.clusters) * cs); err != nil {
		return err
	}
	table := make([]byte, 0, l.blocks*8)
	firstBlock := cs * int64(1+h.reftableClus)
	for i := range l.blocks {
		table = binary.BigEndian.AppendUint64(table, uint64(firstBlock+int64(i)*cs))
	}
	counts := make([]byte, 0, l.clusters*2)
	for range l.clusters {
		counts = binary.BigEndian.AppendUint16(counts, 1)
	}
	for _, w := range []struct {
		at   int64
		data []byte
	}{
		{int64(h.reftableOffset), table},
		{firstBlock, counts},
		{0, head}, // last: a file that was cut short is not taken for an image
	} {
		if _, err := f.WriteAt(w.data, w.at); err != nil {
			return err
		}
	}
	return nil
}
