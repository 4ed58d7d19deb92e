package guest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCounterCountsGuestTimeExactly(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		pass(time.Second)
		if v := c.ask(t, Request{Op: OpCounter}).Value; v != 250 {
			t.Errorf("%d ticks after a second, want 250", v)
		}
		m.Pause()
		pass(time.Hour)
		m.Resume()
		pass(40 * time.Millisecond)
		if v := c.ask(t, Request{Op: OpCounter}).Value; v != 260 {
			t.Errorf("%d ticks after a pause and 40 ms, want 260", v)
		}
		if i := m.Info(); i.Ticks != 260 || !i.Running || !i.Booted {
			t.Errorf("Info() = %+v", i)
		}
	})
}

func TestADiskThatCannotBootNeverAnswers(t *testing.T) {
	blank := newDisk()
	clear(blank.b)
	broken := newDisk()
	broken.fail = errors.New("broken")
	for name, d := range map[string]Disk{"none": nil, "blank": blank, "broken": broken} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Disk: d}, func(t *testing.T, m *Model, c *console) {
				m.Resume()
				c.send(Request{Op: OpIdentify})
				m.PressPowerButton()
				pass(time.Hour)
				if got := c.take(); len(got) != 0 {
					t.Errorf("it answered %+v", got)
				}
				if i := m.Info(); !i.On || !i.Running || i.Booted {
					t.Errorf("Info() = %+v", i)
				}
			})
		})
	}
}

func TestHungGuestStandsStillAndRuns(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		pass(100 * time.Millisecond)
		c.ask(t, Request{Op: OpHang})
		pass(time.Hour)
		c.send(Request{Op: OpIdentify})
		m.PressPowerButton()
		m.Pause()
		m.Resume()
		if got := c.take(); len(got) != 0 {
			t.Errorf("it answered %+v", got)
		}
		if i := m.Info(); !i.Hung || !i.Running || i.Ticks != 25 {
			t.Errorf("Info() = %+v", i)
		}
		m.Reset()
		if got := c.take(); len(got) == 0 || got[0].Op != OpBooted {
			t.Errorf("after a reset: %+v", got)
		}
	})
}

func TestDiskErrorsReachTheGuest(t *testing.T) {
	d := newDisk()
	booted(t, Options{Disk: d}, func(t *testing.T, m *Model, c *console) {
		d.mu.Lock()
		d.fail = io.ErrShortWrite
		d.mu.Unlock()
		for _, op := range []Op{OpGetDisk, OpSetDisk} {
			if r := c.ask(t, Request{Op: op, Value: 5}); r.Status != StatusDiskError {
				t.Errorf("%v: %+v", op, r)
			}
		}
	})
}

func TestPausingWaitsForTheDisk(t *testing.T) {
	for name, stop := range map[string]func(m *Model){"Pause": (*Model).Pause, "PowerOff": (*Model).PowerOff, "Reset": (*Model).Reset, "Close": func(m *Model) { m.Close() }} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			release := make(chan struct{})
			booted(t, Options{Disk: d}, func(t *testing.T, m *Model, c *console) {
				d.mu.Lock()
				d.hook = func() { <-release }
				d.mu.Unlock()
				release = make(chan struct{})
				c.send(Request{Op: OpSetDisk, Slot: 4, Value: 4})
				synctest.Wait()
				if i := m.Info(); !i.Running { // and a look does not wait
					t.Errorf("Info() = %+v", i)
				}
				done := make(chan struct{})
				go func() { stop(m); close(done) }()
				synctest.Wait()
				select {
				case <-done:
					t.Error("it did not wait for the write")
				default:
				}
				close(release)
				<-done
				if v, err := ReadDiskMark(bytes.NewReader(d.b), 4); v != 4 || err != nil {
					t.Errorf("the disk mark is %d, %v", v, err)
				}
			})
		})
	}
}

func TestReadMemoryShowsTheMarks(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		c.ask(t, Request{Op: OpSetMemory, Slot: 15, Value: 0x04030201})
		whole := make([]byte, 1<<20)
		m.ReadMemory(whole, 0)
		at := MemoryMarkBase + 15*MemoryMarkStep
		if got, want := whole[at:at+9], []byte("MMmk\x01\x02\x03\x04\x00"); !bytes.Equal(got, want) {
			t.Errorf("memory at the mark: % x, want % x", got, want)
		}
		if n := bytes.Count(whole, []byte(MemoryMagic)); n != Slots {
			t.Errorf("%d marks in memory, want %d", n, Slots)
		}
		part := make([]byte, 4)
		m.ReadMemory(part, int64(at)+2)
		if !bytes.Equal(part, []byte("mk\x01\x02")) {
			t.Errorf("a part of a mark: % x", part)
		}
		m.PowerOff()
		m.ReadMemory(whole, 0)
		if bytes.Contains(whole, []byte(MemoryMagic)) {
			t.Error("a machine that is off has memory")
		}
	})
}

func TestMethodsMayBeCalledFromAnywhere(t *testing.T) {
	m := New(Options{Disk: newDisk()})
	ours, theirs := net.Pipe()
	m.Attach(theirs)
	go io.Copy(io.Discard, ours)
	var wg sync.WaitGroup
	for _, f := range []func(){
		m.PowerOn, m.PowerOff, m.Pause, m.Resume, m.Resume, m.Reset, m.PressPowerButton,
		func() { m.Info() }, func() { m.SetMemory(1, m.Memory(2)) },
		func() {
			if b, err := m.Save(); err == nil {
				m.Load(b)
			}
		},
		func() {
			f := Request{Op: OpReset}.Encode()
			ours.SetWriteDeadline(time.Now().Add(time.Millisecond))
			ours.Write(f[:])
		},
		func() {
			f := Request{Op: OpSetDisk}.Encode()
			ours.SetWriteDeadline(time.Now().Add(time.Millisecond))
			ours.Write(f[:])
		},
		func() { _, cancel := m.Subscribe(); cancel() },
	} {
		wg.Go(func() {
			for range 200 {
				f()
			}
		})
	}
	wg.Wait()
	m.Close()
	m.Close()
	ours.Close()
	if m.PowerOn(); m.Info().On {
		t.Error("a closed machine can be switched on")
	}
	if err := m.Load(nil); err == nil {
		t.Error("a closed machine can be loaded")
	}
}
