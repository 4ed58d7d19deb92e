package qcow2

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// allocate returns the offset of a cluster that is counted once and that nothing
// refers to. Its content is undefined.
func (im *Image) allocate() (int64, error) {
	if n := len(im.free); n > 0 {
		at := im.free[n-1]
		if err := im.setCount(at, 1); err != nil {
			return 0, err
		}
		im.free = im.free[:n-1]
		return at, nil
	}
	if err := im.coverEnd(); err != nil {
		return 0, err
	}
	at := im.end
	im.end += im.h.clusterSize()
	if err := im.setCount(at, 1); err != nil {
		return 0, err
	}
	return at, nil
}

// perBlock is how many clusters one refcount block counts.
func (im *Image) perBlock() int64 { return im.h.clusterSize() * 8 >> im.h.refcountOrder }

// coverEnd makes sure that a refcount block exists for the cluster at im.end.
func (im *Image) coverEnd() error {
	cs := im.h.clusterSize()
	for {
		i := im.end / cs / im.perBlock()
		if i >= int64(len(im.reftable)) {
			if err := im.growReftable(); err != nil {
				return err
			}
			continue
		}
		if im.reftable[i]&^511 != 0 {
			return nil
		}
		// A new block goes to the end of the file and counts itself.
		at := im.end
		block := make([]byte, cs)
		im.putCount(block, at/cs%im.perBlock(), 1)
		if _, err := im.f.WriteAt(block, at); err != nil {
			return err
		}
		im.end += cs
		im.keep(at, block)
		if err := im.setReftable(i, uint64(at)); err != nil {
			return err
		}
	}
}

func (im *Image) setReftable(i int64, v uint64) error {
	if _, err := im.f.WriteAt(binary.BigEndian.AppendUint64(nil, v), int64(im.h.reftableOffset)+i*8); err != nil {
		return err
	}
	im.reftable[i] = v
	return nil
}

// growReftable replaces the refcount table by one twice as long at the end of the
// file, followed by the refcount blocks that count both.
func (im *Image) growReftable() error {
	cs := im.h.clusterSize()
	clusters := int64(im.h.reftableClus)*2 + 1
	first := im.end / cs
	// The file may be far longer than what its table counts.
	for clusters*cs/8 < (first+clusters)/im.perBlock()+3 && clusters*cs <= maxReftableBytes {
		clusters *= 2
	}
	if clusters*cs > maxReftableBytes {
		return fmt.Errorf("the image cannot grow: its reference count table is at its limit of %d bytes", maxReftableBytes)
	}
	table := append(slices.Clone(im.reftable), make([]uint64, clusters*cs/8-int64(len(im.reftable)))...)
	blocks := int64(0)
	for { // the blocks count themselves
		need := int64(0)
		for i := first / im.perBlock(); i <= (first+clusters+blocks-1)/im.perBlock(); i++ {
			if table[i] == 0 {
				need++
			}
		}
		if need <= blocks {
			break
		}
		blocks = need
	}
	fresh := map[int64][]byte{}
	next := (first + clusters) * cs
	for c := first; c < first+clusters+blocks; c++ {
		i := c / im.perBlock()
		if table[i] == 0 {
			table[i] = uint64(next)
			fresh[next] = make([]byte, cs)
			next += cs
		}
		block, ok := fresh[int64(table[i])]
		if !ok {
			return badf("the reference count block of a cluster beyond the end exists already")
		}
		im.putCount(block, c%im.perBlock(), 1)
	}
	buf := make([]byte, 0, len(table)*8)
	for _, w := range table {
		buf = binary.BigEndian.AppendUint64(buf, w)
	}
	for at, block := range fresh {
		if _, err := im.f.WriteAt(block, at); err != nil {
			return err
		}
		im.keep(at, block)
	}
	if _, err := im.f.WriteAt(buf, first*cs); err != nil {
		return err
	}
	// Offset and length are beside each other in the header: one write switches over.
	sw := binary.BigEndian.AppendUint64(nil, uint64(first*cs))
	sw = binary.BigEndian.AppendUint32(sw, uint32(clusters))
	if _, err := im.f.WriteAt(sw, 48); err != nil {
		return err
	}
	old, oldClusters := int64(im.h.reftableOffset), int64(im.h.reftableClus)
	im.h.reftableOffset, im.h.reftableClus = uint64(first*cs), uint32(clusters)
	im.reftable = table
	im.end = (first + clusters + blocks) * cs
	for i := range oldClusters {
		if err := im.uncount(old + i*cs); err != nil {
			return err
		}
	}
	return nil
}

// block returns the refcount block of the cluster at off and the index in it.
func (im *Image) block(off int64) (at int64, block []byte, i int64, err error) {
	c := off / im.h.clusterSize()
	n := c / im.perBlock()
	if n >= int64(len(im.reftable)) || im.reftable[n]&^511 == 0 {
		return 0, nil, 0, badf("cluster at offset %#x has no reference count", off)
	}
	at = int64(im.reftable[n] &^ 511)
	block, err = im.table(at)
	return at, block, c % im.perBlock(), err
}

func (im *Image) setCount(off int64, v uint64) error {
	at, block, i, err := im.block(off)
	if err != nil {
		return err
	}
	old := im.getCount(block, i)
	im.putCount(block, i, v)
	// Only the bytes that hold the count.
	first := i << im.h.refcountOrder / 8
	last := ((i+1)<<im.h.refcountOrder - 1) / 8
	if _, err = im.f.WriteAt(block[first:last+1], at+first); err != nil {
		im.putCount(block, i, old) // a full disk: go on from what the file says
	}
	return err
}

// uncount takes one reference from the cluster at off.
func (im *Image) uncount(off int64) error {
	_, block, i, err := im.block(off)
	if err != nil {
		return err
	}
	v := im.getCount(block, i)
	if v == 0 {
		return badf("cluster at offset %#x is in use and counted as free", off)
	}
	if err := im.setCount(off, v-1); err != nil {
		return err
	}
	if v == 1 {
		delete(im.tables, off)
		im.free = append(im.free, off)
	}
	return nil
}

// getCount and putCount know the widths: 1, 2 and 4 bits are packed from the low end
// of a byte, wider ones are big-endian.
func (im *Image) getCount(block []byte, i int64) uint64 {
	switch o := im.h.refcountOrder; o {
	case 0, 1, 2:
		bit := i << o
		return uint64(block[bit/8]>>(bit%8)) & (1<<(1<<o) - 1)
	case 3:
		return uint64(block[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(block[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(block[i*4:]))
	default:
		return binary.BigEndian.Uint64(block[i*8:])
	}
}

func (im *Image) putCount(block []byte, i int64, v uint64) {
	switch o := im.h.refcountOrder; o {
	case 0, 1, 2:
		bit := i << o
		mask := byte(1<<(1<<o)-1) << (bit % 8)
		block[bit/8] = block[bit/8]&^mask | byte(v)<<(bit%8)&mask
	case 3:
		block[i] = byte(v)
	case 4:
		binary.BigEndian.PutUint16(block[i*2:], uint16(v))
	case 5:
		binary.BigEndian.PutUint32(block[i*4:], uint32(v))
	default:
		binary.BigEndian.PutUint64(block[i*8:], v)
	}
}
