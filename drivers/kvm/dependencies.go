//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// oldestLibvirt is the oldest version of libvirt that the driver is made for: 7.0.0, of January 2021. Tried is 9.0.0.
const oldestLibvirt = 7_000_000

// CheckDependencies is whether the host has what the driver needs to start machines: a libvirt that answers, of version 7.0 or later,
// with a hypervisor; the runtime directory, closed to others; directories for disposable disks, writable, if machines have a memory
// image; tcpdump, if traffic is to be recorded by it and libvirt is on this host.
//
// The error is of kind ErrDependency and names all that is missing.
func (d *Machinery) CheckDependencies(ctx context.Context) error {
	const op = machinery.OpDependencies
	if err := d.frame.Begin(ctx, op); err != nil {
		return err
	}
	var missing []error
	note := func(err error, what string) {
		if err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", what, err))
		}
	}
	answer := d.checkLibvirt(ctx)
	if errors.Is(answer, rpc.ErrClosed) {
		return &machinery.Error{Op: op, Kind: machinery.ErrClosed}
	}
	note(answer, "libvirt cannot be used")
	if ctx.Err() != nil {
		return fault.Interrupted(op, "", ctx, "asking libvirt for the version")
	}
	note(errors.Join(rundir.CheckPrivate(d.runtimeDir), outfile.WritableDir(d.runtimeDir)), "the runtime directory "+d.runtimeDir+" cannot be used")
	for _, dir := range d.overlayDirs() {
		note(outfile.WritableDir(dir), "no disposable disks can be made")
	}
	if d.config.Capture == CaptureTcpdump && d.remote == "" {
		note(hostfile.CheckProgram(d.config.Tcpdump), "traffic cannot be recorded by tcpdump (on Debian and Ubuntu: apt-get install tcpdump)")
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.Fail(op, "", machinery.ErrDependency, fault.Join(missing), "the machines cannot be started on this host")
}

// checkLibvirt is whether libvirt answers, is recent enough and has a hypervisor.
func (d *Machinery) checkLibvirt(ctx context.Context) error {
	own := new(uint64)
	err := d.client.Do(ctx, "asking for the version", func(l *libvirt.Libvirt) (err error) {
		if *own, err = l.ConnectGetLibVersion(); err == nil {
			_, err = l.ConnectGetVersion()
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case *own < oldestLibvirt:
		return fmt.Errorf("it is of version %s, and %s or later is needed", versionText(*own), versionText(oldestLibvirt))
	}
	return nil
}

// overlayDirs are the directories for disposable disks, as far as they are known without libvirt.
func (d *Machinery) overlayDirs() []string {
	if d.config.DisposableDir == "" || !slices.ContainsFunc(d.frame.All(), func(v *vm) bool { return v.conf.Memory != "" }) {
		return nil
	}
	return []string{d.config.DisposableDir}
}
