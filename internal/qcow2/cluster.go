package qcow2

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bits of L1 and L2 entries.
const (
	flagCopied     = 1 << 63 // refcount is exactly one: may be written in place
	flagCompressed = 1 << 62
	flagZero       = 1 << 0 // reads as zeros whatever the cluster holds (version 3)
	offsetMask     = 0x00fffffffffffe00
)

func word(b []byte, i int64) uint64 { return binary.BigEndian.Uint64(b[i*8:]) }

// ReadAt implements Disk.
func (im *Image) ReadAt(p []byte, off int64) (int, error) {
	n, end := clip(len(p), off, im.Size())
	im.mu.Lock()
	defer im.mu.Unlock()
	done := 0
	for done < n {
		part, in := im.part(p[done:n], off+int64(done))
		if err := im.readPart(part, off+int64(done), in); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, end
}

// WriteAt implements Disk.
func (im *Image) WriteAt(p []byte, off int64) (int, error) {
	if im.readOnly {
		return 0, ErrReadOnly
	}
	if err := inside(len(p), off, im.Size()); err != nil {
		return 0, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	done := 0
	for done < len(p) {
		part, in := im.part(p[done:], off+int64(done))
		if err := im.writePart(part, off+int64(done), in); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

// part cuts p at the end of the cluster that off lies in, and says where in the
// cluster off is.
func (im *Image) part(p []byte, off int64) ([]byte, int64) {
	cs := im.h.clusterSize()
	in := off & (cs - 1)
	return p[:min(int64(len(p)), cs-in)], in
}

// entry finds the L2 entry of the guest offset; 0 where there is none.
func (im *Image) entry(off int64) (uint64, error) {
	l1, l2 := im.indexes(off)
	at := int64(im.l1[l1] & offsetMask)
	if at == 0 {
		return 0, nil
	}
	table, err := im.table(at)
	if err != nil {
		return 0, err
	}
	return word(table, l2), nil
}

func (im *Image) indexes(off int64) (l1, l2 int64) {
	cluster := off >> im.h.clusterBits
	bits := im.h.clusterBits - 3
	return cluster >> bits, cluster & (1<<bits - 1)
}

// maxTables bounds the cache. As tables are written through, any may be dropped.
const maxTables = 128

// table returns the L2 table or refcount block at off.
func (im *Image) table(off int64) ([]byte, error) {
	if t, ok := im.tables[off]; ok {
		return t, nil
	}
	cs := im.h.clusterSize()
	if off&(cs-1) != 0 || off >= im.end {
		return nil, badf("a table at offset %#x is outside of the image", off)
	}
	t := make([]byte, cs)
	if _, err := im.f.ReadAt(t, off); err != nil && err != io.EOF {
		return nil, err
	}
	im.keep(off, t)
	return t, nil
}

func (im *Image) keep(off int64, t []byte) {
	if len(im.tables) >= maxTables {
		for k := range im.tables {
			delete(im.tables, k)
			break
		}
	}
	im.tables[off] = t
}

func (im *Image) readPart(p []byte, off, in int64) error {
	e, err := im.entry(off)
	if err != nil {
		return err
	}
	switch {
	case e&flagCompressed != 0:
		cluster, err := im.decompress(e)
		if err != nil {
			return err
		}
		copy(p, cluster[in:])
		return nil
	case im.h.version >= 3 && e&flagZero != 0:
		clear(p)
		return nil
	case e&offsetMask != 0:
		at := int64(e & offsetMask)
		if at&(im.h.clusterSize()-1) != 0 || at >= im.end {
			return badf("the cluster of guest offset %#x is outside of the image", off)
		}
		n, err := im.f.ReadAt(p, at+in)
		if err == io.EOF {
			clear(p[n:]) // allocated and never written to its end
			err = nil
		}
		return err
	case im.backing != nil:
		n, err := im.backing.ReadAt(p, off)
		if errors.Is(err, io.EOF) {
			clear(p[n:]) // a backing file may be shorter than what is on it
			err = nil
		}
		return err
	}
	clear(p)
	return nil
}

// decompress reads a compressed cluster: raw deflate without a zlib header.
func (im *Image) decompress(e uint64) ([]byte, error) {
	if im.h.compression != 0 {
		return nil, badf("zstd-compressed clusters are not supported")
	}
	off, n := im.compressed(e)
	buf := make([]byte, n)
	got, err := im.f.ReadAt(buf, off)
	if err != nil && err != io.EOF {
		return nil, err
	}
	cluster := make([]byte, im.h.clusterSize())
	if _, err := io.ReadFull(flate.NewReader(bytes.NewReader(buf[:got])), cluster); err != nil {
		return nil, badf("a compressed cluster at offset %#x does not decompress: %v", off, err)
	}
	return cluster, nil
}

// compressed says where a compressed cluster's data is: at a byte, over sectors.
func (im *Image) compressed(e uint64) (off, n int64) {
	shift := 62 - (im.h.clusterBits - 8)
	off = int64(e & (1<<shift - 1))
	sectors := int64(e>>shift)&(1<<(im.h.clusterBits-8)-1) + 1
	return off, sectors*512 - off&511
}

// writePart writes within one cluster. The order keeps the image sound if the
// process dies between any two writes: at worst a cluster is counted that nothing
// refers to.
func (im *Image) writePart(p []byte, off, in int64) error {
	l1, l2 := im.indexes(off)
	tableAt, table, err := im.ownTable(l1)
	if err != nil {
		return err
	}
	e := word(table, l2)
	zero := im.h.version >= 3 && e&flagCompressed == 0 && e&flagZero != 0
	if own := e&flagCopied != 0 && e&flagCompressed == 0; own && !zero && e&offsetMask != 0 {
		at := int64(e & offsetMask)
		if at&(im.h.clusterSize()-1) != 0 || at >= im.end {
			return badf("the cluster of guest offset %#x is outside of the image", off)
		}
		_, err := im.f.WriteAt(p, at+in)
		return err
	}
	cluster := make([]byte, im.h.clusterSize())
	if int64(len(p)) < im.h.clusterSize() {
		// Copy on write: the rest of the cluster comes from where it was.
		start := off - in
		if err := im.readPart(cluster[:min(im.h.clusterSize(), im.Size()-start)], start, 0); err != nil {
			return err
		}
	}
	copy(cluster[in:], p)
	at, err := im.allocate()
	if err != nil {
		return err
	}
	if _, err := im.f.WriteAt(cluster, at); err != nil {
		return err
	}
	if err := im.setWord(tableAt, table, l2, uint64(at)|flagCopied); err != nil {
		return err
	}
	return im.release(e)
}

// ownTable returns the L2 table of an L1 entry, made or copied if need be, so that
// it may be written.
func (im *Image) ownTable(l1 int64) (int64, []byte, error) {
	e := im.l1[l1]
	at := int64(e & offsetMask)
	if at != 0 && e&flagCopied != 0 {
		t, err := im.table(at)
		return at, t, err
	}
	t := make([]byte, im.h.clusterSize())
	if at != 0 {
		old, err := im.table(at)
		if err != nil {
			return 0, nil, err
		}
		copy(t, old)
	}
	fresh, err := im.allocate()
	if err != nil {
		return 0, nil, err
	}
	if _, err := im.f.WriteAt(t, fresh); err != nil {
		return 0, nil, err
	}
	im.keep(fresh, t)
	e = uint64(fresh) | flagCopied
	if _, err := im.f.WriteAt(binary.BigEndian.AppendUint64(nil, e), int64(im.h.l1Offset)+l1*8); err != nil {
		return 0, nil, err
	}
	im.l1[l1] = e
	if at != 0 {
		err = im.uncount(at)
	}
	return fresh, t, err
}

func (im *Image) setWord(tableAt int64, table []byte, i int64, v uint64) error {
	b := binary.BigEndian.AppendUint64(nil, v)
	if _, err := im.f.WriteAt(b, tableAt+i*8); err != nil {
		return err
	}
	copy(table[i*8:], b)
	return nil
}

// release gives up what an L2 entry referred to.
func (im *Image) release(e uint64) error {
	if e&flagCompressed == 0 {
		if at := int64(e & offsetMask); at != 0 {
			return im.uncount(at)
		}
		return nil
	}
	off, n := im.compressed(e)
	cs := im.h.clusterSize()
	for at := off &^ (cs - 1); at < off+n; at += cs {
		if err := im.uncount(at); err != nil {
			return fmt.Errorf("release a compressed cluster: %w", err)
		}
	}
	return nil
}
