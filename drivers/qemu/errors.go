//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/turns"
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

// quotedOutput is how much of what QEMU printed an error quotes: the end of it, in bytes.
const quotedOutput = 2 << 10

// words makes an error of what QEMU itself said; nil if it said nothing.
func words(tail string) error {
	if tail == "" {
		return nil
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1 // NULs and such would take up six characters each wherever it is quoted
		}
		return r
	}, tail)
	if over := len(text) - quotedOutput; over > 0 {
		text = "… " + strings.ToValidUTF8(text[over:], "")
	}
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return errors.New(strings.ReplaceAll(text, "\n", "; "))
}

// asError is err as an *machinery.Error of the operation: as it is if it is one, else of that kind.
func asError(op machinery.Op, name string, kind error, err error) error {
	if err == nil {
		return nil
	}
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	return &machinery.Error{Op: op, Machine: name, Kind: kind, Err: err}
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

// notNil leaves out errors that are nil.
func notNil(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}
