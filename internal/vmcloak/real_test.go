package vmcloak

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/qemuargs"
	"github.com/machineries/machineries/internal/require"
)

const emulator = "qemu-system-x86_64"

// qemu runs the host's QEMU with commands for its monitor, and returns what it says.
func qemu(t *testing.T, commands string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, emulator, append([]string{"-nodefaults", "-display", "none", "-accel", "tcg", "-m", "16", "-S", "-monitor", "stdio"}, args...)...)
	cmd.Stdin = strings.NewReader(commands)
	out, _ := cmd.CombinedOutput() // what it says tells how it ended
	if ctx.Err() != nil {
		t.Fatalf("QEMU did not end: %s", out)
	}
	return string(out)
}

func TestWhatTheHostsQEMUWritesIsWholeAndABytesLessIsNot(t *testing.T) {
	require.Tool(t, "qemu", emulator)
	version, err := EmulatorVersion(t.Context(), emulator)
	if err != nil {
		t.Fatal(err)
	}
	here, ok := qemuargs.ParseVersion(version)
	if !ok {
		t.Fatalf("%q is no version", version)
	}
	for _, name := range []qemuargs.Type{"q35", "pc"} {
		path := filepath.Join(t.TempDir(), "memory.snapshot")
		out := qemu(t, fmt.Sprintf("migrate \"exec:cat >%s\"\nquit\n", path), "-M", string(name))
		found, err := examine(t.Context(), path, false)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if want := string(name.In(here)); found.MachineType != want {
			t.Errorf("the snapshot is of %q, want %q", found.MachineType, want)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 400, len(data) / 2, len(data) - 20} {
			if err := os.WriteFile(path, data[:len(data)-n], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := examine(t.Context(), path, false); err == nil || !strings.Contains(err.Error(), "cut short") {
				t.Errorf("%d bytes less: %v", n, err)
			}
		}
	}
}
