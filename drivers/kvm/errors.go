//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/kvm/rpc"
	"github.com/machineries/machineries/machinery"
)

// fail builds the error of an operation on one machine.
func fail(op machinery.Op, name string, kind error, err error, format string, args ...any) *machinery.Error {
	return &machinery.Error{Op: op, Machine: name, Kind: kind, Reason: fmt.Sprintf(format, args...), Err: err}
}

// interrupted is the error of an operation whose context ended: its caller's, or the turn's because of Stop or Close.
func interrupted(op machinery.Op, name string, ctx context.Context, while string) *machinery.Error {
	cause := context.Cause(ctx)
	if errors.Is(cause, turns.ErrStopped) || errors.Is(cause, turns.ErrClosing) {
		return fail(op, name, machinery.ErrInterrupted, nil, "interrupted while %s: %v", while, cause)
	}
	err := ctx.Err()
	if cause != nil && !errors.Is(cause, err) {
		err = errors.Join(err, cause)
	}
	return fail(op, name, machinery.ErrInterrupted, err, "interrupted while %s", while)
}

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
		return interrupted(op, name, ctx, fmt.Sprintf(format, args...))
	case config, gone:
		return fail(op, name, machinery.ErrConfig, err, "the machine cannot be used")
	case unheard(err):
		return fail(op, name, machinery.ErrConnection, err, "libvirt was not heard of while %s", fmt.Sprintf(format, args...))
	}
	return fail(op, name, machinery.ErrHypervisor, err, "libvirt failed while %s", fmt.Sprintf(format, args...))
}

// unheard is whether an error says that libvirt could not be reached, or did not answer.
func unheard(err error) bool {
	return errors.Is(err, rpc.ErrDisconnected) || errors.Is(err, rpc.ErrTimeout)
}

// several is a number of problems as one error on one line.
type several []error

func (s several) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes errors.Is and errors.As see each.
func (s several) Unwrap() []error { return s }

// join is the problems as one error; nil if there is none.
func join(problems []error) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	return several(problems)
}
