package qemulab

import (
	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/guest"
	fakeguest "github.com/machineries/machineries/fakes/guest"
)

// guestView is the suite's view of a connected guest.
type guestView struct{ *guest.Client }

var _ conformance.Guest = guestView{}

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
