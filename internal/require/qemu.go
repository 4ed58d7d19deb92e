package require

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// Emulator is the program that the requirement "qemu" is about.
const Emulator = "qemu-system-x86_64"

// QEMU runs the host's QEMU with commands for its monitor, and returns what it says. A host without it lacks "qemu".
func QEMU(t interface {
	TB
	Context() context.Context
}, commands string, args ...string) string {
	t.Helper()
	Tool(t, "qemu", Emulator)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Emulator, append([]string{"-nodefaults", "-display", "none", "-accel", "tcg", "-m", "16", "-S", "-monitor", "stdio"}, args...)...)
	cmd.Stdin = strings.NewReader(commands)
	out, _ := cmd.CombinedOutput() // what it says tells how it ended
	if ctx.Err() != nil {
		t.Fatalf("QEMU did not end: %s", out)
	}
	return string(out)
}
