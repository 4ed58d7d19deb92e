//go:build linux

package conformance_test

import (
	"context"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/require"
)

// This is what a driver author writes.
func TestTheQEMUDriverIsConformantOnTheFake(t *testing.T) {
	conformance.Run(t, conformance.Subject{Driver: qemu.Driver(), Lab: fakeLab(t), RequireAll: true})
}

func TestTheQEMUDriverIsConformantOnARealQEMU(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64")
	lab, err := qemulab.New(context.Background(), qemulab.Options{Emulator: "qemu-system-x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	conformance.Run(t, conformance.Subject{Driver: qemu.Driver(), Lab: lab, RequireAll: true})
}
