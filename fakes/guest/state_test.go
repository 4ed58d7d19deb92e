package guest

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestASavedGuestGoesOnInAnyNumberOfMachines(t *testing.T) {
	d := newDisk()
	booted(t, Options{Disk: d}, func(t *testing.T, m *Model, c *console) {
		c.ask(t, Request{Op: OpSetMemory, Slot: 3, Value: 33})
		c.ask(t, Request{Op: OpSetDisk, Slot: 3, Value: 1})
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonIgnore), Value: 3})
		m.PressPowerButton()
		pass(time.Second)
		c.take()
		m.PressPowerButton()
		m.Pause() // the second press is not seen yet
		saved, err := m.Save()
		if err != nil {
			t.Fatal(err)
		}
		m.Resume()
		pass(tick)
		c.take()
		c.ask(t, Request{Op: OpSetMemory, Slot: 3, Value: 0})
		c.ask(t, Request{Op: OpSetDisk, Slot: 3, Value: 2})
		m.Pause()

		for range 2 {
			clone := New(Options{Disk: d, BootTime: time.Minute})
			cc := attach(clone)
			if err := clone.Load(saved); err != nil {
				t.Fatal(err)
			}
			pass(time.Hour)
			if i := clone.Info(); !i.On || i.Running || !i.Booted || i.Ticks != 250 || i.Presses != 1 || i.Button != ButtonIgnore {
				t.Errorf("loaded: %+v", i)
			}
			clone.Resume()
			pass(tick)
			if got := cc.take(); len(got) != 1 || got[0].Op != OpPower || got[0].Value != 2 {
				t.Errorf("the press that was not seen when the guest was saved: %+v", got)
			}
			if v := cc.ask(t, Request{Op: OpGetMemory, Slot: 3}).Value; v != 33 {
				t.Errorf("memory mark %d, want 33", v)
			}
			if v := cc.ask(t, Request{Op: OpGetDisk, Slot: 3}).Value; v != 2 {
				t.Errorf("disk mark %d: the disk is no part of the state, want 2", v)
			}
			if v := cc.ask(t, Request{Op: OpCounter}).Value; v != 251 {
				t.Errorf("counter %d, want 251", v)
			}
			cc.ask(t, Request{Op: OpSetMemory, Slot: 3, Value: 99}) // and does not show in the next
			clone.Close()
			cc.conn.Close()
		}
	})
}

func TestARequestThatWasHalfReadIsFinishedAfterTheRestore(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		f := Request{Op: OpIdentify, Tag: 4}.Encode()
		c.conn.Write(f[:3])
		synctest.Wait()
		m.Pause()
		saved, err := m.Save()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Load(saved); err != nil {
			t.Fatal(err)
		}
		m.Resume()
		c.conn.Write(f[3:])
		if got := c.take(); len(got) != 1 || got[0].Tag != 4 {
			t.Errorf("it answered %+v", got)
		}
	})
}

func TestLoadRefusesWhatSaveDidNotWrite(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		m.SetMemory(0, 1)
		saved, err := m.Save()
		if err != nil {
			t.Fatal(err)
		}
		bad := map[string][]byte{"empty": nil, "garbage": []byte("garbage"), "longer": append(append([]byte{}, saved...), 0)}
		for i := range saved {
			b := append([]byte{}, saved...)
			b[i] ^= 0x40
			if err := m.Load(b); !errors.Is(err, ErrBadState) {
				t.Fatalf("with byte %d changed: %v", i, err)
			}
			if err := m.Load(saved[:i]); !errors.Is(err, ErrBadState) {
				t.Fatalf("cut off at %d: %v", i, err)
			}
		}
		for name, b := range bad {
			if err := m.Load(b); !errors.Is(err, ErrBadState) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if i := m.Info(); !i.Running || m.Memory(0) != 1 {
			t.Errorf("a load that failed changed the machine: %v", i)
		}
		m.PowerOff()
		if _, err := m.Save(); err == nil {
			t.Error("a machine that is off was saved")
		}
	})
}
