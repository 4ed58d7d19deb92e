package guest

import (
	"testing"
	"testing/synctest"
)

func TestSubscribersSeeWhatHappens(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		events, cancel := m.Subscribe()
		other, _ := m.Subscribe()
		c.ask(t, Request{Op: OpButton, Slot: byte(ButtonIgnore)})
		m.PressPowerButton()
		pass(tick)
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
