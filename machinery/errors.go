package machinery

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of failure. Every [*Error] is of exactly one; test for it with
// [errors.Is], or with [KindOf] where a cause must not count. The comment names
// the class of Cuckoo3 that it corresponds to.
var (
	// ErrNotFound: no machine, or no driver, has that name.
	// (MachineNotFoundError)
	ErrNotFound = errors.New("no such machine")
	// ErrUnexpectedState: the operation is not possible in the machine's
	// present state; nothing was touched. (MachineUnexpectedStateError)
	ErrUnexpectedState = errors.New("not possible in this state")
	// ErrStateReached: the machine is already where the operation leads; a
	// caller may treat it as success. (MachineStateReachedError)
	ErrStateReached = errors.New("already in that state")
	// ErrUnhandledState: the hypervisor reports a state that the driver has no
	// meaning for. (MachineryUnhandledStateError)
	ErrUnhandledState = errors.New("the hypervisor is in a state that is not handled")
	// ErrBusy: another process or driver holds the machine. (no class of its
	// own in Cuckoo3: MachineryError)
	ErrBusy = errors.New("busy")
	// ErrConnection: the hypervisor cannot be reached, or the connection to it
	// broke. Trying again may help. (MachineryConnectionError)
	ErrConnection = errors.New("no connection to the hypervisor")
	// ErrDependency: a program, a version or a right that the driver needs is
	// missing. (MachineryDependencyError)
	ErrDependency = errors.New("missing dependency")
	// ErrConfig: the configuration, or a file that it names, is wrong.
	// (no class of its own in Cuckoo3: MachineryError)
	ErrConfig = errors.New("wrong configuration")
	// ErrCapture: the network capture failed. (MachineNetCaptureError)
	ErrCapture = errors.New("network capture failed")
	// ErrHypervisor: the hypervisor refused the operation or failed in it; the
	// error carries its own words. (MachineryError)
	ErrHypervisor = errors.New("the hypervisor failed")
	// ErrInterrupted: the operation was ended before it was done, by its
	// context, by Stop or by Close. Where it was the context, the error also
	// matches [context.Canceled] or [context.DeadlineExceeded].
	ErrInterrupted = errors.New("interrupted")
	// ErrClosed: the driver has been closed.
	ErrClosed = errors.New("the driver is closed")
	// ErrUnsupported: the driver does not have the operation. It is
	// [errors.ErrUnsupported] itself. (NotImplementedError)
	ErrUnsupported = errors.ErrUnsupported
)

// Kinds returns every kind of failure, in the order of their documentation.
func Kinds() []error {
	return []error{ErrNotFound, ErrUnexpectedState, ErrStateReached, ErrUnhandledState, ErrBusy, ErrConnection,
		ErrDependency, ErrConfig, ErrCapture, ErrHypervisor, ErrInterrupted, ErrClosed, ErrUnsupported}
}

// Op names an operation, in the words that Cuckoo3 uses for it.
type Op string

// The operations of the contract.
const (
	OpOpen           Op = "open"
	OpRestoreStart   Op = "restore_start"
	OpNoRestoreStart Op = "norestore_start"
	OpStop           Op = "stop"
	OpACPIStop       Op = "acpi_stop"
	OpState          Op = "state"
	OpDumpMemory     Op = "dump_memory"
	OpHandlePaused   Op = "handle_paused"
	OpScreenshot     Op = "screenshot"
	OpVersion        Op = "version"
	OpDependencies   Op = "verify_dependencies"
	OpStartCapture   Op = "start_netcapture"
	OpStopCapture    Op = "stop_netcapture"
	OpWatch          Op = "watch"
	OpWait           Op = "wait_state"
	OpWaitReady      Op = "wait_ready"
	OpShutdown       Op = "shutdown"
	OpClose          Op = "close"
)

// Error is the error that every operation returns.
type Error struct {
	// Op is the operation that failed.
	Op Op
	// Machine is the machine's name; empty where the failure is the driver's
	// as a whole.
	Machine string
	// Kind is the one of [Kinds] that this failure is of.
	Kind error
	// Status is the machine's status at the failure, if it was known.
	Status Status
	// Reason says in a sentence what was seen and, where there is something,
	// what to do.
	Reason string
	// Err is the cause, if there is one; it may hold the hypervisor's own
	// words.
	Err error
}

// Error returns one sentence: the operation, the machine, what was seen and
// the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Op))
	if e.Machine != "" {
		fmt.Fprintf(&b, " %q", e.Machine)
	}
	b.WriteString(": ")
	switch {
	case e.Reason != "":
		b.WriteString(e.Reason)
	case e.Kind != nil:
		b.WriteString(e.Kind.Error())
	default:
		b.WriteString("failed")
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap makes [errors.Is] and [errors.As] see both the kind and the cause.
func (e *Error) Unwrap() []error {
	switch {
	case e.Kind == nil && e.Err == nil:
		return nil
	case e.Err == nil:
		return []error{e.Kind}
	case e.Kind == nil:
		return []error{e.Err}
	}
	return []error{e.Kind, e.Err}
}

// KindOf returns the kind of err: that of the outermost [*Error] in it, or the
// first of [Kinds] that it matches, or nil.
func KindOf(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Kind != nil {
		return e.Kind
	}
	for _, kind := range Kinds() {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}

// NotFound returns the error for a name that no machine has. It lists the
// known names, so that a typing mistake is seen at once.
func NotFound(op Op, name string, known []Machine) *Error {
	reason := fmt.Sprintf("there is no machine of this name; the configuration has %s", quoteList(Names(known)))
	if len(known) == 0 {
		reason = "there is no machine of this name; the configuration has none at all"
	}
	return &Error{Op: op, Machine: name, Kind: ErrNotFound, Reason: reason}
}

// Unsupported returns the error for an operation that a driver does not have.
func Unsupported(op Op, name string) *Error {
	return &Error{Op: op, Machine: name, Kind: ErrUnsupported, Reason: "this driver does not support the operation"}
}

// listed is how many names an error lists before it says how many more there
// are.
const listed = 20

func quoteList(names []string) string {
	quoted := make([]string, 0, len(names))
	for i, name := range names {
		if i == listed {
			return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), len(names)-listed)
		}
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	return strings.Join(quoted, ", ")
}
