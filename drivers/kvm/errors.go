//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// refused is the error of an operation for which libvirt was called: of kind ErrInterrupted if the context ended, ErrConnection
// if libvirt was not heard of, ErrClosed if the driver was closed meanwhile, ErrConfig for what somebody has to change about the machine, and else ErrHypervisor, with
// libvirt's own words, or with what this program could not do itself.
func (v *vm) refused(ctx context.Context, op machinery.Op, err error, format string, args ...any) error {
	name := v.machine.Name
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	if errors.Is(err, rpc.ErrClosed) {
		return &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrClosed}
	}
	_, said := errors.AsType[*rpc.Error](err)
	_, config := errors.AsType[*unusable](err)
	_, gone := errors.AsType[*noDomain](err)
	switch {
	case ctx.Err() != nil && !config && !gone:
		return fault.Interrupted(op, name, ctx, fmt.Sprintf(format, args...))
	case config, gone:
		return fault.Fail(op, name, machinery.ErrConfig, v.whoMayNot(ctx, err), "the machine cannot be used")
	case unheard(err):
		return fault.Fail(op, name, machinery.ErrConnection, err, "libvirt was not heard of")
	}
	if !said {
		return fault.Fail(op, name, machinery.ErrHypervisor, v.whoMayNot(ctx, err), "failed while "+format, args...)
	}
	return fault.Fail(op, name, machinery.ErrHypervisor, v.whoMayNot(ctx, err), "libvirt failed")
}

// unheard is whether an error says that libvirt could not be reached, or did not answer.
func unheard(err error) bool {
	return errors.Is(err, rpc.ErrDisconnected) || errors.Is(err, rpc.ErrTimeout)
}
