package rpc

import (
	"context"
	"encoding/binary"
	"errors"

	libvirt "github.com/digitalocean/go-libvirt"
)

// procDomainGetState is REMOTE_PROC_DOMAIN_GET_STATE (remote_protocol.x).
const procDomainGetState = 212

// State asks for a domain's state (virDomainState) and the reason for it: what is asked by far the most often, and so without the library and
// the goroutine and the copies that it takes. In all else it is [Client.Do].
func (c *Client) State(ctx context.Context, what string, dom libvirt.Domain) (state, reason int32, err error) {
	err = c.do(ctx, what, c.short, c.o.CallTimeout, func(ctx context.Context, s *seat) (*use, error) {
		answer, u, err := s.call(ctx, procDomainGetState, stateArguments(dom))
		if err == nil { // and its length was checked
			state, reason = int32(binary.BigEndian.Uint32(answer)), int32(binary.BigEndian.Uint32(answer[4:]))
		}
		return u, err
	})
	return state, reason, err
}

// stateArguments are a domain (its name, its UUID, its id) and flags, of which there are none.
func stateArguments(dom libvirt.Domain) []byte {
	b := appendText(make([]byte, 0, 64), dom.Name)
	b = append(b, dom.UUID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(dom.ID))
	return binary.BigEndian.AppendUint32(b, 0)
}

// call makes a call without the library.
func (s *seat) call(ctx context.Context, number uint32, payload []byte) ([]byte, *use, error) {
	procedure := lookup(remoteProgram, number)
	answer, sent, err := s.conn.call(ctx, number, payload)
	u := &use{sent: sent, changing: sent && !procedure.readOnly(), procedure: procedure.name}
	failure, refused := errors.AsType[*remoteError](err)
	switch {
	case err == nil:
	case refused:
		u.failure, err = failure, libvirt.Error{Code: uint32(failure.code), Message: failure.message}
	case s.pool.c.ctx.Err() != nil && errors.Is(err, ErrClosed):
		err = closedError("waiting for the answer to " + u.procedure)
	case ctx.Err() != nil && !s.conn.ended():
		s.conn.suspect(s.pool.c.o.Probe)
	}
	return answer, u, err
}
