package guest

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// Options says what a machine is made of and who is told when it acts by itself.
type Options struct {
	// Disk is what the machine boots from and keeps disk marks on. Without one it never boots. It is not
	// used by two goroutines at once, nor while the machine is paused, off or closed.
	Disk Disk
	// Second is the machine's second disk; nil for none. All that is said of Disk's use holds for it.
	Second Disk

	// BootTime is how long the machine needs from reset to its first instruction. The default, 0, is
	// quicker than life: SeaBIOS needs 0.1 s under TCG.
	BootTime time.Duration

	// OnPowerOff is called when the guest has switched the machine off, after its last reply has gone to
	// the serial port. The machine is off by then. It is called without any lock held, on the goroutine
	// that runs the guest: it may use every method but Close, and whoever it keeps waiting is this guest only.
	OnPowerOff func()

	// OnReset is called, in the same way, when the guest has reset the machine. The machine stands still
	// until the function has returned and then boots again, unless Pause or PowerOff was called meanwhile.
	// This is where an owner that was told not to reboot calls PowerOff.
	OnReset func()
}

// Model is one virtual machine. It is off when made. Its methods may be called from any goroutine.
type Model struct {
	opts Options

	mu      sync.Mutex
	changed *sync.Cond // any change of what is below
	wake    chan struct{}
	done    chan struct{}
	workers sync.WaitGroup
	closed  bool

	on      bool
	running bool
	held    bool // Pause was called after the last Resume: a reset by the guest does not set it running
	io      bool // the guest is in a disk access: pausing and switching off wait for it, as QEMU's vm_stop does
	epoch   int  // counts power cycles, resets and loads, so that what was begun in one life is not ended in another
	since   time.Time
	guest   program

	port        *port
	subscribers map[*subscriber]struct{}
}

// New returns a machine that is off.
func New(opts Options) *Model {
	m := &Model{opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{}), subscribers: map[*subscriber]struct{}{}}
	m.changed = sync.NewCond(&m.mu)
	m.workers.Go(m.run)
	return m
}

// Close ends the machine and closes its serial port. When it returns, no goroutine of the machine is left,
// and subscribers' channels are closed. It must not be called from OnPowerOff or OnReset.
func (m *Model) Close() error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		m.halt()
		m.on = false
		m.cold()
		m.detach()
		m.unsubscribeAll()
		close(m.done)
	}
	m.mu.Unlock()
	m.workers.Wait()
	return nil
}

// PowerOn switches the machine on, with empty memory, and leaves it paused before its first instruction.
// Resume boots it. Where the machine is on already, nothing happens.
func (m *Model) PowerOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on || m.closed {
		return
	}
	m.on, m.held = true, true
	m.cold()
}

// PowerOff cuts the power. It is the host's doing, so OnPowerOff is not called. When it returns, the disk is
// not used any more.
func (m *Model) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut(Event{Kind: SwitchedOff})
}

// Reset presses the reset button: the memory marks are gone and the guest boots again; a paused machine
// stays paused, and one that is off stays off.
func (m *Model) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.halt()
	if !m.on {
		return
	}
	m.cold()
	m.publish(Event{Kind: WasReset})
	if !m.held {
		m.resume()
	}
}

// Pause stops the guest between two of its actions. When it returns, the disk is not used any more.
func (m *Model) Pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
	m.halt()
}

// Resume lets the guest go on. A machine that is off stays off.
func (m *Model) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on && !m.running && !m.closed {
		m.held = false
		m.resume()
	}
}

// PressPowerButton presses the ACPI power button. The guest sees it when it next looks (within a tick while
// it runs, and after Resume if it is paused), and does what its button mode says. A machine that is off,
// has not booted or hangs takes no notice of it.
func (m *Model) PressPowerButton() {
	m.mu.Lock()
	defer m.mu.Unlock()
	// The button's enable bit is set by the guest's own program: before it runs, a press leaves no trace.
	if !m.on || m.guest.Phase != phaseRuns || m.guest.Pressed {
		return
	}
	m.guest.Pressed, m.guest.PressTick = true, m.ticks()
	m.poke()
}

// Info is a look at the machine from outside.
type Info struct {
	On      bool
	Running bool // false while paused, and while off
	Booted  bool // the guest's program has started; never where the disk cannot boot
	Hung    bool
	Button  ButtonMode
	Presses uint32 // presses that the guest has seen since boot
	Ticks   uint32 // the guest's counter
}

// Info returns the machine's state. It waits for nothing that the guest does.
func (m *Model) Info() Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Info{
		On: m.on, Running: m.running, Booted: m.guest.booted(), Hung: m.guest.Phase == phaseHung,
		Button: m.guest.Button, Presses: m.guest.Presses, Ticks: m.ticks(),
	}
}

// String describes the machine in a few words, for messages.
func (i Info) String() string {
	switch {
	case !i.On:
		return "off"
	case !i.Running:
		return fmt.Sprintf("paused at tick %d", i.Ticks)
	case i.Hung:
		return "hung"
	case !i.Booted:
		return "not booted"
	}
	return fmt.Sprintf("running at tick %d, button mode %s, %d presses", i.Ticks, i.Button, i.Presses)
}

// Memory returns memory mark slot (0 to Slots-1, or it panics): 0 in a machine that is off.
func (m *Model) Memory(slot int) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest.Marks[slot]
}

// SetMemory sets memory mark slot (0 to Slots-1, or it panics) from outside. A machine that is off has no
// memory to set.
func (m *Model) SetMemory(slot int, value uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.on {
		m.guest.Marks[slot] = value
	}
}

// ReadMemory fills p with the guest's physical memory from addr on. Of the memory the model knows the
// marks, each at MemoryMarkBase + slot*MemoryMarkStep; the rest is zero. It is what a memory dump holds.
func (m *Model) ReadMemory(p []byte, addr int64) {
	clear(p)
	end := addr + int64(len(p))
	if end <= MemoryMarkBase || addr >= memoryMarkEnd {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.on || !m.guest.booted() {
		return
	}
	for slot, value := range m.guest.Marks {
		var mark [markSize]byte
		copy(mark[:], MemoryMagic)
		binary.LittleEndian.PutUint32(mark[4:], value)
		at := int64(MemoryMarkBase + slot*MemoryMarkStep)
		for i, b := range mark {
			if pos := at + int64(i); pos >= addr && pos < end {
				p[pos-addr] = b
			}
		}
	}
}

func (g *program) booted() bool { return g.Phase == phaseRuns || g.Phase == phaseHung }

// cold puts the machine, which is halted, where a power cycle or a reset puts it.
func (m *Model) cold() {
	m.epoch++
	m.guest = program{Button: ButtonObey}
	m.changed.Broadcast()
}

// cut takes the power away, and tells why.
func (m *Model) cut(why Event) {
	m.halt()
	if !m.on {
		return
	}
	m.on = false
	m.cold()
	m.publish(why)
}

// halt stops the clock and waits until the guest leaves the disk alone.
func (m *Model) halt() {
	for {
		if m.running {
			m.guest.Elapsed = m.elapsed()
			m.running = false
			m.changed.Broadcast()
		}
		if !m.io {
			return
		}
		m.changed.Wait()
	}
}

func (m *Model) resume() {
	m.running = true
	m.since = time.Now()
	m.changed.Broadcast()
	m.poke()
}

// poke has the guest's goroutine look at the machine again.
func (m *Model) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// elapsed is the time that the machine has run since boot (or, before it, since its reset).
func (m *Model) elapsed() time.Duration {
	if m.running && m.guest.Phase != phaseHung {
		return m.guest.Elapsed + time.Since(m.since)
	}
	return m.guest.Elapsed
}

func (m *Model) ticks() uint32 {
	if !m.guest.booted() {
		return 0
	}
	return uint32(m.elapsed() / tick)
}
