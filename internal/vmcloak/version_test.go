package vmcloak

import (
	"testing"

	"github.com/machineries/machineries/internal/qemuargs"
	"github.com/machineries/machineries/internal/require"
)

func TestTheHostsEmulatorSaysItsVersion(t *testing.T) {
	require.Tool(t, "qemu", require.Emulator)
	version, err := EmulatorVersion(t.Context(), require.Emulator)
	if v, ok := qemuargs.ParseVersion(version); err != nil || !ok || v.Major < 4 {
		t.Errorf("%q, %v", version, err)
	}
	if version, err := EmulatorVersion(t.Context(), "/bin/true"); err == nil {
		t.Errorf("of another program: %q", version)
	}
}
