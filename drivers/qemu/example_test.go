//go:build linux

package qemu_test

import (
	"context"
	"fmt"
	"time"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// patient is a driver that does all that the QEMU driver does, but gives each machine a moment to write its disk back before
// it is stopped.
type patient struct {
	*qemu.Machinery
	moment time.Duration
}

// Stop overrides one operation. It uses a command of QEMU's own through the machine's monitor.
func (p *patient) Stop(ctx context.Context, name string) error {
	if m, err := p.Monitor(ctx, name); err == nil {
		flush, cancel := context.WithTimeout(ctx, p.moment)
		defer cancel()
		// Whatever becomes of it, the machine is stopped.
		_ = m.Execute(flush, "system_wakeup", nil, nil)
	}
	return p.Machinery.Stop(ctx, name)
}

// A driver of one's own can embed this one and override a part of it.
func ExampleMachinery() {
	inner, err := qemu.New(context.Background(), qemu.Config{QEMU: "/no/qemu/here"}, machinery.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var m machinery.Machinery = &patient{Machinery: inner, moment: time.Second}
	defer m.Close()
	fmt.Println(m.Stop(context.Background(), "win10_1"))
	// Output: open: QEMU cannot be used: stat /no/qemu/here: no such file or directory
}
