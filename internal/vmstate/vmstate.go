// Package vmstate looks at what QEMU's migrate writes, such as the memory snapshots of machines, packed or not: whether a file is one,
// and whether it is whole.
package vmstate

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// A memory snapshot is what QEMU's migrate writes: a magic number and a version, a section with the name of the machine type, the
// sections with the state, and last a description of them in JSON, with its length before it
// (https://www.qemu.org/docs/master/devel/migration/main.html#stream-structure).
const (
	migrationMagic = "QEVM"
	streamVersion  = 3
	// The bytes that begin the sections that are looked at.
	sectionEnd           = 0x00
	sectionConfiguration = 0x07
	sectionDescription   = 0x06
	// maxTypeName and maxDescription bound those sections. A description of a large machine has some 50 KiB.
	maxTypeName    = 256
	maxDescription = 1 << 20
)

// Stream is what there is to know of a memory snapshot.
type Stream struct {
	// MachineType is that of the machine that it was made of; empty if it does not say.
	MachineType string
}

// Examine looks at a memory snapshot: whether it is one, and whether it is whole. With quick, of a packed one only the beginning is
// read. What was found is returned with the error, too, whose text goes on after the file's name ("is empty").
func Examine(ctx context.Context, f *os.File, quick bool) (Stream, error) {
	info, err := f.Stat()
	if err != nil {
		return Stream{}, fmt.Errorf("cannot be looked at: %w", reason(err))
	}
	size := info.Size()
	head := make([]byte, min(size, int64(HeadSize)))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return Stream{}, fmt.Errorf("cannot be read: %w", reason(err))
	}
	packing, err := Recognise(head)
	if err != nil {
		return Stream{}, err
	}
	if packing.Packed() {
		r, err := packing.Open(bufio.NewReaderSize(interruptible{ctx, f}, 256<<10))
		if err != nil {
			return Stream{}, packing.Damaged(err)
		}
		defer r.Close()
		found, err := examineStream(r, quick)
		if bad, is := errors.AsType[*unpackError](err); is {
			err = packing.Damaged(bad.err)
		}
		return found, err
	}
	found, err := Head(head)
	if err != nil {
		return found, err
	}
	end := make([]byte, min(size, maxDescription+5))
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return found, fmt.Errorf("cannot be read: %w", reason(err))
	}
	return found, whole(end)
}

// examineStream looks at a snapshot that is being unpacked.
func examineStream(r io.Reader, quick bool) (Stream, error) {
	head, err := io.ReadAll(io.LimitReader(r, int64(HeadSize))) // in which the end of what is packed is no error, but one that came too early is
	if err != nil {
		return Stream{}, &unpackError{err}
	}
	found, err := Head(head)
	if err != nil || quick {
		return found, err
	}
	end := &tail{kept: head}
	// The wrappers keep io.Copy from handing the work to the reader, whose errors could not be told apart.
	if _, err := io.CopyBuffer(end, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		return found, &unpackError{err}
	}
	return found, whole(end.bytes())
}

// unpackError is an error in unpacking, or in reading what is packed.
type unpackError struct{ err error }

func (e *unpackError) Error() string { return e.err.Error() }

// HeadSize is how much of a snapshot Head wants, in bytes.
const HeadSize = len(migrationMagic) + 4 + 1 + 4 + maxTypeName + 1

// Head looks at how a snapshot begins. head is its first HeadSize bytes, or all of a shorter one. What was found is returned with the
// error, too, whose text goes on after the file's name ("is cut short: …").
//
// QEMU takes a stream that ends before any section for a machine without a state: it boots it, and says nothing.
func Head(head []byte) (Stream, error) {
	const least = len(migrationMagic) + 4 + 1 + 4
	switch n := len(head); {
	case n == 0:
		return Stream{}, errors.New("has nothing in it once it is unpacked")
	case !strings.HasPrefix(string(head), migrationMagic[:min(n, len(migrationMagic))]):
		return Stream{}, fmt.Errorf("is not a memory snapshot of QEMU: what is in it begins with % x", head[:min(n, 8)])
	case n >= 8 && binary.BigEndian.Uint32(head[4:]) != streamVersion:
		return Stream{}, fmt.Errorf("is a migration stream of version %d, and QEMU reads version %d", binary.BigEndian.Uint32(head[4:]), streamVersion)
	case n < least:
		return Stream{}, fmt.Errorf("is cut short: a memory snapshot has more than %d bytes", n)
	}
	var found Stream
	next := head[8:]
	length := binary.BigEndian.Uint32(head[9:])
	if head[8] == sectionConfiguration && length > 0 && length <= maxTypeName { // machines before QEMU 2.4 do not say
		next = head[least:]
		if len(next) < int(length) {
			return found, errors.New("is cut short: it ends in the name of the machine type")
		}
		found.MachineType, next = string(next[:length]), next[length:]
	}
	if len(next) == 0 || next[0] == sectionEnd || next[0] == sectionDescription {
		return found, errors.New("has nothing of a machine in it: it ends where its first section would begin")
	}
	return found, nil
}

// ErrNoDescription is the error of a snapshot that ends as one may, but not as QEMU ends most: it is whole, or was cut at a zero, or has zeros
// behind its end.
var ErrNoDescription = errors.New("may be cut short: it does not end with the description of its sections that QEMU writes last, except for machine types before 2.3 and with suppress-vmdesc=on")

// whole is an error if a snapshot does not end as QEMU ends one.
func whole(end []byte) error {
	for at := len(end) - 6; at >= 0; at-- {
		if end[at] == sectionDescription && end[at+5] == '{' && int(binary.BigEndian.Uint32(end[at+1:])) == len(end)-at-5 {
			return nil
		}
	}
	if len(end) > 0 && end[len(end)-1] == sectionEnd {
		return ErrNoDescription
	}
	return errors.New("is cut short: it does not end with the description of its sections that QEMU writes last")
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - (maxDescription + 5); extra > maxDescription { // seldom, as it moves what is kept
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte { return t.kept[max(0, len(t.kept)-(maxDescription+5)):] }

// interruptible reads until a context ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// reason is an error without the name of the file, which is said already.
func reason(err error) error {
	if e, is := errors.AsType[*fs.PathError](err); is {
		return e.Err
	}
	return err
}
