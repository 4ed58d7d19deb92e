package qcow2

// Check is what a walk over an image's metadata found.
type Check struct {
	// Corruptions are clusters that are in use and counted too low, and tables that
	// point outside of the image; Leaks are clusters counted too high.
	Corruptions, Leaks int
	// Allocated is how many of the Total guest clusters are in this image, Compressed how many
	// of those are compressed, Fragmented how many do not follow the one before.
	Allocated, Total, Compressed, Fragmented int64
	// EndOffset is the first byte after the last cluster in use.
	EndOffset int64
}

// CheckImage walks over the metadata of the qcow2 image at path, without changing
// it, and compares every reference with the counts. Internal snapshots are not
// walked: an image that has some is an error matching *FormatError.
func CheckImage(path string) (Check, error) {
	d, err := Open(path, OpenOptions{Format: "qcow2", ReadOnly: true, NoBacking: true})
	if err != nil {
		return Check{}, err
	}
	defer d.Close()
	im := d.(*Image)
	if im.h.snapshots > 0 {
		return Check{}, badf("checking an image with internal snapshots is not supported")
	}
	w := walk{im: im, refs: map[int64]uint64{}}
	return w.run()
}

type walk struct {
	im   *Image
	refs map[int64]uint64 // by cluster number
	c    Check
}

// refer counts a reference to every cluster that [off, off+n) touches.
func (w *walk) refer(off, n int64) {
	cs := w.im.h.clusterSize()
	if off < 0 || n < 0 || off+n > w.im.end {
		w.c.Corruptions++
		return
	}
	for at := off &^ (cs - 1); at < off+n; at += cs {
		w.refs[at/cs]++
		w.c.EndOffset = max(w.c.EndOffset, at+cs)
	}
}

func (w *walk) run() (Check, error) {
	im, cs := w.im, w.im.h.clusterSize()
	w.c.Total = (int64(im.h.size) + cs - 1) / cs
	w.refer(0, cs)
	w.refer(int64(im.h.l1Offset), int64(im.h.l1Size)*8)
	w.refer(int64(im.h.reftableOffset), int64(im.h.reftableClus)*cs)
	last := int64(-1)
	for _, e := range im.l1 {
		at := int64(e & offsetMask)
		if at == 0 {
			continue
		}
		w.refer(at, cs)
		table, err := im.table(at)
		if err != nil || w.refs[at/cs] > 1 { // shared only between snapshots
			w.c.Corruptions++
			continue
		}
		for i := range cs / 8 {
			last = w.entry(word(table, i), last)
		}
	}
	for _, b := range im.reftable {
		if at := int64(b &^ 511); at != 0 {
			w.refer(at, cs)
		}
	}
	return w.c, w.compare()
}

// entry counts what an L2 entry refers to, and returns the host offset that the
// next cluster has in an image without fragments.
func (w *walk) entry(e uint64, follows int64) int64 {
	cs := w.im.h.clusterSize()
	switch {
	case e&flagCompressed != 0:
		off, n := w.im.compressed(e)
		// The data may end before its last sector does.
		w.refer(off, min(n, w.im.end-off))
		w.c.Compressed++
		w.c.Allocated++
		w.c.Fragmented++ // QEMU counts each compressed cluster as one
		return follows
	case e&offsetMask != 0:
		at := int64(e & offsetMask)
		if at&(cs-1) != 0 {
			w.c.Corruptions++
			return follows
		}
		w.refer(at, cs)
		w.c.Allocated++
		if follows >= 0 && at != follows {
			w.c.Fragmented++
		}
		return at + cs
	}
	return follows
}

func (w *walk) compare() error {
	im, cs := w.im, w.im.h.clusterSize()
	for n, b := range im.reftable {
		at := int64(b &^ 511)
		if at == 0 {
			continue
		}
		block, err := im.table(at)
		if err != nil || w.refs[at/cs] > 1 {
			// Not walked twice: a table full of one block would take for ever.
			w.c.Corruptions++
			continue
		}
		for i := range im.perBlock() {
			c := int64(n)*im.perBlock() + i
			want, got := w.refs[c], im.getCount(block, i)
			switch {
			case got < want:
				w.c.Corruptions++
			case got > want:
				w.c.Leaks++
				w.c.EndOffset = max(w.c.EndOffset, (c+1)*cs)
			}
			delete(w.refs, c)
		}
	}
	w.c.Corruptions += len(w.refs) // used, and in no block at all
	return nil
}
