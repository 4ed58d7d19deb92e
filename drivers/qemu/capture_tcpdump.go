//go:build linux

package qemu

import (
	"context"
	"os"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/tcpdump"
)

func (v *vm) tcpdumpArgs(a *capture.Armed) ([]string, error) {
	return tcpdump.Args(v.machine.Interface, v.machine.IP, a.Exclude)
}

// startTcpdump starts a tcpdump that records to the file, and returns when it does. The capture is in the ledger already.
func (r *run) startTcpdump(ctx context.Context, a *capture.Armed, c *capture.Recording, to *os.File) error {
	args, err := r.v.tcpdumpArgs(a)
	if err != nil {
		return err
	}
	note := func(change func()) error { return r.note(func(*ledger) { change() }) }
	return capture.Tcpdump{Program: r.v.d.config.Tcpdump, Args: args, To: to, By: r.v.d.starter, Note: note}.Start(ctx, c)
}
