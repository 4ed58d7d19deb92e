//go:build linux

package labkit

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	fakeguest "github.com/machineries/machineries/fakes/guest"
)

// View is the suite's view of a connected guest.
type View struct{ *guest.Client }

var _ conformance.Guest = View{}

// buttonModes are the guest's words for what it does when its button is
// pressed.
var buttonModes = map[conformance.ButtonMode]fakeguest.ButtonMode{
	conformance.ButtonIgnore: fakeguest.ButtonIgnore,
	conformance.ButtonObey:   fakeguest.ButtonObey,
	conformance.ButtonLate:   fakeguest.ButtonLate,
}

// Button implements conformance.Guest.
func (g View) Button(ctx context.Context, mode conformance.ButtonMode, delay time.Duration) error {
	m, known := buttonModes[mode]
	if !known {
		return fmt.Errorf("the guest has no button mode %q", mode)
	}
	return g.SetButton(ctx, m, delay)
}

// Pressed implements conformance.Guest.
func (g View) Pressed() int {
	n := 0
	for _, e := range g.Events() {
		if e.Op == fakeguest.OpPower {
			n++
		}
	}
	return n
}
