package machinery

import (
	"context"
	"errors"
	"time"
)

// StopGently presses the machine's power button, gives the guest as long as
// patience to switch itself off, and stops the machine if it has not done so
// by then, as Cuckoo3's manager does after two minutes. forced tells whether
// it came to that. A nil error means that the machine is off.
//
// A guest that breaks down meanwhile, so that the machine gets in the error
// state, is not waited for any longer. The power button is pressed once.
//
// Errors: what [ACPIStop] returns, such as [ErrStateReached] for a machine that
// is off and [ErrUnexpectedState] for one that is paused, which is left alone
// then; of kind [ErrInterrupted] if ctx ends while the guest is waited for: the
// button was pressed, and the machine runs on for as long as its guest
// likes; and what Stop returns.
func StopGently(ctx context.Context, m Machinery, name string, patience time.Duration) (forced bool, err error) {
	if err := ACPIStop(ctx, m, name); err != nil {
		return false, err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err = WaitState(waiting, m, name, StatePoweroff)
	switch {
	case err == nil:
		return false, nil
	case ctx.Err() != nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrClosed):
		return false, err
	}
	if err := m.Stop(ctx, name); !errors.Is(err, ErrStateReached) {
		return true, err
	}
	return false, nil // it went off in the last moment
}
