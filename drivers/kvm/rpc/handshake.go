package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The ways of authentication that libvirt knows (remote_auth_type).
const (
	authNone   = 0
	authSASL   = 1
	authPolkit = 2
)

// open makes a connection to the daemon: dial, authenticate, open the driver.
func open(ctx context.Context, t *target, onEvent func(*packet), onFree func()) (*conn, error) {
	nc, err := t.dial(ctx)
	if err != nil {
		return nil, &broken{err}
	}
	c := newConn(nc, onEvent, onFree)
	if err := c.handshake(ctx, t); err != nil {
		c.fail(err)
		<-c.reader
		return nil, err
	}
	return c, nil
}

func (c *conn) handshake(ctx context.Context, t *target) error {
	list, _, err := c.call(ctx, procAuthList, nil)
	if err != nil {
		return t.explain(err)
	}
	// The payload was checked: a count, then that many numbers.
	var ways []int
	for b := list[4:]; len(b) > 0; b = b[4:] {
		ways = append(ways, int(binary.BigEndian.Uint32(b)))
	}
	switch {
	case slices.Contains(ways, authNone) || len(ways) == 0:
	case slices.Contains(ways, authPolkit):
		if _, _, err := c.call(ctx, procAuthPolkit, nil); err != nil {
			return t.explain(err)
		}
	default:
		return &broken{fmt.Errorf("%w: %s asks for authentication of type %v (%d is SASL), which is not supported; "+
			"set auth_unix_rw (or auth_tcp, auth_tls) to \"none\" or \"polkit\" in the daemon's configuration", ErrUnauthorised, t.where, ways, authSASL)}
	}
	payload := appendText(binary.BigEndian.AppendUint32(nil, 1), t.name)
	payload = binary.BigEndian.AppendUint32(payload, 0)
	if _, _, err := c.call(ctx, procConnectOpen, payload); err != nil {
		return t.explain(err)
	}
	return nil
}

// explain adds to the error of a handshake what a person can do about it.
func (t *target) explain(err error) error {
	var answer *remoteError
	if !errors.As(err, &answer) {
		return fmt.Errorf("cannot open %s at %s: %w", t.name, t.where, err)
	}
	switch answer.code {
	case 45, 60, 79, 88: // auth failed, SASL, auth cancelled, access denied
		return &broken{fmt.Errorf("%w: %s (at %s); add the user to the libvirt group, or to a polkit rule: %w", ErrUnauthorised, answer.message, t.where, err)}
	}
	hint := "does this daemon have that driver?"
	if strings.Contains(answer.message, "session") || strings.Contains(answer.message, "system") {
		hint = "a daemon of a user serves …:///session, one of the system …:///system"
	}
	return &broken{fmt.Errorf("the daemon at %s does not open %q (%s): %w", t.where, t.name, hint, err)}
}
