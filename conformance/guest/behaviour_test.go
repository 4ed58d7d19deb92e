package guest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

// behaviours are what the guest promises, whether it runs in a machine or in the model of one.
var behaviours = []struct {
	name string
	run  func(t *testing.T, mk maker)
	core bool // what differs between accelerators: run also where a boot takes seconds
}{
	{"says what it is, and from which process", identifies, false},
	{"keeps sixteen memory marks apart", keepsMemory, false},
	{"keeps sixteen disk marks apart", keepsDisk, true},
	{"refuses what it does not know", refuses, false},
	{"counts time", counts, true},
	{"stands still while paused, and answers then what it was asked", standsStill, true},
	{answersEarlyName, answersEarly, false},
	{"never gives a late reply to a later request", dropsLate, false},
	{"skips noise and forgets half a request", resyncs, false},
	{"obeys the power button", obeys, true},
	{"ignores the power button", ignores, false},
	{"obeys the power button late", obeysLate, false},
	{"can be told not to obey after all", changesItsMind, false},
	{"sees after a pause that the button was pressed", seesLater, false},
	{"switches itself off", switchesOff, false},
	{"resets itself", resetsItself, false},
	{"is reset by the host", isReset, false},
	{"hangs", hangs, false},
	{"goes on from a snapshot", restores, true},
	{"obeys late after a restore", restoresLate, false},
}

// A machine stands still for longPause, 300 ticks, and whether it does is told by someTicks, which leaves a
// busy host 0.8 s between a look at the counter and the pause.
const (
	longPause = 1200 * time.Millisecond
	someTicks = 200
)

const answersEarlyName = "answers what was sent before it booted"

func TestModelledGuest(t *testing.T) {
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) { b.run(t, newModelled) })
	}
}

func identifies(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	must(t, c.Identify(within(t, answerTime)))
	if c.PID() != m.pid() {
		t.Errorf("PID() = %d, want the machine's %d", c.PID(), m.pid())
	}
}

func keepsMemory(t *testing.T, mk maker) {
	_, c := boot(t, mk)
	keeps(t, c.Memory, c.SetMemory)
}

func keepsDisk(t *testing.T, mk maker) {
	_, c := boot(t, mk)
	keeps(t, c.Disk, c.SetDisk)
}

func keeps(t *testing.T, read func(context.Context, int) (uint32, error), write func(context.Context, int, uint32) error) {
	ctx := within(t, answerTime)
	for slot := range guest.Slots {
		if v := get[uint32](t)(read(ctx, slot)); v != 0 {
			t.Errorf("mark %d is %#x before it is set", slot, v)
		}
	}
	value := func(slot int) uint32 { return 0xA55A0000 + uint32(slot)<<8 + 0x5A } // with the frames' first bytes in it
	for slot := range guest.Slots {
		must(t, write(ctx, slot, value(slot)))
	}
	for slot := range guest.Slots {
		if v := get[uint32](t)(read(ctx, slot)); v != value(slot) {
			t.Errorf("mark %d is %#x, want %#x", slot, v, value(slot))
		}
	}
	must(t, write(ctx, 3, 0))
	if v := get[uint32](t)(read(ctx, 3)); v != 0 {
		t.Errorf("mark 3 is %#x after it was set to 0", v)
	}
}

func refuses(t *testing.T, mk maker) {
	_, c := boot(t, mk)
	ctx := within(t, answerTime)
	for _, tt := range []struct {
		op   guest.Op
		slot byte
		want guest.Status
	}{
		{'q', 0, guest.StatusUnknownOp}, {0, 0, guest.StatusUnknownOp}, {0xA5, 0, guest.StatusUnknownOp},
		{guest.OpBooted, 0, guest.StatusUnknownOp}, {guest.OpPower, 0, guest.StatusUnknownOp},
		{guest.OpGetMemory, 16, guest.StatusBadSlot}, {guest.OpSetMemory, 16, guest.StatusBadSlot},
		{guest.OpGetDisk, 32, guest.StatusBadSlot}, {guest.OpSetDisk, 255, guest.StatusBadSlot},
		{guest.OpGetDisk, 16, guest.StatusDiskError}, {guest.OpSetDisk, 31, guest.StatusDiskError}, // there is no second disk
		{guest.OpButton, 3, guest.StatusBadSlot},
	} {
		_, err := c.do(ctx, tt.op, tt.slot, 7)
		var got *StatusError
		if !errors.As(err, &got) || got.Status != tt.want {
			t.Errorf("request %v slot %d: %v, want %v", tt.op, tt.slot, err, tt.want)
		}
	}
	must(t, c.Identify(ctx))
}

func counts(t *testing.T, mk maker) {
	_, c := boot(t, mk)
	ctx := within(t, answerTime)
	from := get[uint32](t)(c.Counter(ctx))
	began := time.Now()
	time.Sleep(400 * time.Millisecond) // time is what is measured
	ticks := get[uint32](t)(c.Counter(ctx)) - from
	took := time.Since(began)
	// A busy host makes a guest lose ticks. It gains none, but those that it has to catch up with.
	want := float64(took) / float64(time.Second) * guest.TicksPerSecond
	if f := float64(ticks); f < want/10 || f > want*1.25+3 {
		t.Errorf("%d ticks in %v, want about %.0f", ticks, took, want)
	}
}

func standsStill(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	before := get[uint32](t)(c.Counter(ctx))
	m.pause(t)
	answer := make(chan uint32, 1)
	failed := make(chan error, 1)
	go func() {
		v, err := c.Counter(ctx)
		failed <- err
		answer <- v
	}()
	select {
	case err := <-failed:
		t.Fatalf("a paused guest answered (error %v)", err)
	case <-time.After(longPause):
	}
	m.resume(t)
	must(t, <-failed)
	if v := <-answer; v-before > someTicks {
		t.Errorf("the counter went from %d to %d over a pause of %v", before, v, longPause)
	}
}

func answersEarly(t *testing.T, mk maker) {
	m := mk(t)
	c := m.client(t)
	ctx := within(t, answerTime)
	failed := make(chan error, 2)
	for range 2 {
		go func() { failed <- c.Identify(ctx) }()
	}
	m.resume(t)
	must(t, <-failed)
	must(t, <-failed)
}

func dropsLate(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetMemory(ctx, 0, 1))
	m.pause(t)
	for range 3 {
		if v, err := c.Memory(within(t, 20*time.Millisecond), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a paused guest answered %d, %v", v, err)
		}
	}
	m.resume(t)
	must(t, c.SetMemory(ctx, 0, 2))
	if v := get[uint32](t)(c.Memory(ctx, 0)); v != 2 {
		t.Errorf("mark 0 is %d, want 2", v)
	}
}

func resyncs(t *testing.T, mk maker) {
	_, c := boot(t, mk)
	ctx := within(t, answerTime)
	_, err := c.conn.Write([]byte("Z noise \x5A\x00\xFF"))
	must(t, err)
	must(t, c.Identify(ctx))

	// The guest's time-out is a second of its own time, which on a busy host is not a second here. So a
	// guest that took what followed for the rest of the request may only have been slow: its counter tells.
	for range 5 {
		before := get[uint32](t)(c.Counter(ctx))
		_, err = c.conn.Write([]byte{guest.RequestMark, byte(guest.OpPresses), guest.EventTag - 1})
		must(t, err)
		time.Sleep(3 * time.Second / 2) // for the guest's own time-out to pass
		err = c.Identify(within(t, 5*time.Second))
		if err == nil {
			return
		}
		if passed := get[uint32](t)(c.Counter(ctx)) - before - 5*guest.TicksPerSecond; int32(passed) > guest.FrameTimeout {
			break
		}
	}
	t.Errorf("after half a request the guest does not know where the next begins: %v", err)
}

func obeys(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	m.press(t)
	e, err := c.WaitEvent(within(t, answerTime), guest.OpPower, 0)
	must(t, err)
	if e.Value != 1 {
		t.Errorf("the guest told press %d, want 1", e.Value)
	}
	m.waitOff(t)
	gone(t, c)
}

func gone(t *testing.T, c *Client) {
	t.Helper()
	select {
	case <-c.Gone():
	case <-time.After(answerTime):
		t.Fatal("the connection did not end with the machine")
	}
	if err := c.Identify(within(t, answerTime)); !errors.Is(err, ErrGone) {
		t.Errorf("a request to a machine that is off: %v, want ErrGone", err)
	}
}

func ignores(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetButton(ctx, guest.ButtonIgnore, 0))
	seq := uint64(0)
	for n := uint32(1); n <= 3; n++ {
		m.press(t)
		e, err := c.WaitEvent(ctx, guest.OpPower, seq)
		must(t, err)
		if seq = e.Seq; e.Value != n {
			t.Errorf("the guest told press %d, want %d", e.Value, n)
		}
	}
	time.Sleep(silence) // to see that it does not switch off
	if n := get[uint32](t)(c.Presses(ctx)); n != 3 {
		t.Errorf("the guest has seen %d presses, want 3", n)
	}
}

func obeysLate(t *testing.T, mk maker) {
	const delay = 400 * time.Millisecond
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetButton(ctx, guest.ButtonLate, delay))
	began := time.Now()
	m.press(t)
	if _, err := c.WaitEvent(ctx, guest.OpPower, 0); err != nil {
		t.Fatal(err)
	}
	must(t, c.Identify(ctx)) // it is still there
	m.press(t)               // and a second press does not put it off
	m.waitOff(t)
	if took := time.Since(began); took < delay*9/10 {
		t.Errorf("the machine was off after %v, want %v", took, delay)
	}
	gone(t, c)
}

func changesItsMind(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetButton(ctx, guest.ButtonLate, time.Hour))
	m.press(t)
	if _, err := c.WaitEvent(ctx, guest.OpPower, 0); err != nil {
		t.Fatal(err)
	}
	must(t, c.SetButton(ctx, guest.ButtonLate, 100*time.Millisecond))
	time.Sleep(2 * silence) // to see that the press before has been forgotten
	must(t, c.Identify(ctx))
	m.press(t)
	m.waitOff(t)
}

func seesLater(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	must(t, c.SetButton(within(t, answerTime), guest.ButtonIgnore, 0))
	m.pause(t)
	m.press(t)
	if e, err := c.WaitEvent(within(t, silence), guest.OpPower, 0); err == nil {
		t.Fatalf("a paused guest told %+v", e)
	}
	m.resume(t)
	if _, err := c.WaitEvent(within(t, answerTime), guest.OpPower, 0); err != nil {
		t.Fatal(err)
	}
}

func switchesOff(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	must(t, c.PowerOff(within(t, answerTime)))
	m.waitOff(t)
	gone(t, c)
}

func resetsItself(t *testing.T, mk maker) {
	afterReset(t, mk, func(_ machine, c *Client) { must(t, c.Reset(within(t, answerTime))) })
}

func isReset(t *testing.T, mk maker) {
	afterReset(t, mk, func(m machine, _ *Client) { m.hardReset(t) })
}

func afterReset(t *testing.T, mk maker, reset func(machine, *Client)) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetMemory(ctx, 5, 55))
	must(t, c.SetDisk(ctx, 5, 56))
	must(t, c.SetButton(ctx, guest.ButtonIgnore, 0))
	m.press(t)
	e, err := c.WaitEvent(ctx, guest.OpPower, 0)
	must(t, err)
	reset(m, c)
	if _, err := c.WaitEvent(ctx, guest.OpBooted, e.Seq); err != nil {
		t.Fatal(err)
	}
	if v := get[uint32](t)(c.Memory(ctx, 5)); v != 0 {
		t.Errorf("the memory mark is %d after the reset, want 0", v)
	}
	if v := get[uint32](t)(c.Disk(ctx, 5)); v != 56 {
		t.Errorf("the disk mark is %d after the reset, want 56", v)
	}
	if v := get[uint32](t)(c.Presses(ctx)); v != 0 {
		t.Errorf("%d presses after the reset, want 0", v)
	}
	m.press(t) // it obeys again
	m.waitOff(t)
}

func hangs(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	must(t, c.Hang(within(t, answerTime)))
	m.press(t)
	if err := c.Identify(within(t, silence)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a guest that hangs answered: %v", err)
	}
	select {
	case <-c.Gone():
		t.Error("a guest that hangs has gone")
	default:
	}
	m.hardReset(t)
	if _, err := c.WaitEvent(within(t, answerTime), guest.OpBooted, 1); err != nil {
		t.Fatal(err)
	}
}

func restores(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetButton(ctx, guest.ButtonIgnore, 0))
	for slot := range guest.Slots {
		must(t, c.SetMemory(ctx, slot, 1000+uint32(slot)))
	}
	must(t, c.SetDisk(ctx, 1, 1))
	m.press(t)
	if _, err := c.WaitEvent(ctx, guest.OpPower, 0); err != nil {
		t.Fatal(err)
	}
	then := get[uint32](t)(c.Counter(ctx))
	saved := m.save(t)
	m.resume(t)
	must(t, c.SetMemory(ctx, 0, 1))
	must(t, c.SetDisk(ctx, 1, 2))
	time.Sleep(longPause) // so that a counter which was not restored shows

	for range 2 { // a snapshot can be used again
		m = m.restore(t, saved)
		c = m.client(t)
		if err := c.Identify(within(t, silence)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a machine that is restored paused answered: %v", err)
		}
		m.resume(t)
		now := get[uint32](t)(c.Counter(ctx))
		if d := now - then; d > someTicks {
			t.Errorf("the counter is at %d after the restore, saved at %d", now, then)
		}
		for slot := range guest.Slots {
			if v := get[uint32](t)(c.Memory(ctx, slot)); v != 1000+uint32(slot) {
				t.Errorf("memory mark %d is %d after the restore, want %d", slot, v, 1000+slot)
			}
		}
		if v := get[uint32](t)(c.Disk(ctx, 1)); v != 2 {
			t.Errorf("the disk mark is %d: a snapshot of the memory does not touch the disk, want 2", v)
		}
		if v := get[uint32](t)(c.Presses(ctx)); v != 1 {
			t.Errorf("%d presses after the restore, want 1", v)
		}
		if e := c.Events(); len(e) != 0 {
			t.Errorf("a restored guest told %+v", e)
		}
		must(t, c.SetMemory(ctx, 7, 0))
	}
	must(t, c.SetButton(ctx, guest.ButtonObey, 0))
	m.press(t) // the button's enable bit has been restored too
	m.waitOff(t)
}

func restoresLate(t *testing.T, mk maker) {
	m, c := boot(t, mk)
	ctx := within(t, answerTime)
	must(t, c.SetButton(ctx, guest.ButtonLate, 300*time.Millisecond))
	m.press(t)
	if _, err := c.WaitEvent(ctx, guest.OpPower, 0); err != nil {
		t.Fatal(err)
	}
	m = m.restore(t, m.save(t))
	m.resume(t)
	m.waitOff(t)
}
