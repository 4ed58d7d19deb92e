package guest

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestButtonIsSeenAtTheNextTickOrRequest(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonIgnore)})
		pass(time.Millisecond)
		m.PressPowerButton()
		m.PressPowerButton() // the bit is set already
		pass(2 * time.Millisecond)
		if got := c.take(); len(got) != 0 {
			t.Errorf("seen before the tick: %+v", got)
		}
		pass(time.Millisecond)
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
		pass(504 * time.Millisecond)
		m.Pause()
		pass(time.Hour)
		m.Resume()
		pass(499 * time.Millisecond)
		m.PressPowerButton() // does not put it off
		if synctest.Wait(); off.Load() {
			t.Error("off too early")
		}
		pass(time.Millisecond)
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
				pass(time.Second)
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
