package conformance

import (
	"context"
	"sync"
	"time"
)

// agreeing stands in for the guest where a lab's machines have none, and agrees to
// whatever a check asks of it. What such a check shows rests on power and states
// alone. Requirements that have no meaning without a guest need [FeatureGuest],
// and do not come here.
type agreeing struct {
	gone chan struct{}

	mu           sync.Mutex
	count        uint32
	memory, disk map[int]uint32
}

// guestless reports whether the lab's machines have no guests.
func (w *World) guestless() bool {
	has, _ := w.subject.Lab.Offers(FeatureGuest)
	return !has
}

// newAgreeing returns a guest that is as its snapshot was.
func newAgreeing(s Saved) *agreeing {
	return &agreeing{gone: make(chan struct{}), count: s.Counter,
		memory: map[int]uint32{firstSlot: s.Memory}, disk: map[int]uint32{firstSlot: s.Disk, SecondDisk + firstSlot: s.SecondDisk}}
}

// Counter implements Guest.
func (a *agreeing) Counter(context.Context) (uint32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	return a.count, nil
}

func (a *agreeing) read(marks map[int]uint32, slot int) (uint32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return marks[slot], nil
}

func (a *agreeing) write(marks map[int]uint32, slot int, value uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	marks[slot] = value
	return nil
}

// Memory implements Guest.
func (a *agreeing) Memory(_ context.Context, slot int) (uint32, error) { return a.read(a.memory, slot) }

// SetMemory implements Guest.
func (a *agreeing) SetMemory(_ context.Context, slot int, value uint32) error {
	return a.write(a.memory, slot, value)
}

// Disk implements Guest.
func (a *agreeing) Disk(_ context.Context, slot int) (uint32, error) { return a.read(a.disk, slot) }

// SetDisk implements Guest.
func (a *agreeing) SetDisk(_ context.Context, slot int, value uint32) error {
	return a.write(a.disk, slot, value)
}

// PowerOff implements Guest.
func (a *agreeing) PowerOff(context.Context) error { return nil }

// Hang implements Guest.
func (a *agreeing) Hang(context.Context) error { return nil }

// Button implements Guest.
func (a *agreeing) Button(context.Context, ButtonMode, time.Duration) error { return nil }

// Pressed implements Guest.
func (a *agreeing) Pressed() int { return 0 }

// Gone implements Guest.
func (a *agreeing) Gone() <-chan struct{} { return a.gone }
