//go:build linux

package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/internal/pcap"
	"golang.org/x/sys/unix"
)

// Recording is a capture in a ledger: what is to be finished when it ends, by whoever holds the machine then.
type Recording struct {
	// Method is the driver's word for how it is made.
	Method string `json:"method"`
	// Path is where the file is to be, MaxBytes how much it may have, and Exclude the endpoints to leave out of it.
	Path     string           `json:"path"`
	MaxBytes int64            `json:"max_bytes"`
	Exclude  []netip.AddrPort `json:"exclude,omitempty"`
	// Raw are the files that are recorded to.
	Raw []string `json:"raw"`
	// Tool is the tcpdump.
	Tool *Tool `json:"tool,omitempty"`
}

// Recording is what goes into a ledger for it.
func (a *Armed) Recording(method string) *Recording {
	r := &Recording{Method: method, Path: a.Path, MaxBytes: a.Max, Exclude: a.Exclude}
	r.Plan(1)
	return r
}

// Plan names the files that are recorded to. They are beside the file that they become, so that there is room for it and who may
// read the one may read the others.
func (c *Recording) Plan(n int) {
	dir, name := filepath.Split(c.Path)
	unique := rand.Text()[:12]
	c.Raw = make([]string, n)
	for i := range c.Raw {
		c.Raw[i] = filepath.Join(dir, fmt.Sprintf(".%s.%s-%d.part", outfile.Shortened(name), unique, i))
	}
}

// Create makes those files. What there is by that name is not touched: it is nobody's that is known here.
func (c *Recording) Create() (files []*os.File, err error) {
	for _, path := range c.Raw {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		// QEMU 7.2.22 does not notice that it cannot write the header of its file. Whether there is room for one shows here.
		_, err = f.WriteAt(make([]byte, pcap.HeaderSize), 0)
		if err == nil {
			err = f.Truncate(0)
		}
		if err != nil {
			return files, err
		}
	}
	return files, nil
}

// Recorded is how many bytes are in them.
func (c *Recording) Recorded() int64 {
	var sum int64
	for _, path := range c.Raw {
		if info, err := os.Lstat(path); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// Remove removes them.
func (c *Recording) Remove() error {
	var failed []error
	for _, path := range c.Raw {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// finishTime is how long a recording may take to reach the disk before it is given its name all the same: Stop is waiting.
const finishTime = 10 * time.Second

// ErrCutShort says that a recording has less than it should.
var ErrCutShort = errors.New("the recording ended before it should have, perhaps because the disk was full; what there is of it is in the file")

// Finish ends the tcpdump, if there is one, and makes the file of what was recorded. mine is whether this driver has done nothing of
// it before: for what another one left, a file that is there already is the one that it has made.
func (c *Recording) Finish(mine bool) error {
	said := c.Tool.End()
	full := c.Recorded() >= c.MaxBytes
	err := c.publish()
	if full && errors.Is(err, ErrCutShort) {
		err = nil
	}
	switch {
	case errors.Is(err, errNoRecording):
		err = nil
		if mine {
			err = fmt.Errorf("what was recorded for %s is gone: somebody has removed it", c.Path)
		}
	case errors.Is(err, fs.ErrExist) && !mine:
		err = nil
	case err != nil && !errors.Is(err, ErrCutShort):
		err = fmt.Errorf("the traffic that was recorded cannot be written to %s and is lost: %w", c.Path, err)
	}
	if full {
		said = nil // that was its end
	}
	return errors.Join(err, said, c.Remove())
}

// errNoRecording says that there are no files that were recorded to.
var errNoRecording = errors.New("nothing was recorded")

// publish makes the file. Where there is no room for it beside a single recording, that itself becomes the file.
func (c *Recording) publish() error {
	var sources []io.Reader
	var only *os.File
	for _, path := range c.Raw {
		f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		sources, only = append(sources, f), f
	}
	if len(sources) == 0 {
		return errNoRecording
	}
	res, err := c.copied(sources)
	if len(sources) == 1 && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		res, err = c.inPlace(only)
	}
	if err != nil {
		return err
	}
	if res.Cut {
		return ErrCutShort
	}
	return nil
}

// inPlace makes the file of the recording itself: what is kept of it never needs more room than it has. If this process is killed
// meanwhile, the recording is lost.
func (c *Recording) inPlace(f *os.File) (pcap.Result, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return pcap.Result{}, err
	}
	to := io.NewOffsetWriter(f, 0) // behind what is read, for what is written is never longer
	w := &batched{to: to}
	res, err := pcap.Merge(w, []io.Reader{f}, pcap.Options{Exclude: c.Exclude, MaxBytes: c.MaxBytes})
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = f.Truncate(res.Size)
	}
	if err == nil {
		err = outfile.Of(c.Path, f).Publish()
	}
	return res, err
}

// copied makes the file beside the recordings.
func (c *Recording) copied(sources []io.Reader) (pcap.Result, error) {
	t, err := outfile.New(c.Path)
	if err != nil {
		return pcap.Result{}, err
	}
	w := &batched{to: t.File}
	res, err := pcap.Merge(w, sources, pcap.Options{Exclude: c.Exclude, MaxBytes: c.MaxBytes})
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), finishTime)
		defer cancel()
		if err = t.Sync(ctx); ctx.Err() != nil {
			err = nil
		}
	}
	if err == nil {
		err = t.Publish()
	}
	if err != nil {
		t.Drop()
	}
	return res, err
}

// batched writes what comes in small pieces in large ones.
type batched struct {
	to  io.Writer
	buf []byte
}

func (b *batched) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	if len(b.buf) < 1<<20 {
		return len(p), nil
	}
	return len(p), b.flush()
}

func (b *batched) flush() error {
	_, err := b.to.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}
