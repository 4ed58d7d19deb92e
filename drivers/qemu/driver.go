//go:build linux

package qemu

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
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

	machines []*vm
	byName   map[string]*vm

	closed   chan struct{} // closed when Close or Shutdown has begun
	closing  sync.Mutex    // held by the Close or Shutdown that does the work
	ending   sync.Mutex    // held while closed is closed, and by who adds to watchers without having a turn
	watchers sync.WaitGroup
	version  versions
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
func (d *Machinery) Machines() []machinery.Machine {
	list := make([]machinery.Machine, len(d.machines))
	for i, v := range d.machines {
		list[i] = v.machine
		list[i].Tags = append([]string(nil), v.machine.Tags...)
	}
	return list
}

// RestoreStart starts QEMU with an empty disposable disk above the machine's disk, has it load the snapshot, and returns
// when the machine runs, or stands still if it was saved so. A machine that another process left running is not touched and
// is an ErrUnexpectedState; one that another process holds is ErrBusy.
func (d *Machinery) RestoreStart(ctx context.Context, name string) error {
	return d.operate(ctx, machinery.OpRestoreStart, name, (*vm).restore)
}

// NoRestoreStart starts QEMU without the snapshot, so that the machine boots from its disk, and returns when it runs. As for
// RestoreStart, what the machine writes goes to an empty disposable disk above the configured one, which is removed when the
// machine is off: nothing that is booted changes the disk. A machine whose snapshot is missing or broken can be booted too, for
// SaveSnapshot to make one, though State calls it an error while it is off. A disk that another QEMU writes to is ErrBusy.
func (d *Machinery) NoRestoreStart(ctx context.Context, name string) error {
	return d.operate(ctx, machinery.OpNoRestoreStart, name, (*vm).noRestore)
}

// HandlePaused resumes a machine that stands still because its snapshot was saved so. One that somebody else paused is
// ErrUnexpectedState.
func (d *Machinery) HandlePaused(ctx context.Context, name string) error {
	return d.operate(ctx, machinery.OpHandlePaused, name, (*vm).handlePaused)
}

// Stop tells QEMU to quit and waits until its process is gone. A QEMU that is not gone within Config.QuitTimeout, or when
// ctx ends, or that has no monitor any more, is killed. If even that does not end it within ten seconds the error is of kind
// ErrHypervisor and Stop may be called again.
func (d *Machinery) Stop(ctx context.Context, name string) error {
	v, err := d.lookup(ctx, machinery.OpStop, name)
	if err != nil {
		return err
	}
	return v.stop(ctx)
}

// State asks QEMU, or reads from the ledger what another process runs. It takes two seconds at most, and less if ctx ends
// sooner; a QEMU that does not answer in that time is in the error state. What runs is told even if the machine's configuration is
// wrong by now.
//
// "paused (from snapshot)" means that no driver has seen the machine go on since. One that somebody else resumed and paused again
// while no driver was connected to it cannot be told from that: QEMU has no record of it (QEMU 7.2.22).
func (d *Machinery) State(ctx context.Context, name string) (machinery.Status, error) {
	v, err := d.lookup(ctx, machinery.OpState, name)
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
	v, err := d.lookup(ctx, op, name)
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
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.isClosed() {
		return nil
	}
	return d.end(func(v *vm) error {
		if d.endMachines {
			return v.endRun(context.Background(), machinery.OpClose)
		}
		return nil
	})
}

// Shutdown stops the machines that this driver holds, all at once, and then does what Close does. Machines that another
// process left running and that this driver has not taken over are not its to stop.
func (d *Machinery) Shutdown(ctx context.Context) error {
	if ctx.Err() != nil {
		return fault.Interrupted(machinery.OpShutdown, "", ctx, "not begun")
	}
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.isClosed() {
		return &machinery.Error{Op: machinery.OpShutdown, Kind: machinery.ErrClosed}
	}
	return d.end(func(v *vm) error {
		if v.run == nil {
			return nil
		}
		began := time.Now()
		err := v.endRun(ctx, machinery.OpShutdown)
		oplog.Done(ctx, v.log, machinery.OpShutdown, began, 0, err)
		return err
	})
}

// end ends every operation, does last for each machine, and lets go of all.
func (d *Machinery) end(last func(*vm) error) error {
	d.ending.Lock()
	close(d.closed)
	d.ending.Unlock()
	failed := make([]error, len(d.machines))
	var all sync.WaitGroup
	for i, v := range d.machines {
		v.turns.Close()
		all.Go(func() {
			t, err := v.turns.TakeClosed(machinery.OpClose, v.patience())
			if err != nil {
				failed[i] = fault.NotMyTurn(machinery.OpClose, v.machine.Name, context.Background(), err)
				return
			}
			defer t.Done()
			failed[i] = last(v)
			v.detach()
		})
	}
	all.Wait()
	d.watchers.Wait()
	if d.starter != nil {
		d.starter.Stop()
	}
	return errors.Join(failed...)
}

func (d *Machinery) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

// lookup finds a machine, and refuses what cannot begin at all.
func (d *Machinery) lookup(ctx context.Context, op machinery.Op, name string) (*vm, error) {
	v := d.byName[name]
	switch {
	case d.isClosed():
		return nil, &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrClosed}
	case v == nil:
		return nil, machinery.NotFound(op, name, d.Machines())
	case ctx.Err() != nil:
		return nil, fault.Fail(op, name, machinery.ErrInterrupted, ctx.Err(), "not begun")
	}
	return v, nil
}

// operate runs an operation as the only one on its machine.
func (d *Machinery) operate(ctx context.Context, op machinery.Op, name string, f func(*vm, context.Context) error) error {
	v, err := d.lookup(ctx, op, name)
	if err != nil {
		return err
	}
	if err := v.refuse(op); err != nil {
		return err
	}
	began := time.Now()
	t, err := v.turns.Take(ctx, op)
	if err != nil {
		return fault.NotMyTurn(op, v.machine.Name, ctx, err)
	}
	defer t.Done()
	waited := time.Since(began)
	err = f(v, t.Context())
	oplog.Done(ctx, v.log, op, began, waited, err)
	return err
}
