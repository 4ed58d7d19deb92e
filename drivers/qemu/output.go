//go:build linux

package qemu

import (
	"os"
	"strings"
	"sync"
	"time"
)

// keptOutput is how much of what QEMU prints is kept: the last 8 KiB, which is dozens of its messages.
const keptOutput = 8 << 10

// output reads what a process prints, so that it never waits for a reader, and keeps the end of it.
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
	buf := make([]byte, 32<<10)
	for {
		n, err := o.pipe.Read(buf)
		o.mu.Lock()
		o.kept = append(o.kept, buf[:n]...)
		if over := len(o.kept) - keptOutput; over > 0 {
			o.kept = append(o.kept[:0], o.kept[over:]...)
			o.start = false
		}
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// finish reads what is left after the process has ended. A child of it that lives on and holds the pipe is not waited for.
func (o *output) finish() {
	_ = o.pipe.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	o.wait()
}

// wait waits for the reader.
func (o *output) wait() {
	o.read.Wait()
	o.pipe.Close()
}

// close stops reading at once.
func (o *output) close() {
	_ = o.pipe.SetReadDeadline(time.Unix(1, 0))
	o.wait()
}

// tail is the end of what was printed, without the blanks around it.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(o.kept), "\uFFFD"))
	if !o.start {
		text = "… " + text
	}
	return text
}
