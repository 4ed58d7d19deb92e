package machinery

import (
	"context"
	"time"
)

// Accountant is a driver that can account for all that runs and all that is
// left where it keeps what belongs to machines, whoever started it: another
// program, one that died, a configuration that has been changed or deleted
// since. It is for people who clear up, and not one of the operations that a
// sandbox needs: it is no [Capability], and conformance does not ask for it.
type Accountant interface {
	// Account lists the runs that there are, and changes nothing.
	Account(ctx context.Context) ([]Run, error)
	// Sweep removes what is left of a run, by its ID. With end it ends a
	// machine before that which runs and which nobody holds.
	// Errors: [ErrBusy] if a driver holds it, [ErrUnexpectedState] if it runs
	// and end is not set, or if it cannot be told whose it is, [ErrNotFound] if
	// there is no such run (any more).
	Sweep(ctx context.Context, id string, end bool) error
}

// Run is one run of a machine that goes on, or what is left of one.
type Run struct {
	// ID means this run to the driver that listed it.
	ID string `json:"id"`
	// Machine is the machine's name; empty if nothing tells it.
	Machine string `json:"machine,omitempty"`
	// Configured is set if the machine is one of the driver's own: if not, its
	// configuration was changed or is another one.
	Configured bool `json:"configured"`
	// Status is that of a run that goes on; of one that is over, it is
	// poweroff.
	Status Status `json:"status"`
	// PID is the hypervisor's process for the machine; 0 if there is none.
	PID int `json:"pid,omitempty"`
	// Held is set while a driver has the machine. Owner is its process, or 0
	// if that cannot be told. Of a machine that nobody holds, Owner is the
	// process that had it last.
	Held  bool `json:"held"`
	Owner int  `json:"owner,omitempty"`
	// Since is when the run began; when it was last written of, if it is over.
	Since time.Time `json:"since,omitzero"`
	// Files are the paths that Sweep removes.
	Files []string `json:"files,omitempty"`
	// Problem says why Sweep would leave it alone; empty if it would not.
	Problem string `json:"problem,omitempty"`
	// Left says why this is left over: nobody holds it and nothing runs. It
	// is empty for a run that goes on.
	Left string `json:"left,omitempty"`
}

// OpAccount and OpSweep are the operations of an [Accountant], for errors.
const (
	OpAccount Op = "account"
	OpSweep   Op = "sweep"
)

// Account lists what runs and what is left; see [Accountant]. The error
// matches [ErrUnsupported] if the driver cannot tell.
func Account(ctx context.Context, m Machinery) ([]Run, error) {
	if d, ok := m.(Accountant); ok {
		return d.Account(ctx)
	}
	return nil, Unsupported(OpAccount, "")
}

// Sweep removes what is left of a run; see [Accountant]. The error matches
// [ErrUnsupported] if the driver cannot do that.
func Sweep(ctx context.Context, m Machinery, id string, end bool) error {
	if d, ok := m.(Accountant); ok {
		return d.Sweep(ctx, id, end)
	}
	return Unsupported(OpSweep, "")
}
