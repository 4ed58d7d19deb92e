package guest

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets time go by in a bubble of synctest, whose clock jumps as soon as everything in it waits.
func pass(d time.Duration) {
	time.Sleep(d) // takes no time
}

// disk is a small disk in memory that can boot, and fail.
type disk struct {
	mu   sync.Mutex
	b    []byte
	fail error
	hook func() // called in each access
}

func newDisk() *disk {
	d := &disk{b: make([]byte, MinDiskSize)}
	copy(d.b[bootSignatureA:], bootSignature)
	return d
}

func (d *disk) ReadAt(p []byte, off int64) (int, error)  { return d.access(p, d.b[off:], p) }
func (d *disk) WriteAt(p []byte, off int64) (int, error) { return d.access(d.b[off:], p, p) }

func (d *disk) access(to, from, p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hook != nil {
		d.hook()
	}
	if d.fail != nil {
		return 0, d.fail
	}
	return copy(to[:len(p)], from), nil
}

// console is the other end of a serial port.
type console struct {
	conn net.Conn
	mu   sync.Mutex
	got  []Reply
	buf  []byte
	over bool
}

func attach(m *Model) *console {
	ours, theirs := net.Pipe()
	c := &console{conn: ours}
	m.Attach(theirs)
	go func() {
		chunk := make([]byte, 64)
		for {
			n, err := c.conn.Read(chunk)
			c.mu.Lock()
			c.buf = append(c.buf, chunk[:n]...)
			for {
				used, ok, r := DecodeReply(c.buf)
				c.buf = c.buf[used:]
				if !ok {
					break
				}
				c.got = append(c.got, r)
			}
			c.over = err != nil
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return c
}

// send writes requests without waiting for their being taken.
func (c *console) send(requests ...Request) {
	var b []byte
	for _, r := range requests {
		f := r.Encode()
		b = append(b, f[:]...)
	}
	go c.conn.Write(b)
}

// take returns the frames that have come, once everything has come to rest.
func (c *console) take() []Reply {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// ask sends a request to a guest that answers it at once.
func (c *console) ask(t *testing.T, r Request) Reply {
	t.Helper()
	c.send(r)
	got := c.take()
	if len(got) != 1 || got[0].Op != r.Op || got[0].Tag != r.Tag {
		t.Fatalf("request %+v: %+v", r, got)
	}
	return got[0]
}

// inBubble runs a test in a bubble whose time is its own, so that ticks are exact, and which fails the test
// if the model leaves a goroutine behind.
func inBubble(t *testing.T, opts Options, f func(t *testing.T, m *Model, c *console)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := New(opts)
		c := attach(m)
		defer func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
			c.conn.Close()
		}()
		m.PowerOn()
		f(t, m, c)
	})
}

// booted is inBubble with a machine that runs.
func booted(t *testing.T, opts Options, f func(t *testing.T, m *Model, c *console)) {
	t.Helper()
	if opts.Disk == nil {
		opts.Disk = newDisk()
	}
	inBubble(t, opts, func(t *testing.T, m *Model, c *console) {
		m.Resume()
		got := c.take()
		if len(got) != 1 || got[0] != (Reply{Op: OpBooted, Tag: EventTag, Value: Version}) {
			t.Fatalf("after the boot: %+v", got)
		}
		f(t, m, c)
	})
}
