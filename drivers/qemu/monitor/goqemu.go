package monitor

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/digitalocean/go-qemu/qmp"
)

// bound is a Monitor as go-qemu's qmp.Monitor, whose methods take no context.
type bound struct {
	m   *Monitor
	ctx context.Context
}

// WithContext is the Monitor in the form that github.com/digitalocean/go-qemu wants, so that the typed commands of its
// package qmp/raw work on it. Everything done through it ends with ctx.
//
//   - Connect does nothing on a connection that lives, and returns Err on one that has ended.
//   - Disconnect is Close: it ends the connection for everybody.
//   - Run takes a whole command as JSON and returns the whole answer, under the caller's own id if the command
//     has one. Members other than execute, arguments and id are refused. Errors are those of Execute.
//   - Events is Monitor.Events, without a sign of events missed, for which go-qemu's type has no place.
func (m *Monitor) WithContext(ctx context.Context) qmp.Monitor {
	return &bound{m: m, ctx: ctx}
}

// Connect is nil if the connection lives, else its end.
func (b *bound) Connect() error { return b.m.Err() }

// Disconnect closes the connection.
func (b *bound) Disconnect() error { return b.m.Close() }

// Run runs a command given as JSON.
func (b *bound) Run(command []byte) ([]byte, error) {
	name, args, id, err := splitCommand(command)
	if err != nil {
		return nil, fmt.Errorf("%w: a command cannot be read: %w: %s", ErrNotSent, err, excerpt(command))
	}
	answer, err := b.m.roundTrip(b.ctx, name, args, nil)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(`{"return":,"id":}`)+len(answer)+len(id))
	out = append(out, `{"return":`...)
	out = append(out, answer...)
	if id != nil {
		out = append(out, `,"id":`...)
		out = append(out, id...)
	}
	return append(out, '}'), nil
}

// Events delivers events until ctx or the context of WithContext ends.
func (b *bound) Events(ctx context.Context) (<-chan qmp.Event, error) {
	if err := b.m.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(b.ctx, cancel)
	events := b.m.Events(ctx)
	out := make(chan qmp.Event)
	convert := func() {
		defer close(out)
		defer cancel()
		defer stop()
		for e := range events {
			select {
			case out <- e.goQEMU():
			case <-ctx.Done():
				return
			case <-b.m.closing:
				return
			}
		}
	}
	if !b.m.start(convert) {
		stop()
		cancel()
		return nil, ErrClosed
	}
	return out, nil
}

// goQEMU is the event in go-qemu's type.
func (e Event) goQEMU() qmp.Event {
	out := qmp.Event{Event: e.Name}
	if e.Data != nil {
		// Data is a valid JSON object, so this cannot fail.
		_ = json.Unmarshal(e.Data, &out.Data)
	}
	if !e.Time.IsZero() {
		out.Timestamp.Seconds = e.Time.Unix()
		out.Timestamp.Microseconds = int64(e.Time.Nanosecond()) / 1000
	}
	return out
}
