//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// dumpTime is how long libvirt may be at a dump at most; nobody waits for it that long who has a context that ends.
const dumpTime = 24 * time.Hour

// DumpMemory writes the guest's physical memory to path as an ELF core file, by libvirt's dump of the memory alone. 256 MiB took
// libvirt 9.0.0 with QEMU 7.2 0.4 s.
//
// A running machine stands still meanwhile, which State calls paused, and runs again afterwards. A machine that is paused or broken
// stays so. libvirt writes to a file that this process has made, in a hidden directory beside path, so that it belongs to the caller; it is at
// path, with mode 0600, when all of it is written. A libvirt that runs as another user, but root, cannot write there.
//
// Errors: ErrUnsupported if libvirt is on another host, where the file would be; ErrUnexpectedState if the machine is off or starting; ErrConfig
// if there is something at path, or no file can be made there; ErrHypervisor with libvirt's words if the dump fails, as on a
// full disk; ErrInterrupted if ctx ends or Stop is called. libvirt 9.0.0 cannot give up a dump: the machine goes on when it is done with what
// nobody will see, and until then State says paused. ErrConnection if the daemon ends meanwhile: the next one gives the dump up, and as soon as QEMU
// is done with it the machine goes on, which this driver sees to where libvirt does not.
func (d *Machinery) DumpMemory(ctx context.Context, name, path string) error {
	return d.frame.Operate(ctx, machinery.OpDumpMemory, name, func(v *vm, ctx context.Context) error { return v.dumpMemory(ctx, path) })
}

// dumpMemory is DumpMemory for whoever has the turn.
func (v *vm) dumpMemory(ctx context.Context, path string) (err error) {
	const op = machinery.OpDumpMemory
	if v.d.remote != "" {
		return fault.Fail(op, v.machine.Name, machinery.ErrUnsupported, nil, "libvirt is on %s (%s), and would write the file there; memory can be dumped only where libvirt runs on this host", v.d.remote, v.d.config.URI)
	}
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch {
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "the memory cannot be dumped: the machine is in state %s")
	case off(status) || status.State == machinery.StateStarting:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s, so there is no memory to dump")
	case path == "":
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, nil, "no path is given for the dump")
	}
	if path, err = filepath.Abs(path); err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the memory cannot be dumped to %s", path)
	}
	file, err := newDumped(path)
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the memory cannot be dumped to %s", path)
	}
	defer file.drop()
	v.set(func() { v.doing = phaseDumping })
	defer v.set(func() { v.doing = "" })
	if err := v.dump(ctx, file.temp); err != nil {
		return v.refused(ctx, op, err, "dumping the machine's memory")
	}
	if err := file.publish(ctx); err != nil {
		if ctx.Err() != nil {
			return fault.Interrupted(op, v.machine.Name, ctx, "writing the memory dump to disk")
		}
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the memory was dumped, and the file cannot be completed")
	}
	return nil
}

// dump has libvirt write the memory to a file, and returns when it has, or when ctx ends.
func (v *vm) dump(ctx context.Context, path string) error {
	call, end := context.WithTimeout(v.d.frame.Life(), dumpTime)
	done := make(chan error, 1)
	v.d.asking.Go(func() {
		defer end()
		done <- rpc.RetryLocked(call, func() error {
			return v.doLong(call, "dumping the machine's memory", func(l *libvirt.Libvirt, dom libvirt.Domain) error {
				return l.DomainCoreDumpWithFormat(dom, path, uint32(libvirt.DomainCoreDumpFormatRaw), libvirt.DumpMemoryOnly)
			})
		})
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dumped is the file of a memory dump until it is whole, in a hidden directory of its own.
type dumped struct {
	dir  string
	temp string // its path there
	file *outfile.Target
	own  os.FileInfo // what was made there
}

// newDumped makes the file for a dump to path, at which there must be nothing. It belongs to this process's user, whoever writes to it.
func newDumped(path string) (_ *dumped, err error) {
	if err := outfile.FreePath(path); err != nil {
		return nil, err
	}
	dir, name := filepath.Split(path)
	d := &dumped{}
	if dir == "" {
		dir = "."
	}
	if d.dir, err = os.MkdirTemp(dir, "."+outfile.Shortened(name)+".*.part"); err != nil {
		return nil, err
	}
	d.temp = filepath.Join(d.dir, "memory")
	f, err := os.OpenFile(d.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		d.file = outfile.Of(path, f)
		d.own, err = f.Stat()
	}
	if err != nil {
		d.drop()
		return nil, err
	}
	return d, nil
}

// publish gives the file its name, unless something has it.
func (d *dumped) publish(ctx context.Context) error {
	there, err := os.Lstat(d.temp)
	switch {
	case err != nil:
		return err
	case !os.SameFile(d.own, there):
		return fmt.Errorf("libvirt has put a file of its own in the place of %s", d.temp)
	case there.Size() == 0:
		return errors.New("libvirt has written nothing to it; does it run on another host, or in a container?")
	}
	if err := os.Chmod(d.temp, 0o600); err != nil {
		return err
	}
	if d.file.Late() {
		if err := d.file.Sync(ctx); err != nil {
			return err
		}
	}
	return d.file.Publish()
}

// drop removes what there is of it besides the file at its path. libvirt may still be writing to what then has no name any more.
func (d *dumped) drop() {
	if d.file != nil {
		d.file.Drop()
	}
	_ = os.RemoveAll(d.dir)
}
