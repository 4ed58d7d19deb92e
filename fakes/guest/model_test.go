package guest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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

func TestCounterCountsGuestTimeExactly(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		time.Sleep(time.Second)
		if v := c.ask(t, Request{Op: OpCounter}).Value; v != 250 {
			t.Errorf("%d ticks after a second, want 250", v)
		}
		m.Pause()
		time.Sleep(time.Hour)
		m.Resume()
		time.Sleep(40 * time.Millisecond)
		if v := c.ask(t, Request{Op: OpCounter}).Value; v != 260 {
			t.Errorf("%d ticks after a pause and 40 ms, want 260", v)
		}
		if i := m.Info(); i.Ticks != 260 || !i.Running || !i.Booted {
			t.Errorf("Info() = %+v", i)
		}
	})
}

func TestBootTakesItsTimeAndEarlyRequestsWait(t *testing.T) {
	inBubble(t, Options{Disk: newDisk(), BootTime: 100 * time.Millisecond}, func(t *testing.T, m *Model, c *console) {
		c.send(Request{Op: OpIdentify, Tag: 1}, Request{Op: OpCounter, Tag: 2})
		m.Resume()
		time.Sleep(99 * time.Millisecond)
		if got := c.take(); len(got) != 0 || m.Info().Booted {
			t.Fatalf("before the boot: %+v", got)
		}
		time.Sleep(time.Millisecond)
		got := c.take()
		if len(got) != 3 || got[0].Op != OpBooted || got[1].Value != Version || got[2].Value != 0 {
			t.Errorf("after the boot: %+v", got)
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
				time.Sleep(time.Hour)
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

func TestRequestsToAPausedGuestAreAnsweredInOrderWhenItRuns(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		m.Pause()
		c.send(Request{Op: OpSetMemory, Tag: 1, Slot: 2, Value: 7}, Request{Op: OpGetMemory, Tag: 2, Slot: 2})
		time.Sleep(time.Hour)
		if got := c.take(); len(got) != 0 {
			t.Fatalf("a paused guest answered %+v", got)
		}
		m.Resume()
		got := c.take()
		if len(got) != 2 || got[0].Tag != 1 || got[1].Tag != 2 || got[1].Value != 7 {
			t.Errorf("it answered %+v", got)
		}
	})
}

func TestHalfARequestIsForgottenAfterASecond(t *testing.T) {
	for _, tt := range []struct {
		gap  time.Duration
		want int
	}{{time.Second, 1}, {time.Second + 4*time.Millisecond, 0}} {
		booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
			f := Request{Op: OpIdentify}.Encode()
			c.conn.Write(f[:5])
			time.Sleep(tt.gap)
			c.conn.Write(f[5:])
			if got := c.take(); len(got) != tt.want {
				t.Errorf("after %v the rest of a request is answered with %+v, want %d replies", tt.gap, got, tt.want)
			}
			c.ask(t, Request{Op: OpIdentify})
		})
	}
}

func TestButtonIsSeenAtTheNextTickOrRequest(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonIgnore)})
		time.Sleep(time.Millisecond)
		m.PressPowerButton()
		m.PressPowerButton() // the bit is set already
		time.Sleep(2 * time.Millisecond)
		if got := c.take(); len(got) != 0 {
			t.Errorf("seen before the tick: %+v", got)
		}
		time.Sleep(time.Millisecond)
		if got := c.take(); len(got) != 1 || got[0] != (Reply{Op: OpPower, Tag: EventTag, Value: 1}) {
			t.Errorf("after the tick: %+v", got)
		}
		m.PressPowerButton()
		c.send(Request{Op: OpPresses})
		if got := c.take(); len(got) != 2 || got[0].Op != OpPower || got[1].Value != 2 {
			t.Errorf("with a request: %+v", got)
		}
	})
}

func TestLateButtonWaitsInGuestTime(t *testing.T) {
	var off atomic.Bool
	booted(t, Options{OnPowerOff: func() { off.Store(true) }}, func(t *testing.T, m *Model, c *console) {
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonLate), Value: 250})
		m.PressPowerButton()
		time.Sleep(504 * time.Millisecond)
		m.Pause()
		time.Sleep(time.Hour)
		m.Resume()
		time.Sleep(499 * time.Millisecond)
		m.PressPowerButton() // does not put it off
		if synctest.Wait(); off.Load() {
			t.Error("off too early")
		}
		time.Sleep(time.Millisecond)
		if synctest.Wait(); !off.Load() || m.Info().On {
			t.Errorf("not off in time: %v", m.Info())
		}
	})
}

func TestLastWordsComeBeforePowerOff(t *testing.T) {
	var c *console
	var atOff []Reply
	opts := Options{OnPowerOff: func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		atOff = c.got
	}}
	booted(t, opts, func(t *testing.T, m *Model, console *console) {
		c = console
		c.send(Request{Op: OpPowerOff, Tag: 9})
		synctest.Wait()
		if len(atOff) != 1 || atOff[0].Tag != 9 {
			t.Errorf("when the machine went off, this had come: %+v", atOff)
		}
	})
}

func TestPowerOffDoesNotWaitForEverForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := make(chan struct{})
		m := New(Options{Disk: newDisk(), OnPowerOff: func() { close(off) }})
		ours, theirs := net.Pipe() // nobody reads from ours
		m.Attach(theirs)
		m.PowerOn()
		m.Resume()
		synctest.Wait()
		m.PressPowerButton()
		began := time.Now()
		<-off
		if took := time.Since(began); took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("off after %v, want a second", took)
		}
		m.Close()
		ours.Close()
	})
}

func TestAGuestWhoseOutputIsNotTakenWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{Disk: newDisk()})
		ours, theirs := net.Pipe()
		m.Attach(theirs)
		m.PowerOn()
		m.Resume()
		go func() {
			f := Request{Op: OpIdentify}.Encode()
			ours.Write(bytes.Repeat(f[:], 1000))
		}()
		synctest.Wait()
		m.mu.Lock()
		if n := len(m.port.out); n > maxOutput+2*FrameSize {
			t.Errorf("%d bytes of output are kept", n)
		}
		m.mu.Unlock()
		got, want := 0, 1001*FrameSize
		buf := make([]byte, 100)
		for got < want {
			n, err := ours.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
		m.Close()
		ours.Close()
	})
}

func TestHostCutsPowerWithoutACallback(t *testing.T) {
	called := false
	booted(t, Options{OnPowerOff: func() { called = true }}, func(t *testing.T, m *Model, c *console) {
		m.SetMemory(1, 5)
		m.PowerOff()
		m.PowerOff()
		m.Resume()
		m.Reset()
		m.PressPowerButton()
		if i := m.Info(); i.On || i.Running || called || m.Memory(1) != 0 {
			t.Errorf("after PowerOff: %+v, callback %v, mark %d", i, called, m.Memory(1))
		}
		c.send(Request{Op: OpIdentify, Tag: 3})
		if got := c.take(); len(got) != 0 {
			t.Errorf("a machine that is off answered %+v", got)
		}
		m.PowerOn()
		m.Resume()
		if got := c.take(); len(got) != 2 || got[0].Op != OpBooted || got[1].Tag != 3 {
			t.Errorf("switched on again: %+v", got)
		}
	})
}

func TestResetStartsAnewAndKeepsTheDisk(t *testing.T) {
	for name, reset := range map[string]func(m *Model, c *console){
		"by the guest": func(_ *Model, c *console) { c.send(Request{Op: OpReset, Tag: 1}) },
		"by the host":  func(m *Model, _ *console) { m.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
				c.ask(t, Request{Op: OpSetMemory, Slot: 1, Value: 2})
				c.ask(t, Request{Op: OpSetDisk, Slot: 1, Value: 3})
				time.Sleep(time.Second)
				reset(m, c)
				got := c.take()
				if last := got[len(got)-1]; last.Op != OpBooted {
					t.Errorf("after the reset: %+v", got)
				}
				if v := c.ask(t, Request{Op: OpGetMemory, Slot: 1}).Value; v != 0 {
					t.Errorf("memory mark %d, want 0", v)
				}
				if v := c.ask(t, Request{Op: OpGetDisk, Slot: 1}).Value; v != 3 {
					t.Errorf("disk mark %d, want 3", v)
				}
				if v := c.ask(t, Request{Op: OpCounter}).Value; v != 0 {
					t.Errorf("counter %d, want 0", v)
				}
			})
		})
	}
}

func TestOwnerDecidesWhatFollowsAResetByTheGuest(t *testing.T) {
	var m *Model
	for _, tt := range []struct {
		name    string
		onReset func()
		want    Info
	}{
		{"nothing: it boots", func() {}, Info{On: true, Running: true, Booted: true, Button: ButtonObey}},
		{"paused", func() { m.Pause() }, Info{On: true, Button: ButtonObey}},
		{"off", func() { m.PowerOff() }, Info{Button: ButtonObey}},
		{"off and on", func() { m.PowerOff(); m.PowerOn() }, Info{On: true, Button: ButtonObey}},
		{"resumed at once", func() { m.Resume() }, Info{On: true, Running: true, Booted: true, Button: ButtonObey}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			booted(t, Options{OnReset: tt.onReset}, func(t *testing.T, model *Model, c *console) {
				m = model
				c.send(Request{Op: OpReset})
				c.take()
				if got := m.Info(); got != tt.want {
					t.Errorf("%+v, want %+v", got, tt.want)
				}
			})
		})
	}
}

func TestResetOfAPausedMachineLeavesItPaused(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		m.Pause()
		m.Reset()
		if got := c.take(); len(got) != 0 || m.Info().Running || m.Info().Booted {
			t.Errorf("%v, %+v", m.Info(), got)
		}
	})
}

func TestHungGuestStandsStillAndRuns(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		time.Sleep(100 * time.Millisecond)
		c.ask(t, Request{Op: OpHang})
		time.Sleep(time.Hour)
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

func TestANewConnectionReplacesTheOldOne(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		second := attach(m)
		synctest.Wait()
		c.mu.Lock()
		if !c.over {
			t.Error("the first connection is still open")
		}
		c.mu.Unlock()
		second.ask(t, Request{Op: OpIdentify})
		second.conn.Close() // the other end goes, and the guest runs on
		synctest.Wait()
		m.PressPowerButton()
		time.Sleep(tick)
		if synctest.Wait(); m.Info().On {
			t.Error("the guest does not run on without a connection")
		}
	})
}

func TestSubscribersSeeWhatHappens(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		events, cancel := m.Subscribe()
		other, _ := m.Subscribe()
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonIgnore)})
		m.PressPowerButton()
		time.Sleep(tick)
		synctest.Wait()
		m.Reset()
		synctest.Wait()
		c.take()
		c.ask(t, Request{Op: OpHang})
		m.PowerOff()
		want := []Event{
			{1, ButtonSeen, true, 1}, {2, WasReset, false, 0}, {3, Booted, true, 0}, {4, Hung, true, 0}, {5, SwitchedOff, false, 0},
		}
		for _, w := range want {
			if got := <-events; got != w {
				t.Errorf("%+v, want %+v", got, w)
			}
		}
		cancel()
		cancel()
		if _, open := <-events; open {
			t.Error("the channel is open after the subscription's end")
		}
		m.Close()
		for range other {
		}
	})
}

func TestASubscriberThatDoesNotReadLosesEventsAndSeesIt(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		events, cancel := m.Subscribe()
		for range eventQueue + 6 {
			m.Reset()
			synctest.Wait()
		}
		for range eventQueue {
			<-events
		}
		m.PowerOff()
		if e := <-events; e.Seq <= eventQueue+1 || e.Kind != SwitchedOff {
			t.Errorf("after lost events: %+v", e)
		}
		cancel()
	})
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
