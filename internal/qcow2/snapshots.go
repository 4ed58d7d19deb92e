package qcow2

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// Snapshot is an internal snapshot of an image.
type Snapshot struct {
	// ID is the number that QEMU gave it, and Name is what it is asked for by.
	ID, Name string
	// VMStateSize is how much was saved of the machine beside its disk, in bytes; 0
	// for the snapshot of a machine that was off.
	VMStateSize int64
	// Sum is a checksum of all that the snapshot holds, of the disk and of the
	// machine: where in the image that lies does not change it. What is in backing
	// files is not part of it.
	Sum string
}

// Snapshots reads the internal snapshots of an image in the order of its table. The
// image may be in use, as long as nobody makes or deletes snapshots: what a
// snapshot holds stays where it is.
func Snapshots(path string) ([]Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first := make([]byte, headerFullLen)
	if _, err := f.ReadAt(first, 0); err != nil && err != io.EOF {
		return nil, err
	}
	h, err := parseHeader(first)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if h.incompatible&(FeatureExtendedL2|FeatureExternalData) != 0 {
		return nil, fmt.Errorf("%s: the snapshots of an image with %s are not read", path, h.incompatible)
	}
	var all []Snapshot
	at := int64(h.snapOffset)
	for range h.snapshots {
		var s Snapshot
		if s, at, err = readSnapshot(f, h, at); err != nil {
			return nil, fmt.Errorf("%s: snapshot %d: %w", path, len(all)+1, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// snapshotFixed is the length of the fixed part of a snapshot in the table.
const snapshotFixed = 40

// readSnapshot reads the snapshot at an offset of the table, and tells where the
// next one is.
func readSnapshot(f io.ReaderAt, h *header, at int64) (s Snapshot, next int64, err error) {
	be := binary.BigEndian
	fixed := make([]byte, snapshotFixed)
	if _, err := f.ReadAt(fixed, at); err != nil {
		return s, 0, err
	}
	l1Offset, l1Size := int64(be.Uint64(fixed)), int64(be.Uint32(fixed[8:]))
	idSize, nameSize, extraSize := int64(be.Uint16(fixed[12:])), int64(be.Uint16(fixed[14:])), int64(be.Uint32(fixed[36:]))
	if l1Size*8 > maxL1Bytes || extraSize > 1<<10 {
		return s, 0, badf("its entry in the table is damaged")
	}
	rest := make([]byte, extraSize+idSize+nameSize)
	if _, err := f.ReadAt(rest, at+snapshotFixed); err != nil {
		return s, 0, err
	}
	s.VMStateSize = int64(be.Uint32(fixed[32:]))
	if extraSize >= 8 {
		s.VMStateSize = int64(be.Uint64(rest))
	}
	s.ID, s.Name = string(rest[extraSize:extraSize+idSize]), string(rest[extraSize+idSize:])
	if s.Sum, err = sumTables(f, h, l1Offset, l1Size); err != nil {
		return s, 0, err
	}
	return s, (at + snapshotFixed + extraSize + idSize + nameSize + 7) &^ 7, nil
}

// sumTables makes a checksum of all that is below an L1 table: each cluster's
// number for the guest, and what it holds.
func sumTables(f io.ReaderAt, h *header, offset, size int64) (string, error) {
	sum := sha256.New()
	l1 := make([]byte, size*8)
	if _, err := f.ReadAt(l1, offset); err != nil {
		return "", err
	}
	l2, data := make([]byte, h.clusterSize()), make([]byte, h.clusterSize())
	perTable := h.clusterSize() / 8
	note := func(index int64, kind byte) { sum.Write(binary.BigEndian.AppendUint64([]byte{kind}, uint64(index))) }
	for i := range size {
		at := int64(word(l1, i) & offsetMask)
		if at == 0 {
			continue
		}
		if _, err := f.ReadAt(l2, at); err != nil {
			return "", err
		}
		for k := range perTable {
			e, index := word(l2, k), i*perTable+k
			switch {
			case e&flagCompressed != 0:
				off, n := (&Image{h: *h}).compressed(e)
				packed := make([]byte, n)
				read, err := f.ReadAt(packed, off)
				if err != nil && err != io.EOF {
					return "", err
				}
				note(index, 'c')
				sum.Write(packed[:read])
			case e&flagZero != 0:
				note(index, 'z')
			case e&offsetMask != 0:
				read, err := f.ReadAt(data, int64(e&offsetMask))
				if err != nil && err != io.EOF {
					return "", err
				}
				clear(data[read:]) // the image's last cluster may be cut short; it grows later
				note(index, 'd')
				sum.Write(data)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
