//go:build linux

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/internal/vmstate"
	"golang.org/x/sys/unix"
)

// recognise tells how a snapshot is packed.
func recognise(f *os.File) (vmstate.Packing, error) {
	head := make([]byte, vmstate.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return vmstate.Packing{}, err
	}
	packing, err := vmstate.Recognise(head[:n])
	if err == nil && !packing.Packed() {
		_, err = vmstate.Head(head[:n])
	}
	if err != nil {
		return vmstate.Packing{}, fmt.Errorf("it %w", err)
	}
	return packing, nil
}

// openSnapshot opens a machine's snapshot and tells how it is packed.
func openSnapshot(path string) (*os.File, vmstate.Packing, error) {
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return nil, vmstate.Packing{}, err
	}
	c, err := recognise(f)
	if err != nil {
		f.Close()
		return nil, vmstate.Packing{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, c, nil
}

// feed is a snapshot on its way into QEMU.
type feed struct {
	path string
	// file is what QEMU inherits: the snapshot itself, or the end of a pipe into which it is unpacked. It is closed
	// once QEMU has it.
	file *os.File

	pipe *os.File // our end; nil for a snapshot that is not packed
	done chan struct{}
	err  error // why unpacking failed; written before done is closed
}

// pipeSize is what is asked for as the pipe's capacity. QEMU reads 32 KiB at once; more lets unpacking run ahead.
const pipeSize = 1 << 20

// newFeed opens a snapshot for one start.
func newFeed(path string) (*feed, error) {
	f, c, err := openSnapshot(path)
	if err != nil {
		return nil, err
	}
	s := &feed{path: path, file: f, done: make(chan struct{})}
	if !c.Packed() {
		close(s.done)
		return s, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		f.Close()
		return nil, err
	}
	if raw, err := w.SyscallConn(); err == nil {
		// Without the right to that much the usual 64 KiB stay, which is slower and no more.
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	s.file, s.pipe = r, w
	go func() {
		defer close(s.done)
		defer f.Close()
		defer w.Close()
		s.err = unpack(w, f, c)
	}()
	return s, nil
}

// unpack writes what f holds into the pipe. When QEMU has enough and closes its end the rest is read all the same, because
// the checksum comes last.
func unpack(w io.Writer, f io.Reader, c vmstate.Packing) error {
	r, err := c.Open(bufio.NewReaderSize(f, 256<<10))
	if err != nil {
		return unpackable(c, err)
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, int64(vmstate.HeadSize)))
	if err != nil {
		return unpackable(c, err)
	}
	if _, err := vmstate.Head(head); err != nil {
		return fmt.Errorf("what is packed in it with %s %w", c.Name, err)
	}
	to := &sink{w: w}
	if _, err := to.Write(head); err != nil {
		return err
	}
	// The wrappers keep io.Copy from handing the work to the reader or the pipe, whose errors could not be told apart.
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{r}, make([]byte, 256<<10)); err != nil {
		if to.failed != nil {
			return to.failed
		}
		return unpackable(c, err)
	}
	return nil
}

// unpackable is why a snapshot cannot be unpacked.
func unpackable(c vmstate.Packing, err error) error { return fmt.Errorf("it %w", c.Damaged(err)) }

// sink writes to QEMU until QEMU has closed its end, and drops what comes after that.
type sink struct {
	w      io.Writer
	enough bool
	failed error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.enough {
		return len(p), nil
	}
	n, err := s.w.Write(p)
	switch {
	case errors.Is(err, syscall.EPIPE):
		s.enough = true
		return len(p), nil
	case err != nil:
		s.failed = err
	}
	return n, err
}

// end ends unpacking, whether it was done or not, and waits for that. What QEMU still has to read it gets no more.
func (s *feed) end() {
	s.file.Close()
	if s.pipe != nil {
		_ = s.pipe.Close() // a write that waits for QEMU fails
	}
	<-s.done
}
