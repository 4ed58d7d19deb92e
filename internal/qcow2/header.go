package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Feature is a set of a version 3 image's incompatible features: bits that a
// reader must know before it may touch the image.
type Feature uint64

// The incompatible features that are defined as of QEMU 7.2.
const (
	FeatureDirty        Feature = 1 << 0 // refcounts may be wrong: the image was not closed with lazy refcounts on
	FeatureCorrupt      Feature = 1 << 1 // QEMU found a data structure broken and refuses to write
	FeatureExternalData Feature = 1 << 2 // the guest's data is in a file of its own
	FeatureCompression  Feature = 1 << 3 // compressed clusters are not zlib but what the header says
	FeatureExtendedL2   Feature = 1 << 4 // L2 entries are 16 bytes, with subclusters
)

var featureNames = []struct {
	bit  Feature
	name string
}{
	{FeatureDirty, "dirty bit"},
	{FeatureCorrupt, "corrupt bit"},
	{FeatureExternalData, "external data file"},
	{FeatureCompression, "compression type"},
	{FeatureExtendedL2, "extended L2 entries"},
}

// String names the features as QEMU does, for example "dirty bit, external data
// file"; unknown bits are "Unknown incompatible feature: <hex>".
func (f Feature) String() string {
	var names []string
	for _, n := range featureNames {
		if f&n.bit != 0 {
			names = append(names, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("Unknown incompatible feature: %x", uint64(f)))
	}
	return strings.Join(names, ", ")
}

// FormatError says that a file is no image that can be used. Problem is worded as
// QEMU words it where QEMU has a text for the same thing.
type FormatError struct {
	Problem string
}

func (e *FormatError) Error() string { return e.Problem }

func badf(format string, args ...any) error {
	return &FormatError{Problem: fmt.Sprintf(format, args...)}
}

// Limits of the format, as QEMU 7.2 enforces them.
const (
	minClusterBits     = 9
	maxClusterBits     = 21
	maxL1Bytes         = 32 << 20
	maxReftableBytes   = 8 << 20
	maxBackingName     = 1023
	maxExtensionsBytes = 1 << 20
	maxSnapshots       = 65536
)

const (
	magic           = 0x514649fb // "QFI\xfb"
	headerV2Len     = 72
	headerV3Len     = 104
	headerFullLen   = 112
	extEnd          = 0
	extBackingFmt   = 0xe2792aca
	extFeatureNames = 0x6803f857
	extDataFile     = 0x44415441
)

// header is the whole of what the first cluster says.
type header struct {
	version        uint32
	backingOffset  uint64
	backingSize    uint32
	clusterBits    uint32
	size           uint64
	crypt          uint32
	l1Size         uint32
	l1Offset       uint64
	reftableOffset uint64
	reftableClus   uint32
	snapshots      uint32
	snapOffset     uint64
	incompatible   Feature
	compatible     uint64
	autoclear      uint64
	refcountOrder  uint32
	length         uint32
	compression    uint8

	backingFile   string
	backingFormat string
	dataFile      string
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// parseHeader reads the fixed part of a header from the first bytes of an image.
// It needs headerFullLen bytes (zero-padded where the image is shorter).
func parseHeader(b []byte) (*header, error) {
	if len(b) < headerFullLen {
		b = append(bytes.Clone(b), make([]byte, headerFullLen-len(b))...)
	}
	be := binary.BigEndian
	if be.Uint32(b) != magic {
		return nil, badf("Image is not in qcow2 format")
	}
	h := &header{
		version:        be.Uint32(b[4:]),
		backingOffset:  be.Uint64(b[8:]),
		backingSize:    be.Uint32(b[16:]),
		clusterBits:    be.Uint32(b[20:]),
		size:           be.Uint64(b[24:]),
		crypt:          be.Uint32(b[32:]),
		l1Size:         be.Uint32(b[36:]),
		l1Offset:       be.Uint64(b[40:]),
		reftableOffset: be.Uint64(b[48:]),
		reftableClus:   be.Uint32(b[56:]),
		snapshots:      be.Uint32(b[60:]),
		snapOffset:     be.Uint64(b[64:]),
		refcountOrder:  4,
		length:         headerV2Len,
	}
	if h.version != 2 && h.version != 3 {
		return nil, badf("Unsupported qcow2 version %d", h.version)
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return nil, badf("Unsupported cluster size: 2^%d", h.clusterBits)
	}
	if h.version == 3 {
		h.incompatible = Feature(be.Uint64(b[72:]))
		h.compatible = be.Uint64(b[80:])
		h.autoclear = be.Uint64(b[88:])
		h.refcountOrder = be.Uint32(b[96:])
		h.length = be.Uint32(b[100:])
		if h.length < headerV3Len {
			return nil, badf("qcow2 header too short")
		}
		if h.length > headerV3Len {
			h.compression = b[104]
		}
	}
	return h, h.check()
}

// check holds the fields that need no other part of the file against the limits.
func (h *header) check() error {
	cs := uint64(h.clusterSize())
	if uint64(h.length) > cs {
		return badf("qcow2 header exceeds cluster size")
	}
	if h.backingOffset > cs {
		return badf("Invalid backing file offset")
	}
	if h.incompatible&^(FeatureDirty|FeatureCorrupt|FeatureExternalData|FeatureCompression|FeatureExtendedL2) != 0 {
		return badf("Unsupported qcow2 feature(s): %s", h.incompatible)
	}
	if h.refcountOrder > 6 {
		return badf("Reference count entry width too large; may not exceed 64 bits")
	}
	if h.crypt > 2 {
		return badf("Unsupported encryption method %d", h.crypt)
	}
	if h.incompatible&FeatureExtendedL2 != 0 && h.clusterBits < 14 {
		return badf("Unsupported cluster size for extended L2 entries: 2^%d", h.clusterBits)
	}
	if h.incompatible&FeatureCompression != 0 && h.compression > 1 {
		return badf("unknown compression type: %d", h.compression)
	}
	if h.size > 1<<62 {
		return badf("Image is too big to be processed")
	}
	if h.reftableClus == 0 {
		return badf("Image does not contain a reference count table")
	}
	if uint64(h.reftableClus) > maxReftableBytes>>h.clusterBits {
		return badf("Image reference count table too large")
	}
	if h.reftableOffset%cs != 0 || h.reftableOffset == 0 || h.reftableOffset > 1<<62 {
		return badf("Reference count table offset invalid")
	}
	if h.snapshots > maxSnapshots {
		return badf("Snapshot table too large")
	}
	if uint64(h.l1Size)*8 > maxL1Bytes {
		return badf("Active L1 table too large")
	}
	if h.l1Offset%cs != 0 || h.l1Offset > 1<<62 {
		return badf("Active L1 table offset invalid")
	}
	if uint64(h.l1Size) < h.l1Needed() {
		return badf("L1 table is too small")
	}
	if h.backingOffset != 0 {
		if h.backingSize > maxBackingName || uint64(h.backingSize) > cs-h.backingOffset {
			return badf("Backing file name too long")
		}
	}
	return nil
}

// l1Needed is how many L1 entries the virtual size takes.
func (h *header) l1Needed() uint64 {
	entry := uint32(3)
	if h.incompatible&FeatureExtendedL2 != 0 {
		entry = 4
	}
	shift := h.clusterBits + h.clusterBits - entry
	return (h.size + 1<<shift - 1) >> shift
}

// parseExtensions reads the header extensions and the backing file name out of
// first, the beginning of the image up to one cluster.
func (h *header) parseExtensions(first []byte) error {
	be := binary.BigEndian
	end := uint64(len(first))
	if h.backingOffset != 0 {
		if h.backingOffset+uint64(h.backingSize) > uint64(len(first)) {
			return badf("Could not read backing file name")
		}
		h.backingFile = string(first[h.backingOffset : h.backingOffset+uint64(h.backingSize)])
		if strings.IndexByte(h.backingFile, 0) >= 0 {
			// QEMU reads it as a C string.
			h.backingFile = h.backingFile[:strings.IndexByte(h.backingFile, 0)]
		}
		if h.backingOffset < end {
			end = h.backingOffset
		}
	}
	for at := uint64(h.length); at+8 <= end; {
		kind, n := be.Uint32(first[at:]), uint64(be.Uint32(first[at+4:]))
		at += 8
		if kind == extEnd {
			break
		}
		if n > maxExtensionsBytes || at+n > end {
			return badf("Header extension too large")
		}
		data := first[at : at+n]
		switch kind {
		case extBackingFmt:
			if n >= 16 {
				return badf("ERROR: ext_backing_format: len=%d too large (>=%d)", n, 16)
			}
			h.backingFormat = string(data)
		case extDataFile:
			h.dataFile = string(data)
		}
		at += (n + 7) &^ 7
	}
	return nil
}

// encode writes the header, its extensions and the backing name as the beginning
// of a version 3 image.
func (h *header) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, headerFullLen, headerFullLen+64+len(h.backingFile))
	ext := func(kind uint32, data []byte) {
		b = be.AppendUint32(b, kind)
		b = be.AppendUint32(b, uint32(len(data)))
		b = append(b, data...)
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	if h.backingFormat != "" {
		ext(extBackingFmt, []byte(h.backingFormat))
	}
	ext(extEnd, nil)
	if h.backingFile != "" {
		h.backingOffset, h.backingSize = uint64(len(b)), uint32(len(h.backingFile))
		b = append(b, h.backingFile...)
	}
	be.PutUint32(b, magic)
	be.PutUint32(b[4:], 3)
	be.PutUint64(b[8:], h.backingOffset)
	be.PutUint32(b[16:], h.backingSize)
	be.PutUint32(b[20:], h.clusterBits)
	be.PutUint64(b[24:], h.size)
	be.PutUint32(b[32:], h.crypt)
	be.PutUint32(b[36:], h.l1Size)
	be.PutUint64(b[40:], h.l1Offset)
	be.PutUint64(b[48:], h.reftableOffset)
	be.PutUint32(b[56:], h.reftableClus)
	be.PutUint64(b[72:], uint64(h.incompatible))
	be.PutUint64(b[80:], h.compatible)
	be.PutUint64(b[88:], h.autoclear)
	be.PutUint32(b[96:], h.refcountOrder)
	be.PutUint32(b[100:], headerFullLen)
	return b
}
