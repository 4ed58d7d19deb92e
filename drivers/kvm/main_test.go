//go:build linux

package kvm

import (
	"os"
	"testing"

	"github.com/machineries/machineries/conformance/libvirtlab"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	fakeqemu.Main() // the lab puts it before the emulator, as this program again
	libvirtlab.Main()
	os.Exit(verified(m))
}

// verified runs the tests, ends the labs that they have used, and looks for what is left in this process.
func verified(m *testing.M) int {
	code := m.Run()
	for _, l := range labs {
		if err := l.Close(); err != nil {
			println(err.Error())
			code = max(code, 1)
		}
	}
	if err := goleak.Find(); err != nil {
		println(err.Error())
		code = max(code, 1)
	}
	return code
}
