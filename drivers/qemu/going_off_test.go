//go:build linux

package qemu

import (
	"context"
	"os/exec"
	"testing"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// A QEMU whose guest has switched itself off says so for a moment before it ends. Who waits for the machine to go off must not take that
// for a machine that has broken down, and end it.
func TestAMachineThatIsJustGoingOffIsOffAndNotInTheErrorState(t *testing.T) {
	require.Tool(t, "sleep", "sleep")
	for _, c := range []struct {
		lives string
		want  machinery.State
	}{{"0.05", machinery.StatePoweroff}, {"60", machinery.StateError}} { // the second was started with -no-shutdown
		cmd := exec.CommandContext(t.Context(), "sleep", c.lives)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		start, err := process.StartTime(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		p, err := process.Attach(cmd.Process.Pid, start)
		if err != nil {
			t.Fatal(err)
		}
		means := func(state string) (machinery.Status, error) { return statusOf(state, "") }
		query := func(context.Context) (string, error) { return shutDown, nil }
		status, err := new(vm).ask(limit(t), p, means, func() string { return "it has ended" }, query)
		if err != nil || status.State != c.want {
			t.Errorf("of a QEMU that ends after %s s the state is %+v (%v), want %s", c.lives, status, err, c.want)
		}
		p.Release()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
