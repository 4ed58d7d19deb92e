//go:build linux

package kvm

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/oplog"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// Driver is the driver for a registry: machines from a kvm.yaml.
func Driver() machinery.Driver {
	return machinery.Driver{
		Name:     schema.Name,
		Doc:      "libvirt: domains that are restored from its snapshots or from memory images",
		Schema:   Schema(),
		Template: Template,
		Open: func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			return New(ctx, FromDocument(doc), o)
		},
		Diagnose: Diagnose,
	}
}

// Machinery is the driver at work: machines that are domains of libvirt. It keeps the contract of machinery.Machinery and those of the
// optional operations, and is made by New. It may be embedded in another driver, which overrides some of its methods; its own
// methods do not call each other, so that an override is reached by its callers alone.
type Machinery struct {
	config      Config // with the defaults in place
	runtimeDir  string
	endMachines bool
	log         *slog.Logger

	client     *rpc.Client
	probes     *rpc.Client // for questions that QEMU has to answer, which may take for ever
	hypervisor string      // libvirt's word for it, such as hypervisorQEMU
	libVersion uint64      // libvirt's own version
	remote     string      // the host that libvirt is on; empty for this one

	frame   *frame.Frame[*vm]
	byLabel map[string]*vm // by the domain's name

	hearing atomic.Bool   // libvirt's events arrive
	heard   chan struct{} // closed when they first do, or could not be had
	early   atomic.Bool   // a watched machine was looked at before that
	lookNow chan struct{} // has a token if the patrol is to look at once

	asking sync.WaitGroup // questions to libvirt that nobody may wait for any more; they end with its clients
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

// RestoreStart has libvirt revert the machine's domain to its snapshot, the named one or else the current, and returns when the machine runs, or
// stands still if it was saved so. It takes as long as libvirt's own revert and a few questions. A snapshot that would not
// bring back all that the machine was is ErrConfig, with what to do.
func (d *Machinery) RestoreStart(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpRestoreStart, name, (*vm).restore)
}

// NoRestoreStart boots the machine from its disks as they are. What it writes goes to the disks: a snapshot in them is as it was afterwards, and
// the disks are as the snapshot says after the next restore. A machine with a memory image gets an empty overlay above each of its
// disks instead, so that the image still fits to them.
func (d *Machinery) NoRestoreStart(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpNoRestoreStart, name, (*vm).noRestore)
}

// HandlePaused resumes a machine that stands still because its snapshot was saved so. One that somebody else paused is
// ErrUnexpectedState.
func (d *Machinery) HandlePaused(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpHandlePaused, name, (*vm).handlePaused)
}

// Stop has libvirt destroy the domain, and returns when it is off. libvirt 9.0.0 needs 0.2 s, and 10 s for a QEMU that does not
// answer. A start that is under way is cancelled.
func (d *Machinery) Stop(ctx context.Context, name string) error {
	return d.frame.Stop(ctx, name, (*vm).stop)
}

// State asks libvirt, and has libvirt ask QEMU whether it answers, unless it has just done so. It takes two seconds at most, and less if
// ctx ends sooner; a QEMU that does not answer in that time is in the error state.
func (d *Machinery) State(ctx context.Context, name string) (machinery.Status, error) {
	v, err := d.frame.Lookup(ctx, machinery.OpState, name)
	if err != nil {
		return machinery.Status{}, err
	}
	return v.state(ctx)
}

// Close lets go of the machines, which run on, and ends what this driver does. Operations that run are interrupted. With
// machinery.Options.EndMachines it ends the machines that this driver holds: none is to outlive it.
func (d *Machinery) Close() error {
	return d.frame.Close(func(v *vm) error {
		return v.last(func() error {
			if d.endMachines {
				return v.endRun(context.Background(), machinery.OpClose)
			}
			return nil
		})
	}, d.disconnect)
}

// Shutdown stops the machines that this driver holds, all at once, and then does what Close does. Machines that somebody else
// started and that this driver has not taken over are not its to stop.
func (d *Machinery) Shutdown(ctx context.Context) error {
	return d.frame.Shutdown(ctx, func(v *vm) error {
		return v.last(func() error {
			began := time.Now()
			err := v.endRun(ctx, machinery.OpShutdown)
			if !errors.Is(err, errIsOff) {
				oplog.Done(ctx, v.log, machinery.OpShutdown, began, 0, err)
			}
			return err
		})
	}, d.disconnect)
}

// last does the driver's last work on the machine, if it holds it, and lets go of it.
func (v *vm) last(do func() error) error {
	if v.hold == nil {
		return nil
	}
	err := do()
	v.letGo()
	if errors.Is(err, errIsOff) {
		return nil
	}
	return err
}

// disconnect ends what the driver has of libvirt.
func (d *Machinery) disconnect() error {
	err := errors.Join(d.client.Close(), d.probes.Close())
	d.asking.Wait()
	return err
}
