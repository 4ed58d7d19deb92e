//go:build linux

package libvirtlab

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

func TestAskingLeavesNoGoroutines(t *testing.T) {
	require.Tool(t, "libvirt", "/usr/sbin/libvirtd")
	dir, err := os.MkdirTemp("/tmp", "mlt")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d, err := startHostDaemon(t.Context(), "/usr/sbin/libvirtd", filepath.Join(dir, "d"), driverTest)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	call := func() {
		if err := ask(context.Background(), d, func(c *client) error { _, err := c.ConnectGetVersion(); return err }); err != nil {
			t.Fatal(err)
		}
	}
	call()
	before := runtime.NumGoroutine()
	for range 20 {
		call()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 64<<10)
			t.Fatalf("%d goroutines became %d:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond) // goroutines end without an event
	}
}
