package guest

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestBootTakesItsTimeAndEarlyRequestsWait(t *testing.T) {
	inBubble(t, Options{Disk: newDisk(), BootTime: 100 * time.Millisecond}, func(t *testing.T, m *Model, c *console) {
		c.send(Request{Op: OpIdentify, Tag: 1}, Request{Op: OpCounter, Tag: 2})
		m.Resume()
		pass(99 * time.Millisecond)
		if got := c.take(); len(got) != 0 || m.Info().Booted {
			t.Fatalf("before the boot: %+v", got)
		}
		pass(time.Millisecond)
		got := c.take()
		if len(got) != 3 || got[0].Op != OpBooted || got[1].Value != Version || got[2].Value != 0 {
			t.Errorf("after the boot: %+v", got)
		}
	})
}

func TestRequestsToAPausedGuestAreAnsweredInOrderWhenItRuns(t *testing.T) {
	booted(t, Options{}, func(t *testing.T, m *Model, c *console) {
		m.Pause()
		c.send(Request{Op: OpSetMemory, Tag: 1, Slot: 2, Value: 7}, Request{Op: OpGetMemory, Tag: 2, Slot: 2})
		pass(time.Hour)
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
			pass(tt.gap)
			c.conn.Write(f[5:])
			if got := c.take(); len(got) != tt.want {
				t.Errorf("after %v the rest of a request is answered with %+v, want %d replies", tt.gap, got, tt.want)
			}
			c.ask(t, Request{Op: OpIdentify})
		})
	}
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
		pass(tick)
		if synctest.Wait(); m.Info().On {
			t.Error("the guest does not run on without a connection")
		}
	})
}
