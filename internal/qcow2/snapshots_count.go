package qcow2

import "encoding/binary"

// count adds a reference to all that an L1 table refers to, or takes one away. Data that becomes
// shared is marked as not to be written in place.
func (im *Image) count(l1 []uint64, more bool) error {
	for _, e := range l1 {
		at := int64(e & offsetMask)
		if at == 0 {
			continue
		}
		table, err := im.table(at)
		if err != nil {
			return err
		}
		for k := int64(0); k*8 < int64(len(table)); k++ {
			entry := word(table, k)
			if entry == 0 {
				continue
			}
			if !more {
				if err := im.release(entry); err != nil {
					return err
				}
				continue
			}
			if err := im.share(entry); err != nil {
				return err
			}
			if entry&flagCopied != 0 {
				if err := im.setWord(at, table, k, entry&^flagCopied); err != nil {
					return err
				}
			}
		}
		if more {
			err = im.addCount(at)
		} else {
			err = im.uncount(at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// share adds a reference to what an L2 entry refers to.
func (im *Image) share(e uint64) error {
	if e&flagCompressed == 0 {
		if at := int64(e & offsetMask); at != 0 {
			return im.addCount(at)
		}
		return nil
	}
	off, n := im.compressed(e)
	cs := im.h.clusterSize()
	for at := off &^ (cs - 1); at < off+n; at += cs {
		if err := im.addCount(at); err != nil {
			return err
		}
	}
	return nil
}

// addCount adds a reference to the cluster at off.
func (im *Image) addCount(off int64) error {
	_, block, i, err := im.block(off)
	if err != nil {
		return err
	}
	v := im.getCount(block, i)
	if bits := uint(1) << im.h.refcountOrder; bits < 64 && v+1 >= 1<<bits {
		return badf("the cluster at offset %#x cannot be shared once more: its count has %d bits", off, bits)
	}
	return im.setCount(off, v+1)
}

func (im *Image) uncountRange(off, n int64) error {
	cs := im.h.clusterSize()
	for at := off &^ (cs - 1); at < off+n; at += cs {
		if err := im.uncount(at); err != nil {
			return err
		}
	}
	return nil
}

// markCopied sets the mark of everything in the active table that nothing else
// refers to, and takes it from the rest, as QEMU does after a snapshot has gone.
func (im *Image) markCopied() error {
	for i, e := range im.l1 {
		at := int64(e & offsetMask)
		if at == 0 {
			continue
		}
		table, err := im.table(at)
		if err != nil {
			return err
		}
		for k := int64(0); k*8 < int64(len(table)); k++ {
			entry := word(table, k)
			if entry&flagCompressed != 0 || entry&offsetMask == 0 {
				continue
			}
			marked, err := im.marked(entry, int64(entry&offsetMask))
			if err != nil {
				return err
			}
			if marked != entry {
				if err := im.setWord(at, table, k, marked); err != nil {
					return err
				}
			}
		}
		marked, err := im.marked(e, at)
		if err != nil {
			return err
		}
		if err := im.setL1(i, marked); err != nil {
			return err
		}
	}
	return nil
}

func (im *Image) marked(e uint64, at int64) (uint64, error) {
	_, block, i, err := im.block(at)
	if err != nil {
		return 0, err
	}
	if im.getCount(block, i) == 1 {
		return e | flagCopied, nil
	}
	return e &^ flagCopied, nil
}

// setL1 changes an entry of the active L1 table.
func (im *Image) setL1(i int, e uint64) error {
	if im.l1[i] == e {
		return nil
	}
	if _, err := im.f.WriteAt(binary.BigEndian.AppendUint64(nil, e), int64(im.h.l1Offset)+int64(i)*8); err != nil {
		return err
	}
	im.l1[i] = e
	return nil
}

// putState writes what was saved of a machine to clusters of its own and returns
// the L1 entries that lead there.
func (im *Image) putState(machine []byte) ([]uint64, error) {
	cs := im.h.clusterSize()
	var l1 []uint64
	for len(machine) > 0 {
		table := make([]byte, cs)
		for k := int64(0); k < cs/8 && len(machine) > 0; k++ {
			cluster := make([]byte, cs)
			machine = machine[copy(cluster, machine):]
			at, err := im.allocate()
			if err != nil {
				return nil, err
			}
			if _, err := im.f.WriteAt(cluster, at); err != nil {
				return nil, err
			}
			binary.BigEndian.PutUint64(table[k*8:], uint64(at))
		}
		at, err := im.allocate()
		if err != nil {
			return nil, err
		}
		if _, err := im.f.WriteAt(table, at); err != nil {
			return nil, err
		}
		l1 = append(l1, uint64(at))
	}
	return l1, nil
}

// appendWords writes a table to clusters of its own that follow each other.
func (im *Image) appendWords(words []uint64) (int64, error) {
	b := make([]byte, 0, len(words)*8)
	for _, w := range words {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return im.appendBytes(b)
}

func (im *Image) appendBytes(b []byte) (int64, error) {
	cs := im.h.clusterSize()
	n := (int64(len(b)) + cs - 1) / cs
	free := im.free
	defer func() { im.free = append(im.free, free...) }()
	for {
		im.free = nil // these need not follow each other
		var got []int64
		for range n {
			at, err := im.allocate()
			if err != nil {
				return 0, err
			}
			got = append(got, at)
		}
		// A block of counts may have come between; then once more, behind it.
		if n == 0 || got[n-1]-got[0] == (n-1)*cs {
			if n == 0 {
				return 0, nil
			}
			padded := append(b, make([]byte, n*cs-int64(len(b)))...)
			_, err := im.f.WriteAt(padded, got[0])
			return got[0], err
		}
		for _, at := range got {
			if err := im.uncount(at); err != nil {
				return 0, err
			}
		}
		free = append(free, im.free...)
	}
}

// writeSnapshots replaces the snapshot table.
func (im *Image) writeSnapshots(entries [][]byte) error {
	var table []byte
	for _, e := range entries {
		table = append(table, e...)
	}
	at, err := im.appendBytes(table)
	if err != nil {
		return err
	}
	oldAt, oldSize, err := im.snapshotTable()
	if err != nil {
		return err
	}
	// Both in one write: bytes 60 to 71 of the header.
	b := binary.BigEndian.AppendUint32(nil, uint32(len(entries)))
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	if _, err := im.f.WriteAt(b, 60); err != nil {
		return err
	}
	im.h.snapshots, im.h.snapOffset = uint32(len(entries)), uint64(at)
	im.info.Snapshots = len(entries)
	if oldSize == 0 {
		return nil
	}
	return im.uncountRange(oldAt, oldSize)
}

// snapshotTable is where the table is and how long.
func (im *Image) snapshotTable() (at, n int64, err error) {
	all, err := im.stored()
	if err != nil {
		return 0, 0, err
	}
	for _, s := range all {
		n += int64(len(s.entry))
	}
	return int64(im.h.snapOffset), n, nil
}
