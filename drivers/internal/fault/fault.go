// Package fault builds the errors of drivers, so that all say the same in the same words: what was being done to which machine, which kind
// of error it is (a sentinel of package machinery), and what the hypervisor said.
package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/machinery"
)

// Fail builds the error of an operation on one machine.
func Fail(op machinery.Op, name string, kind error, err error, format string, args ...any) *machinery.Error {
	return &machinery.Error{Op: op, Machine: name, Kind: kind, Reason: fmt.Sprintf(format, args...), Err: err}
}

// WrongState is the error for a machine that is in the wrong state, which it carries. The format's first argument is that state, and args are those
// behind it.
func WrongState(op machinery.Op, name string, kind error, status machinery.Status, format string, args ...any) *machinery.Error {
	e := Fail(op, name, kind, nil, format, append([]any{status}, args...)...)
	e.Status = status
	return e
}

// Interrupted is the error of an operation whose context ended: its caller's, or the turn's because of Stop or Close.
func Interrupted(op machinery.Op, name string, ctx context.Context, while string) *machinery.Error {
	cause := context.Cause(ctx)
	if errors.Is(cause, turns.ErrStopped) || errors.Is(cause, turns.ErrClosing) {
		return Fail(op, name, machinery.ErrInterrupted, nil, "interrupted while %s: %v", while, cause)
	}
	err := ctx.Err()
	if cause != nil && !errors.Is(cause, err) {
		err = errors.Join(err, cause)
	}
	return Fail(op, name, machinery.ErrInterrupted, err, "interrupted while %s", while)
}

// NotMyTurn is the error for an operation that did not get its turn.
func NotMyTurn(op machinery.Op, name string, ctx context.Context, err error) error {
	switch {
	case errors.Is(err, turns.ErrClosing):
		return &machinery.Error{Op: op, Machine: name, Kind: machinery.ErrClosed}
	case errors.Is(err, turns.ErrStuck):
		return Fail(op, name, machinery.ErrHypervisor, nil, "an earlier operation on the machine does not end, though it was cancelled; perhaps it waits for a file system that does not answer")
	}
	return Interrupted(op, name, ctx, "waiting for another operation on the machine")
}

// quotedOutput is how much of what a program printed an error quotes: the end of it, in bytes.
const quotedOutput = 2 << 10

// Words makes an error of what a hypervisor itself said, with its lines on one and no more than the end of it; nil if it said nothing.
func Words(tail string) error {
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

// AsError is err as an *machinery.Error of the operation: as it is if it is one, else of that kind.
func AsError(op machinery.Op, name string, kind error, err error) error {
	if err == nil {
		return nil
	}
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	return &machinery.Error{Op: op, Machine: name, Kind: kind, Err: err}
}

// Several is a number of problems as one error on one line.
type Several []error

func (s Several) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes errors.Is and errors.As see each.
func (s Several) Unwrap() []error { return s }

// Join is the problems as one error; nil if there is none.
func Join(problems []error) error {
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	return Several(problems)
}

// Add is problem beside those that there are already; nil is none.
func Add(already, problem error) error {
	if already == nil {
		return problem
	}
	return Several{already, problem}
}

// NotNil leaves out errors that are nil.
func NotNil(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}
