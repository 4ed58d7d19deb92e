package monitor

import (
	"context"
	"errors"
	"fmt"
)

// The ways in which a connection ends, and the reasons for which a command is not carried out. They are
// matched with errors.Is; the errors that this package returns say more.
var (
	// ErrClosed is the end of a connection by Close.
	ErrClosed = errors.New("the monitor connection was closed here")

	// ErrDisconnected is the end of a connection by QEMU: end of file, or "connection reset", which
	// QEMU causes when it exits with input unread. Both are usual ends of a QEMU that quits (seen on
	// 7.2.22). Where the connection broke inside a message the error also matches io.ErrUnexpectedEOF.
	ErrDisconnected = errors.New("QEMU closed the monitor connection")

	// ErrQuit is an ErrDisconnected that was asked for: a quit command was sent before it.
	ErrQuit = fmt.Errorf("%w after it was told to quit", ErrDisconnected)

	// ErrProtocol is the end of a connection over which something came that QMP does not allow.
	ErrProtocol = errors.New("the monitor connection broke the QMP protocol")

	// ErrNotSent says that no byte of the command was sent, so QEMU cannot be carrying it out. An error
	// of a command that does not match it leaves open whether QEMU does.
	ErrNotSent = errors.New("the command was not sent")

	// ErrStalled is the refusal of a command because too many earlier ones have no answer yet.
	ErrStalled = errors.New("QEMU has stopped answering")
)

// The error classes that QEMU gives to a refused command. QEMU advises to tell errors apart by class
// only where the class is one of the special ones; nearly everything is ClassGeneric, told apart by text.
const (
	ClassGeneric         = "GenericError"
	ClassCommandNotFound = "CommandNotFound"
	ClassDeviceNotActive = "DeviceNotActive"
	ClassDeviceNotFound  = "DeviceNotFound"
	ClassKVMMissingCap   = "KVMMissingCap"
)

// CommandError is QEMU's refusal of a command. The connection lives on.
type CommandError struct {
	Command string // name of the command, such as "cont"
	Class   string // QEMU's error class, such as ClassGeneric
	Desc    string // QEMU's own words
}

// Error names the command, the class and QEMU's words.
func (e *CommandError) Error() string {
	return fmt.Sprintf("QEMU refused %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// contextError tells why ctx ended. It matches ctx.Err and, where one was given, the cause.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(cause, err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
