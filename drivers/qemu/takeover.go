//go:build linux

package qemu

import (
	"context"
	"errors"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/machinery"
)

// takeOver makes a machine that another driver left running this driver's own, if there is one, and returns its status. leave has
// to be called with the operation's error: a machine that the operation could not be done on is left as it was found. Whoever has
// the turn calls takeOver.
func (v *vm) takeOver(ctx context.Context, op machinery.Op) (status machinery.Status, leave func(error), err error) {
	leave = func(error) {}
	if v.run == nil && !v.untouched() {
		if err := v.adopt(ctx, op); err != nil && !errors.Is(err, errNothingLeft) {
			return status, leave, err
		}
		leave = func(err error) {
			if err != nil {
				v.detach()
			}
		}
	}
	if status, err = v.state(ctx); err == nil && v.run != nil && status.Reason != reasonNoAnswer && v.run.dumpIsLeft() {
		if err := v.run.awaitLeftDump(ctx, op); err != nil {
			leave(err)
			return status, func(error) {}, err
		}
		status, err = v.state(ctx)
	}
	if err != nil {
		err = fault.Fail(op, v.machine.Name, machinery.KindOf(err), err, "the operation cannot be done without knowing the machine's state")
		leave(err)
		return status, func(error) {}, err
	}
	return status, leave, nil
}

// wrongState is the error for a machine that is in the wrong state. The format's first argument is that state.
func (v *vm) wrongState(op machinery.Op, kind error, status machinery.Status, format string, args ...any) error {
	return fault.WrongState(op, v.machine.Name, kind, status, format, args...)
}
