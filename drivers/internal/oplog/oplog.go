// Package oplog writes the record that every driver logs at the end of an operation.
package oplog

import (
	"context"
	"log/slog"
	"time"

	"github.com/machineries/machineries/machinery"
)

// Done logs that an operation on the machine that log is of has ended, with the keys operation and duration, waited if it had to wait for
// another one, and error if it was not done: at level Info, or Warn for what is wrong with the machine or its host.
func Done(ctx context.Context, log *slog.Logger, op machinery.Op, began time.Time, waited time.Duration, err error) {
	attrs := []any{"operation", string(op), "duration", time.Since(began)}
	if waited > time.Millisecond {
		attrs = append(attrs, "waited", waited)
	}
	level, message := slog.LevelInfo, "operation done"
	if err != nil {
		attrs = append(attrs, "error", err)
		message = "operation not done"
		switch machinery.KindOf(err) {
		case machinery.ErrStateReached, machinery.ErrUnexpectedState, machinery.ErrInterrupted, machinery.ErrBusy:
			// Said to the caller, and nothing is wrong with the machine.
		default:
			level = slog.LevelWarn
		}
	}
	log.Log(ctx, level, message, attrs...)
}
