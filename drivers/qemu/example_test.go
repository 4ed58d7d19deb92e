//go:build linux

package qemu_test

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// counting is a driver that does all that the QEMU driver does, and says how much each machine wrote to its disks before it
// is stopped.
type counting struct {
	*qemu.Machinery
}

// Stop overrides one operation. It uses a command of QEMU's own, on the machine's monitor.
func (c *counting) Stop(ctx context.Context, name string) error {
	if m, err := c.Monitor(ctx, name); err == nil {
		var disks []struct {
			Device string
			Stats  struct {
				Written int64 `json:"wr_bytes"`
			}
		}
		// Whatever becomes of it, the machine is stopped.
		asking, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := m.Execute(asking, "query-blockstats", nil, &disks); err == nil {
			fmt.Println(name, "wrote", disks)
		}
	}
	return c.Machinery.Stop(ctx, name)
}

// A driver of one's own can embed this one and override a part of it.
func ExampleMachinery() {
	inner, err := qemu.New(context.Background(), qemu.Config{RuntimeDir: "run"}, machinery.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var m machinery.Machinery = &counting{inner}
	defer m.Close()
	fmt.Println(m.Stop(context.Background(), "win10_1"))
	// Output: open: the runtime directory run cannot be used: it has to be an absolute path; a relative one is another directory in each working directory, and programs in two of them would not see each other's machines
}
