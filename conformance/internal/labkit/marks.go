//go:build linux

package labkit

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
)

// Marks are what a machine is marked with before it is saved, and how far its
// guest had counted.
type Marks struct {
	Memory, Disk uint32
	// SecondDisk is 0 for a machine with one disk.
	SecondDisk uint32
	Counter    uint32
}

// NewMarks are the marks of a machine that no other variant has.
func NewMarks(variant int, second bool) Marks {
	m := Marks{Memory: 0x5A000000 + uint32(variant), Disk: 0xD1500000 + uint32(variant)}
	if second {
		m.SecondDisk = 0xD1520000 + uint32(variant)
	}
	return m
}

// Write writes the marks in a guest and reads its counter.
func (m *Marks) Write(ctx context.Context, g *guest.Client) error {
	if err := g.SetMemory(ctx, 0, m.Memory); err != nil {
		return fmt.Errorf("marking the guest's memory: %w", err)
	}
	if err := g.SetDisk(ctx, 0, m.Disk); err != nil {
		return fmt.Errorf("marking the guest's disk: %w", err)
	}
	if m.SecondDisk != 0 {
		if err := g.SetDisk(ctx, conformance.SecondDisk, m.SecondDisk); err != nil {
			return fmt.Errorf("marking the guest's second disk: %w", err)
		}
	}
	return m.count(ctx, g)
}

// firstTicks is how far a guest has counted before it is saved, so that its
// counter can be told from that of a fresh boot.
const firstTicks = 10

// count waits until the guest has counted some ticks.
func (m *Marks) count(ctx context.Context, g *guest.Client) (err error) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		if m.Counter, err = g.Counter(ctx); err != nil || m.Counter >= firstTicks {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the guest's counter is at %d: %w", m.Counter, ctx.Err())
		}
	}
}

// Saved is what the suite is told of a snapshot with these marks.
func (m *Marks) Saved(files map[string]string) conformance.Saved {
	return conformance.Saved{Memory: m.Memory, Disk: m.Disk, SecondDisk: m.SecondDisk, Counter: m.Counter, Files: files}
}
