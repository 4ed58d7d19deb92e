//go:build linux

package qemu

import (
	"context"
	"log/slog"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/oplog"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// Driver is the driver for a registry: machines from a qemu.yaml.
func Driver() machinery.Driver {
	return machinery.Driver{
		Name:     schema.Name,
		Doc:      "QEMU over QMP: one process for each machine, restored from a disk and a memory snapshot",
		Schema:   Schema(),
		Template: Template,
		Open: func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			return New(ctx, FromDocument(doc), o)
		},
		Diagnose: Diagnose,
	}
}

// Machinery is the driver at work: machines that run in QEMU. It keeps the contract of machinery.Machinery and those of the
// optional operations, and is made by New. It may be embedded in another driver, which overrides some of its methods; its
// own methods do not call each other, so that an override is reached by its callers alone (see the package documentation).
type Machinery struct {
	config      Config // with the defaults in place
	runtimeDir  string
	endMachines bool
	starter     *process.Starter // with endMachines
	log         *slog.Logger

	frame *frame.Frame[*vm]

	version versions
}

var (
	_ machinery.Machinery         = (*Machinery)(nil)
	_ machinery.NoRestoreStarter  = (*Machinery)(nil)
	_ machinery.ACPIStopper       = (*Machinery)(nil)
	_ machinery.MemoryDumper      = (*Machinery)(nil)
	_ machinery.PausedHandler     = (*Machinery)(nil)
	_ machinery.Screenshotter     = (*Machinery)(nil)
	_ machinery.Versioner         = (*Machinery)(nil)
	_ machinery.DependencyChecker = (*Machinery)(nil)
	_ machinery.NetworkCapturer   = (*Machinery)(nil)
	_ machinery.Watcher           = (*Machinery)(nil)
)

// Machines returns the machines in the order of the configuration.
func (d *Machinery) Machines() []machinery.Machine { return d.frame.Machines() }

// RestoreStart starts QEMU with an empty disposable disk above the machine's disk, has it load the snapshot, and returns
// when the machine runs, or stands still if it was saved so. A machine that another process left running is not touched and
// is an ErrUnexpectedState; one that another process holds is ErrBusy.
func (d *Machinery) RestoreStart(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpRestoreStart, name, (*vm).restore)
}

// NoRestoreStart starts QEMU without the snapshot, so that the machine boots from its disk, and returns when it runs. As for
// RestoreStart, what the machine writes goes to an empty disposable disk above the configured one, which is removed when the
// machine is off: nothing that is booted changes the disk. A machine whose snapshot is missing or broken can be booted too, for
// SaveSnapshot to make one, though State calls it an error while it is off. A disk that another QEMU writes to is ErrBusy.
func (d *Machinery) NoRestoreStart(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpNoRestoreStart, name, (*vm).noRestore)
}

// HandlePaused resumes a machine that stands still because its snapshot was saved so. One that somebody else paused is
// ErrUnexpectedState.
func (d *Machinery) HandlePaused(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpHandlePaused, name, (*vm).handlePaused)
}

// Stop tells QEMU to quit and waits until its process is gone. A QEMU that is not gone within Config.QuitTimeout, or when
// ctx ends, or that has no monitor any more, is killed. If even that does not end it within ten seconds the error is of kind
// ErrHypervisor and Stop may be called again.
func (d *Machinery) Stop(ctx context.Context, name string) error {
	return d.frame.Stop(ctx, name, (*vm).stop)
}

// State asks QEMU, or reads from the ledger what another process runs. It takes two seconds at most, and less if ctx ends
// sooner; a QEMU that does not answer in that time is in the error state. What runs is told even if the machine's configuration is
// wrong by now.
//
// "paused (from snapshot)" means that no driver has seen the machine go on since. One that somebody else resumed and paused again
// while no driver was connected to it cannot be told from that: QEMU has no record of it (QEMU 7.2.22).
func (d *Machinery) State(ctx context.Context, name string) (machinery.Status, error) {
	v, err := d.frame.Lookup(ctx, machinery.OpState, name)
	if err != nil {
		return machinery.Status{}, err
	}
	return v.state(ctx)
}

// Monitor returns the connection to the QEMU of a machine that this driver holds, for commands of the caller's own. It ends
// with the machine's run, and is the driver's to close. What is done over it is seen by the driver: a machine that was paused
// over it counts as paused by someone else. A long command keeps QEMU from answering the driver meanwhile.
//
// The error is ErrUnexpectedState if this driver does not hold the machine.
func (d *Machinery) Monitor(ctx context.Context, name string) (*monitor.Monitor, error) {
	const op = machinery.Op("monitor")
	v, err := d.frame.Lookup(ctx, op, name)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	r, doing := v.run, v.doing
	v.mu.Unlock()
	if r == nil || doing != "" || r.proc.Over() {
		return nil, fault.Fail(op, name, machinery.ErrUnexpectedState, nil, "the machine is not running under this driver")
	}
	m, err := r.master(ctx)
	if err != nil {
		return nil, fault.Fail(op, name, machinery.ErrConnection, err, "QEMU's monitor cannot be reached")
	}
	return m, nil
}

// Close lets go of the machines, which run on, and ends what this driver does. Operations that run are interrupted. With
// machinery.Options.EndMachines it ends the machines that this driver holds: none is to outlive it.
func (d *Machinery) Close() error {
	return d.frame.Close(func(v *vm) (err error) {
		if d.endMachines {
			err = v.endRun(context.Background(), machinery.OpClose)
		}
		v.detach()
		return err
	}, d.endStarter)
}

// Shutdown stops the machines that this driver holds, all at once, and then does what Close does. Machines that another
// process left running and that this driver has not taken over are not its to stop.
func (d *Machinery) Shutdown(ctx context.Context) error {
	return d.frame.Shutdown(ctx, func(v *vm) error {
		if v.run == nil {
			return nil
		}
		began := time.Now()
		err := v.endRun(ctx, machinery.OpShutdown)
		oplog.Done(ctx, v.log, machinery.OpShutdown, began, 0, err)
		v.detach()
		return err
	}, d.endStarter)
}

// endStarter ends the thread that machines are started by which are to end with this process.
func (d *Machinery) endStarter() error {
	if d.starter != nil {
		d.starter.Stop()
	}
	return nil
}
