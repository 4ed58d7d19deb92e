package guest

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

// answerTime is how long a guest that is fit may take for an answer: it needs 0.3 ms, and the rest is for a
// host that is busy with other things.
const answerTime = 20 * time.Second

// silence is how long a guest that must not answer is listened to.
const silence = 150 * time.Millisecond

// machine is one virtual machine with the guest in it, real or modelled.
type machine interface {
	client(t *testing.T) *Client
	resume(t *testing.T)
	pause(t *testing.T)
	press(t *testing.T)     // the power button
	hardReset(t *testing.T) // the reset button
	save(t *testing.T) string
	restore(t *testing.T, saved string) machine // a new machine with the same disk, paused; this one is off
	waitOff(t *testing.T)
	pid() int // 0: not known
}

// maker starts a machine that is paused before its first instruction.
type maker func(t *testing.T) machine

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// boot starts a machine and waits until its guest runs.
func boot(t *testing.T, mk maker) (machine, *Client) {
	t.Helper()
	m := mk(t)
	m.resume(t)
	c := m.client(t)
	if err := c.WaitBoot(within(t, answerTime)); err != nil {
		t.Fatalf("the machine did not boot: %v", err)
	}
	return m, c
}

// socketDir makes a directory whose path is short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, dir string) *Listener {
	t.Helper()
	l, err := Listen(filepath.Join(dir, "guest"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// must ends the test where a request failed.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get ends the test where a request failed, and returns its value.
func get[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// memoryDisk is a disk for the model.
type memoryDisk struct {
	mu sync.Mutex
	b  []byte
}

func (d *memoryDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.NewReader(d.b).ReadAt(p, off)
}

func (d *memoryDisk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(d.b[off:], p), nil
}

// modelled is a machine of package fakes/guest, connected as an emulator would be.
type modelled struct {
	m   *guest.Model
	l   *Listener
	d   *memoryDisk
	off chan struct{}
}

func newModelled(t *testing.T) machine {
	m := wire(t, listen(t, socketDir(t)), &memoryDisk{b: Image(0)})
	m.m.PowerOn()
	return m
}

func wire(t *testing.T, l *Listener, d *memoryDisk) *modelled {
	t.Helper()
	m := &modelled{l: l, d: d, off: make(chan struct{})}
	m.m = guest.New(guest.Options{Disk: d, BootTime: 5 * time.Millisecond, OnPowerOff: func() {
		m.m.Detach() // as an emulator that exits
		close(m.off)
	}})
	t.Cleanup(func() { m.m.Close() })
	conn, err := net.Dial("unix", l.l.Addr().String())
	must(t, err)
	m.m.Attach(conn)
	return m
}

func (m *modelled) client(t *testing.T) *Client {
	t.Helper()
	return get[*Client](t)(m.l.Client(within(t, answerTime)))
}

func (m *modelled) resume(*testing.T)    { m.m.Resume() }
func (m *modelled) pause(*testing.T)     { m.m.Pause() }
func (m *modelled) press(*testing.T)     { m.m.PressPowerButton() }
func (m *modelled) hardReset(*testing.T) { m.m.Reset() }
func (m *modelled) pid() int             { return os.Getpid() }

func (m *modelled) save(t *testing.T) string {
	t.Helper()
	m.m.Pause()
	return string(get[[]byte](t)(m.m.Save()))
}

func (m *modelled) restore(t *testing.T, saved string) machine {
	t.Helper()
	old := m.client(t)
	must(t, m.m.Close())
	n := wire(t, m.l, m.d)
	get[*Client](t)(m.l.Next(within(t, answerTime), old))
	must(t, n.m.Load([]byte(saved)))
	return n
}

func (m *modelled) waitOff(t *testing.T) {
	t.Helper()
	select {
	case <-m.off:
	case <-time.After(answerTime):
		t.Fatal("the machine did not switch off")
	}
}
