package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"time"
)

// ErrNoSnapshot is matched by the errors about a snapshot that an image does not have.
var ErrNoSnapshot = fmt.Errorf("there is no such snapshot: %w", fs.ErrNotExist)

// stored is a snapshot as the table has it.
type stored struct {
	Snapshot
	l1Offset int64
	l1       []uint64
	entry    []byte
}

// stored reads the snapshot table.
func (im *Image) stored() ([]stored, error) {
	var all []stored
	at := int64(im.h.snapOffset)
	for range im.h.snapshots {
		s, next, err := readSnapshot(im.f, &im.h, at)
		if err != nil {
			return nil, err
		}
		one := stored{Snapshot: s, entry: make([]byte, next-at)}
		if _, err := im.f.ReadAt(one.entry, at); err != nil && err != io.EOF {
			return nil, err
		}
		one.l1Offset = int64(binary.BigEndian.Uint64(one.entry))
		if one.l1, err = im.readTable(one.l1Offset, int64(binary.BigEndian.Uint32(one.entry[8:]))); err != nil {
			return nil, err
		}
		all = append(all, one)
		at = next
	}
	return all, nil
}

func (im *Image) storedAs(name string) ([]stored, int, error) {
	all, err := im.stored()
	if err != nil {
		return nil, 0, err
	}
	i := slices.IndexFunc(all, func(s stored) bool { return s.Name == name })
	if i < 0 {
		return nil, 0, fmt.Errorf("%q: %w", name, ErrNoSnapshot)
	}
	return all, i, nil
}

// TakeSnapshot adds an internal snapshot of the disk as it is, with what was saved of the machine
// beside it; none for a machine that is off. The image may go on being written.
// Two snapshots of one name are refused.
func (im *Image) TakeSnapshot(name string, machine []byte, when time.Time) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.readOnly {
		return ErrReadOnly
	}
	all, err := im.stored()
	if err != nil {
		return err
	}
	id := 1
	for _, s := range all {
		if s.Name == name {
			return fmt.Errorf("there is a snapshot %q already", name)
		}
		if n, err := strconv.Atoi(s.ID); err == nil {
			id = max(id, n+1)
		}
	}
	// The machine's part lies behind the disk's last cluster, from the next L1 entry on.
	l1 := slices.Clone(im.l1[:im.h.l1Needed()])
	if err := im.count(l1, true); err != nil {
		return err
	}
	for i := range im.l1 {
		if err := im.setL1(i, im.l1[i]&^flagCopied); err != nil {
			return err
		}
	}
	for i := range l1 {
		l1[i] &^= flagCopied
	}
	extra, err := im.putState(machine)
	if err != nil {
		return err
	}
	l1 = append(l1, extra...)
	at, err := im.appendWords(l1)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	e := make([]byte, snapshotFixed, snapshotFixed+64+len(name))
	be.PutUint64(e, uint64(at))
	be.PutUint32(e[8:], uint32(len(l1)))
	be.PutUint16(e[12:], uint16(len(strconv.Itoa(id))))
	be.PutUint16(e[14:], uint16(len(name)))
	be.PutUint32(e[16:], uint32(when.Unix()))
	be.PutUint32(e[20:], uint32(when.Nanosecond()))
	be.PutUint32(e[32:], uint32(len(machine)))
	be.PutUint32(e[36:], 24) // of what follows: the state's size again, the disk's, and the count of instructions
	e = be.AppendUint64(e, uint64(len(machine)))
	e = be.AppendUint64(e, im.h.size)
	e = be.AppendUint64(e, ^uint64(0)) // no instructions were counted
	e = append(e, strconv.Itoa(id)+name...)
	e = append(e, make([]byte, -len(e)&7)...)
	entries := [][]byte{}
	for _, s := range all {
		entries = append(entries, s.entry)
	}
	return im.writeSnapshots(append(entries, e))
}

// ApplySnapshot makes the disk what it was when the snapshot was taken. The
// snapshot stays.
func (im *Image) ApplySnapshot(name string) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.readOnly {
		return ErrReadOnly
	}
	all, i, err := im.storedAs(name)
	if err != nil {
		return err
	}
	l1 := all[i].l1[:min(len(all[i].l1), int(im.h.l1Needed()))]
	if err := im.count(l1, true); err != nil {
		return err
	}
	old := slices.Clone(im.l1)
	for i := range im.l1 {
		e := uint64(0)
		if i < len(l1) {
			e = l1[i] &^ flagCopied
		}
		if err := im.setL1(i, e); err != nil {
			return err
		}
	}
	return im.count(old, false)
}

// SnapshotState returns what was saved of the machine with a snapshot.
func (im *Image) SnapshotState(name string) ([]byte, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	all, at, err := im.storedAs(name)
	if err != nil {
		return nil, err
	}
	s := all[at]
	if s.VMStateSize > 1<<30 {
		return nil, badf("the snapshot %q has %d bytes of a machine", name, s.VMStateSize)
	}
	first := im.h.l1Needed()
	if uint64(len(s.l1)) < first {
		return nil, badf("the snapshot %q is cut short", name)
	}
	var out []byte
	for _, e := range s.l1[first:] {
		if e&offsetMask == 0 {
			break
		}
		table, err := im.table(int64(e & offsetMask))
		if err != nil {
			return nil, err
		}
		for k := int64(0); k*8 < int64(len(table)) && int64(len(out)) < s.VMStateSize; k++ {
			cluster := make([]byte, im.h.clusterSize())
			if err := im.readEntry(cluster, word(table, k)); err != nil {
				return nil, err
			}
			out = append(out, cluster...)
		}
	}
	if int64(len(out)) < s.VMStateSize {
		return nil, badf("the snapshot %q is cut short", name)
	}
	return out[:s.VMStateSize], nil
}

// readEntry reads the cluster of an L2 entry that is neither compressed nor in
// another image.
func (im *Image) readEntry(p []byte, e uint64) error {
	if e&flagCompressed != 0 || e&flagZero != 0 || e&offsetMask == 0 {
		return nil
	}
	n, err := im.f.ReadAt(p, int64(e&offsetMask))
	if errors.Is(err, io.EOF) && n > 0 {
		err = nil
	}
	return err
}

// DeleteSnapshot removes a snapshot; the disk stays as it is.
func (im *Image) DeleteSnapshot(name string) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.readOnly {
		return ErrReadOnly
	}
	all, at, err := im.storedAs(name)
	if err != nil {
		return err
	}
	var entries [][]byte
	for i, s := range all {
		if i != at {
			entries = append(entries, s.entry)
		}
	}
	if err := im.writeSnapshots(entries); err != nil {
		return err
	}
	if err := im.count(all[at].l1, false); err != nil {
		return err
	}
	if err := im.uncountRange(all[at].l1Offset, int64(len(all[at].l1))*8); err != nil {
		return err
	}
	return im.markCopied()
}
