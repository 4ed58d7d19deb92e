package qemulab

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	fakeguest "github.com/machineries/machineries/fakes/guest"
)

// guestView is the suite's view of a connected guest.
type guestView struct{ *guest.Client }

var _ conformance.Guest = guestView{}

// buttonModes are the guest's words for what it does when its button is
// pressed.
var buttonModes = map[conformance.ButtonMode]fakeguest.ButtonMode{
	conformance.ButtonIgnore: fakeguest.ButtonIgnore,
	conformance.ButtonObey:   fakeguest.ButtonObey,
	conformance.ButtonLate:   fakeguest.ButtonLate,
}

// Button implements conformance.Guest.
func (g guestView) Button(ctx context.Context, mode conformance.ButtonMode, delay time.Duration) error {
	m, known := buttonModes[mode]
	if !known {
		return fmt.Errorf("the guest has no button mode %q", mode)
	}
	return g.SetButton(ctx, m, delay)
}

// Pressed implements conformance.Guest.
func (g guestView) Pressed() int {
	n := 0
	for _, e := range g.Events() {
		if e.Op == fakeguest.OpPower {
			n++
		}
	}
	return n
}
