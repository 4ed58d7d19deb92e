//go:build linux

package kvm

import (
	"context"
	"errors"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// Version returns the version of the hypervisor that libvirt would start machines with, such as "7.2.22". It is libvirt's own
// version that decides on what it can restore: see [Machinery.LibvirtVersion].
//
// Errors: ErrConnection if libvirt does not answer, ErrDependency if it has no hypervisor.
func (d *Machinery) Version(ctx context.Context) (string, error) {
	return d.askVersion(ctx, (*libvirt.Libvirt).ConnectGetVersion)
}

// LibvirtVersion returns the version of libvirt, such as "9.0.0". The errors are those of Version.
func (d *Machinery) LibvirtVersion(ctx context.Context) (string, error) {
	return d.askVersion(ctx, (*libvirt.Libvirt).ConnectGetLibVersion)
}

func (d *Machinery) askVersion(ctx context.Context, ask func(*libvirt.Libvirt) (uint64, error)) (string, error) {
	const op = machinery.OpVersion
	if err := d.frame.Begin(ctx, op); err != nil {
		return "", err
	}
	found := new(uint64)
	err := d.client.Do(ctx, "asking for the version", func(l *libvirt.Libvirt) (err error) {
		*found, err = ask(l)
		return err
	})
	switch {
	case err == nil:
		return versionText(*found), nil
	case errors.Is(err, rpc.ErrClosed):
		return "", &machinery.Error{Op: op, Kind: machinery.ErrClosed}
	case ctx.Err() != nil:
		return "", fault.Interrupted(op, "", ctx, "asking libvirt for the version")
	case unheard(err):
		return "", fault.Fail(op, "", machinery.ErrConnection, err, "libvirt cannot be asked for the version")
	}
	return "", fault.Fail(op, "", machinery.ErrDependency, err, "libvirt has no hypervisor whose version it could tell")
}
