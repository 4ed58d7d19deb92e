package guest

import "time"

type phase uint8

const (
	phaseBIOS   phase = iota // since power on or reset; the program has not started
	phaseNoBoot              // the BIOS found nothing to boot: stays so until a reset
	phaseRuns
	phaseHung // interrupts off, for ever: the counter and the serial port stand still
	phaseLast = phaseHung
)

type ending uint8

const (
	endNone ending = iota
	endOff
	endReset
	endLast = endReset
)

// program is the state of the guest and its devices: all that a snapshot holds. The disk is not in it.
type program struct {
	Phase     phase
	Button    ButtonMode
	End       ending          // the guest is about to end: its last words are on their way
	Late      bool            // a press in ButtonLate waits for tick LateAt
	Pressed   bool            // the power button's status bit: pressed, not seen by the guest yet
	Received  bool            // the serial port's receive register holds In
	In        byte            // (the guest uses no FIFO, so a paused one has taken one byte; the rest waits with the sender)
	FrameLen  uint8           // how much of Frame is there
	Frame     [FrameSize]byte // the request that is being read
	FrameTick uint32          // when the last byte of Frame came
	PressTick uint32          // when the button was pressed
	EndTick   uint32          // when the guest ends although its last words are not taken
	Delay     uint32          // of ButtonLate
	LateAt    uint32
	Presses   uint32
	Elapsed   time.Duration // since boot, not counting pauses
	Marks     [Slots]uint32
}

const (
	tick = time.Second / TicksPerSecond

	// idle is how long the processor sleeps where only a call of the owner can give it something to do.
	// Every such call wakes it, so the length does not matter.
	idle = time.Hour
)

// run is the guest's processor: it lives as long as the model, and acts when something is to be done.
func (m *Model) run() {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		wait, act := m.step()
		if act != nil {
			act()
			continue
		}
		timer.Reset(wait)
		select {
		case <-m.done:
			return
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// step does one thing that is to be done and returns a function to be called without the lock; or it
// returns nil and how long there is nothing to do.
func (m *Model) step() (time.Duration, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		return idle, nil
	}
	switch m.guest.Phase {
	case phaseBIOS:
		if left := m.opts.BootTime - m.elapsed(); left > 0 {
			return left, nil
		}
		m.boot()
		return 0, nothing
	case phaseRuns:
		return m.act()
	default:
		return idle, nil
	}
}

func nothing() {}

// boot reads the boot sector and starts the program, or does not.
func (m *Model) boot() {
	ok := false
	if m.opts.Disk != nil {
		m.access(func() { ok = bootable(m.opts.Disk) })
	}
	if !ok {
		m.guest.Phase = phaseNoBoot
		return
	}
	m.guest.Phase = phaseRuns
	m.guest.Elapsed, m.since = 0, time.Now()
	m.send(Reply{Op: OpBooted, Tag: EventTag, Value: Version})
	m.publish(Event{Kind: Booted, Guest: true})
}

// access calls f without the lock. Pausing and switching off wait meanwhile, so the machine that comes
// back from the access is the one that went into it.
func (m *Model) access(f func()) {
	m.io = true
	m.mu.Unlock()
	f()
	m.mu.Lock()
	m.io = false
	m.changed.Broadcast()
}

// act is the program's main loop.
func (m *Model) act() (time.Duration, func()) {
	g := &m.guest
	now := m.ticks()
	sent := m.port == nil || len(m.port.out) == 0
	switch {
	case g.End != endNone && (sent || reached(now, g.EndTick)):
		return 0, m.end()
	case g.End != endNone:
		return m.until(g.EndTick), nil
	case m.port != nil && len(m.port.out) >= maxOutput:
		return idle, nil // the transmitter is busy; the port's writer wakes us
	case g.Pressed && (g.Received || reached(now, g.PressTick+1)):
		m.pressed(now)
	case g.Late && reached(now, g.LateAt):
		m.endWith(endOff)
	case g.Received:
		g.Received = false
		m.changed.Broadcast()
		m.receive(g.In, now)
	case g.Pressed:
		return m.until(g.PressTick + 1), nil
	case g.Late:
		return m.until(g.LateAt), nil
	default:
		return idle, nil
	}
	return 0, nothing
}

// reached tells whether the counter, which wraps, is at tick at or past it.
func reached(now, at uint32) bool { return int32(now-at) >= 0 }

// until is the time to the start of the given tick, which is to come.
func (m *Model) until(at uint32) time.Duration {
	elapsed := m.elapsed()
	whole := elapsed / tick
	return time.Duration(at-uint32(whole))*tick - elapsed%tick
}

func (m *Model) pressed(now uint32) {
	g := &m.guest
	g.Pressed = false
	g.Presses++
	m.send(Reply{Op: OpPower, Tag: EventTag, Value: g.Presses})
	m.publish(Event{Kind: ButtonSeen, Guest: true, Value: g.Presses})
	switch {
	case g.Button == ButtonObey:
		m.endWith(endOff)
	case g.Button == ButtonLate && !g.Late:
		g.Late, g.LateAt = true, now+g.Delay
	}
}

// endWith has the guest end when what it has written is taken, or after a second where nobody takes it.
func (m *Model) endWith(e ending) {
	m.guest.End, m.guest.EndTick = e, m.ticks()+TicksPerSecond
}

// end switches the machine off or resets it, as the guest has asked for.
func (m *Model) end() func() {
	if m.guest.End == endOff {
		m.cut(Event{Kind: SwitchedOff, Guest: true})
		if m.opts.OnPowerOff == nil {
			return nothing
		}
		return m.opts.OnPowerOff
	}
	m.halt()
	m.cold()
	epoch := m.epoch
	m.publish(Event{Kind: WasReset, Guest: true})
	return func() {
		if m.opts.OnReset != nil {
			m.opts.OnReset()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.on && !m.running && m.epoch == epoch && !m.held {
			m.resume()
		}
	}
}
