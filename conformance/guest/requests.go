package guest

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

// Identify asks the guest what it is. The error says so where it is not a guest of this protocol's version.
func (c *Client) Identify(ctx context.Context) error {
	v, err := c.do(ctx, guest.OpIdentify, 0, 0)
	if err == nil && v != guest.Version {
		err = fmt.Errorf("the guest says that it is %#08x, not %#08x: its image is of another version", v, guest.Version)
	}
	return err
}

// Counter returns the ticks since boot, 250 a second. The counter stands still while the machine is paused
// and goes on from a snapshot's value.
func (c *Client) Counter(ctx context.Context) (uint32, error) {
	return c.do(ctx, guest.OpCounter, 0, 0)
}

// Memory returns memory mark slot (0 to 15): 0 if it was not set since boot.
func (c *Client) Memory(ctx context.Context, slot int) (uint32, error) {
	return c.slot(ctx, guest.OpGetMemory, slot, 0)
}

// SetMemory sets memory mark slot (0 to 15).
func (c *Client) SetMemory(ctx context.Context, slot int, value uint32) error {
	_, err := c.slot(ctx, guest.OpSetMemory, slot, value)
	return err
}

// Disk reads disk mark slot (0 to 15) from the machine's disk: 0 if none was written. The slots from 16 to 31 are those of its second
// disk; without one the status is StatusDiskError.
func (c *Client) Disk(ctx context.Context, slot int) (uint32, error) {
	return c.slot(ctx, guest.OpGetDisk, slot, 0)
}

// SetDisk writes disk mark slot (0 to 15) to the machine's disk, or (16 to 31) to its second disk.
func (c *Client) SetDisk(ctx context.Context, slot int, value uint32) error {
	_, err := c.slot(ctx, guest.OpSetDisk, slot, value)
	return err
}

// SetButton says what the guest does when its power button is pressed. The delay counts for
// [guest.ButtonLate] alone, in the guest's own time, rounded to 4 ms.
func (c *Client) SetButton(ctx context.Context, mode guest.ButtonMode, delay time.Duration) error {
	_, err := c.do(ctx, guest.OpButton, byte(mode), uint32(delay*guest.TicksPerSecond/time.Second))
	return err
}

// Presses returns how often the guest has seen its power button pressed since boot.
func (c *Client) Presses(ctx context.Context) (uint32, error) {
	return c.do(ctx, guest.OpPresses, 0, 0)
}

// Hang has the guest stop for ever, with interrupts off. The machine is running all the same.
func (c *Client) Hang(ctx context.Context) error {
	_, err := c.do(ctx, guest.OpHang, 0, 0)
	return err
}

// Reset has the guest reset the machine. The guest answers before it does, and boots again after it, which
// WaitEvent sees; what is sent in between can be lost.
func (c *Client) Reset(ctx context.Context) error {
	_, err := c.do(ctx, guest.OpReset, 0, 0)
	return err
}

// PowerOff has the guest switch the machine off. The guest answers before it does.
func (c *Client) PowerOff(ctx context.Context) error {
	_, err := c.do(ctx, guest.OpPowerOff, 0, 0)
	return err
}

func (c *Client) slot(ctx context.Context, op guest.Op, slot int, value uint32) (uint32, error) {
	slots := guest.Slots
	if op == guest.OpGetDisk || op == guest.OpSetDisk {
		slots += guest.SecondDisk
	}
	if slot < 0 || slot >= slots {
		return 0, fmt.Errorf("the guest has no slot %d: slots are 0 to %d", slot, slots-1)
	}
	return c.do(ctx, op, byte(slot), value)
}
