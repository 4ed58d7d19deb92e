package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// RetryLocked runs do again while libvirt says that another operation holds the domain ("Timed out during
// operation: cannot acquire state change lock", VIR_ERR_OPERATION_TIMEOUT, 68; libvirt itself waits 30 s for
// the lock before it says so), until ctx ends. Nothing has been done when libvirt says this, so that a
// second attempt is safe. The last error is returned.
func RetryLocked(ctx context.Context, do func() error) error {
	pause := 50 * time.Millisecond
	for {
		err := do()
		if !IsLocked(err) || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		pause = min(2*pause, time.Second)
	}
}

// IsLocked tells whether libvirt refused because another operation holds the domain.
func IsLocked(err error) bool { return IsCode(err, libvirt.ErrOperationTimeout) }

// State is the state of a domain (virDomainState) and the reason (the virDomain…Reason of that state).
type State struct {
	Name   string
	State  libvirt.DomainState
	Reason int32
}

// States asks for the states of domains in one call: of those given, or, if none are, of all. A domain that
// is gone is not among the answers when all are asked for; when it is asked for by name, libvirt refuses the
// whole call with VIR_ERR_NO_DOMAIN.
func (c *Client) States(ctx context.Context, domains ...libvirt.Domain) (map[libvirt.UUID]State, error) {
	var records []libvirt.DomainStatsRecord
	err := c.Do(ctx, "ask for the states of all machines", func(l *libvirt.Libvirt) (err error) {
		records, err = l.ConnectGetAllDomainStats(domains, uint32(libvirt.DomainStatsState), 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	states := make(map[libvirt.UUID]State, len(records))
	for _, r := range records {
		state, ok := Int(r.Params, "state.state")
		reason, too := Int(r.Params, "state.reason")
		if !ok || !too {
			return nil, &Error{What: "ask for the states of all machines", Sent: true,
				Err: fmt.Errorf("libvirt's answer for %s has no state: %w", r.Dom.Name, errors.ErrUnsupported)}
		}
		states[r.Dom.UUID] = State{Name: r.Dom.Name, State: libvirt.DomainState(state), Reason: int32(reason)}
	}
	return states, nil
}

// Int finds a whole number among typed parameters, of whatever width.
func Int(params []libvirt.TypedParam, name string) (int64, bool) {
	for _, p := range params {
		if p.Field != name {
			continue
		}
		switch v := p.Value.I.(type) {
		case int32:
			return int64(v), true
		case uint32:
			return int64(v), true
		case int64:
			return v, true
		case uint64:
			return int64(v), true
		}
	}
	return 0, false
}

// Text finds a text among typed parameters.
func Text(params []libvirt.TypedParam, name string) (string, bool) {
	for _, p := range params {
		if s, ok := p.Value.I.(string); ok && p.Field == name {
			return s, true
		}
	}
	return "", false
}
