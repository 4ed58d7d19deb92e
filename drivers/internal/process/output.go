//go:build linux

package process

import (
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keptOutput is how much of what a program prints is kept: the last 8 KiB, which is dozens of QEMU's messages.
const keptOutput = 8 << 10

// Output reads what a process prints, so that it never waits for a reader, and keeps the end of it.
type output struct {
	pipe *os.File
	read sync.WaitGroup

	mu    sync.Mutex
	kept  []byte
	start bool // nothing has been dropped yet
}

// newOutput returns the reader and the end that the process gets.
func newOutput() (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	o := &output{pipe: r, start: true}
	o.read.Go(o.drain)
	return o, w, nil
}

func (o *output) drain() {
	raw, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	for more := true; more && err == nil; {
		err = raw.Read(func(fd uintptr) bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			var now bool
			now, more = o.take(int(fd))
			return now
		})
	}
}

// take reads what is there now. It says whether there was something, the end included, and whether there can be more. Its caller
// holds mu.
func (o *output) take(fd int) (now, more bool) {
	buf := make([]byte, 32<<10)
	n, err := unix.Read(fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, true
	case errors.Is(err, unix.EINTR):
		return true, true
	case err != nil || n == 0:
		return true, false
	}
	o.kept = append(o.kept, buf[:n]...)
	if over := len(o.kept) - keptOutput; over > 0 {
		o.kept = append(o.kept[:0], o.kept[over:]...)
		o.start = false
	}
	return true, true
}

// finish reads what is left after the process has ended. A child of it that lives on and holds the pipe is not waited for.
func (o *output) finish() {
	_ = o.pipe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	o.wait()
}

// Wait waits for the reader.
func (o *output) wait() {
	o.read.Wait()
	o.pipe.Close()
}

// close stops reading at once.
func (o *output) close() {
	_ = o.pipe.SetReadDeadline(time.Unix(1, 0))
	o.wait()
}

// Tail is the end of what was printed until now, without the blanks around it.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	// What the reader has not come to yet. A process that never stops printing is not waited for.
	if raw, err := o.pipe.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			for range 8 {
				if now, more := o.take(int(fd)); !now || !more {
					break
				}
			}
		})
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(o.kept), "\uFFFD"))
	if !o.start {
		text = "… " + text
	}
	return text
}
