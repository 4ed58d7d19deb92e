package machinery

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cleanupTime is how long Start gives Stop to clear up after a failed start,
// whatever became of the caller's context.
const cleanupTime = time.Minute

// Start restores the machine, waits until it has settled, resumes it if its
// snapshot was saved paused, and returns when it is running. It is what a
// sandbox does before each analysis.
//
// A machine that was off and does not get to run is off again when Start
// returns its error; the error then is the one that says why, joined with that
// of Stop if the machine could not even be stopped. One that was not off is
// left alone.
func Start(ctx context.Context, m Machinery, name string) error {
	if err := m.RestoreStart(ctx, name); err != nil {
		return err
	}
	err := settle(ctx, m, name)
	if err == nil {
		return nil
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if stopErr := m.Stop(cleanup, name); stopErr != nil && !errors.Is(stopErr, ErrStateReached) {
		return errors.Join(err, fmt.Errorf("stopping the machine again failed too: %w", stopErr))
	}
	return err
}

// strayed are the states in which a guest can be right after it began to run, if
// it had its own idea of that. Nothing leads from them to running that would be
// worth waiting for.
var strayed = []State{StatePoweroff, StateSuspended}

// settle takes a restored machine to running.
func settle(ctx context.Context, m Machinery, name string) error {
	status, err := WaitState(ctx, m, name, append([]State{StateRunning, StatePaused}, strayed...)...)
	if err != nil {
		return err
	}
	if status.State == StatePaused {
		if err := HandlePaused(ctx, m, name); err != nil && !errors.Is(err, ErrStateReached) {
			return err
		}
		if status, err = WaitState(ctx, m, name, append([]State{StateRunning}, strayed...)...); err != nil {
			return err
		}
	}
	if status.State != StateRunning {
		return &Error{Op: OpRestoreStart, Machine: name, Kind: ErrUnexpectedState, Status: status,
			Reason: fmt.Sprintf("the machine is %s instead of running right after it was restored", status)}
	}
	return nil
}
