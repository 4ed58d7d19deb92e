package guest

import (
	"context"
	"fmt"
	"slices"

	"github.com/machineries/machineries/fakes/guest"
)

// Event is something that the guest told without being asked.
type Event struct {
	Seq   uint64   // of this connection, from 1 on
	Op    guest.Op // guest.OpBooted or guest.OpPower
	Value uint32   // the protocol's version, or the presses since boot
}

// maxEvents is how many events a client remembers; of more, the oldest are forgotten.
const maxEvents = 1024

// Events returns what the guest has told on this connection so far. A machine that goes on from a snapshot
// does not boot, and does not say that it did.
func (c *Client) Events() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// WaitEvent waits for an event of the given kind with a Seq above after, and returns the first one. With 0
// it also finds one that came before the call.
func (c *Client) WaitEvent(ctx context.Context, op guest.Op, after uint64) (Event, error) {
	for {
		c.mu.Lock()
		arrived := c.arrived
		for _, e := range c.events {
			if e.Op == op && e.Seq > after {
				c.mu.Unlock()
				return e, nil
			}
		}
		over := c.gone() // looked at after the events: it ends when they are all in
		c.mu.Unlock()
		if over {
			return Event{}, fmt.Errorf("the guest did not tell %q: %w", op, ErrGone)
		}
		select {
		case <-arrived:
		case <-c.end:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("the guest did not tell %q: %w", op, context.Cause(ctx))
		}
	}
}

// WaitBoot waits until the guest has told on this connection that it booted, and checks its version.
func (c *Client) WaitBoot(ctx context.Context) error {
	e, err := c.WaitEvent(ctx, guest.OpBooted, 0)
	if err == nil && e.Value != guest.Version {
		err = fmt.Errorf("the guest says that it is %#08x, not %#08x: its image is of another version", e.Value, guest.Version)
	}
	return err
}

func (c *Client) record(r guest.Reply) {
	c.seq++
	c.events = append(c.events, Event{Seq: c.seq, Op: r.Op, Value: r.Value})
	if len(c.events) > maxEvents {
		c.events = slices.Delete(c.events, 0, len(c.events)-maxEvents)
	}
	close(c.arrived)
	c.arrived = make(chan struct{})
}
