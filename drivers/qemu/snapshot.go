//go:build linux

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/internal/vmstate"
	"github.com/pierrec/lz4/v4"
	"golang.org/x/sys/unix"
)

// compression is how a memory snapshot is packed, told by its first bytes and never by its name.
type compression struct {
	name  string
	magic string
	// open returns a reader of what is packed, to be closed; nil for what is not packed.
	open func(io.Reader) (io.ReadCloser, error)
}

// migrationMagic is what a state begins with that QEMU's migrate wrote.
const migrationMagic = "QEVM"

// maxWindow is how much of what was unpacked zstd may need at once, in bytes.
const maxWindow = 512 << 20

var compressions = []compression{
	{"raw", migrationMagic, nil},
	{"gzip", "\x1f\x8b\x08", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"lz4", "\x04\x22\x4d\x18", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(lz4.NewReader(r)), nil }},
	{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		// The window is what zstd's --long=29 needs; a file that claims more is not worth that memory.
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}},
}

// recognise tells how a snapshot is packed.
func recognise(f *os.File) (compression, error) {
	head := make([]byte, vmstate.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return compression{}, err
	}
	head = head[:n]
	if n == 0 {
		return compression{}, errors.New("it is empty")
	}
	for _, c := range compressions {
		if len(head) < len(c.magic) || string(head[:len(c.magic)]) != c.magic {
			continue
		}
		if c.open == nil {
			if _, err := vmstate.Head(head); err != nil {
				return compression{}, fmt.Errorf("it %w", err)
			}
		}
		return c, nil
	}
	return compression{}, fmt.Errorf("it is not a memory snapshot of QEMU: it begins with % x, which is neither a migration stream (QEVM) nor gzip, lz4 or zstd", head[:min(n, 8)])
}

// openSnapshot opens a machine's snapshot and tells how it is packed.
func openSnapshot(path string) (*os.File, compression, error) {
	f, err := hostfile.OpenRegular(path)
	if err != nil {
		return nil, compression{}, err
	}
	c, err := recognise(f)
	if err != nil {
		f.Close()
		return nil, compression{}, fmt.Errorf("%s: %w", path, err)
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
	if c.open == nil {
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
func unpack(w io.Writer, f io.Reader, c compression) error {
	r, err := c.open(bufio.NewReaderSize(f, 256<<10))
	if err != nil {
		return damaged(c, err)
	}
	defer r.Close()
	head, err := io.ReadAll(io.LimitReader(r, int64(vmstate.HeadSize)))
	if err != nil {
		return damaged(c, err)
	}
	if _, err := vmstate.Head(head); err != nil {
		return fmt.Errorf("what is packed in it with %s %w", c.name, err)
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
		return damaged(c, err)
	}
	return nil
}

func damaged(c compression, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("it is cut short: %s ends before its end mark", c.name)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("it is packed in a way that is not supported, with a window of more than %d MiB (zstd --long=29 or less does it): %w", maxWindow>>20, err)
	}
	if strings.HasPrefix(err.Error(), c.name+":") {
		return fmt.Errorf("it is damaged: %w", err)
	}
	return fmt.Errorf("it is damaged: %s: %w", c.name, err)
}

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
