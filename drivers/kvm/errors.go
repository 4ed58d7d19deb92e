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
// if libvirt was not heard of, ErrConfig for what somebody has to change about the machine, and else ErrHypervisor, with
// libvirt's own words.
func (v *vm) refused(ctx context.Context, op machinery.Op, err error, format string, args ...any) error {
	name := v.machine.Name
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	_, config := errors.AsType[*unusable](err)
	_, gone := errors.AsType[*noDomain](err)
	switch {
	case ctx.Err() != nil && !config && !gone:
		return fault.Interrupted(op, name, ctx, fmt.Sprintf(format, args...))
	case config, gone:
		return fault.Fail(op, name, machinery.ErrConfig, err, "the machine cannot be used")
	case unheard(err):
		return fault.Fail(op, name, machinery.ErrConnection, err, "libvirt was not heard of")
	}
	return fault.Fail(op, name, machinery.ErrHypervisor, err, "libvirt failed")
}

// unheard is whether an error says that libvirt could not be reached, or did not answer.
func unheard(err error) bool {
	return errors.Is(err, rpc.ErrDisconnected) || errors.Is(err, rpc.ErrTimeout)
}
