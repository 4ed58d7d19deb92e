package libvirt

import (
	"context"
	"reflect"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Call is a call that came in.
type Call struct {
	// Procedure is its name as in [Procedures], or its number where it has none
	// here. Domain is the name of the domain that it is about, or empty.
	Procedure, Domain string
	At                time.Time
}

// Calls are the calls that came in since New or ForgetCalls, in their order,
// those that were refused too.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// ForgetCalls empties the list of calls.
func (s *Server) ForgetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// call is one call under way. Its procedure runs with the server locked, and
// unlocks it while it waits.
type call struct {
	*Server
	client *client
	packet packet
	proc   *procedure
	ctx    context.Context
	// after is done when the reply is on its way.
	after func()
}

// holder is what libvirt calls the thread of the call in "held by monitor=...".
func (c *call) holder() string { return "remoteDispatch" + c.proc.Name }

// dispatch answers a call.
func (s *Server) dispatch(cl *client, p packet) {
	proc := findProcedure(p.Program, p.Procedure)
	c := &call{Server: s, client: cl, packet: p, proc: proc, ctx: cl.life.ctx}
	if proc == nil {
		s.record(Call{Procedure: unknownName(p)})
		cl.refuse(p, fail(codeRPC, fromRPC, "unknown procedure: %d", p.Procedure))
		return
	}
	args, err := proc.decode(p.payload)
	if err != nil {
		s.record(Call{Procedure: proc.Name})
		cl.refuse(p, fail(codeRPC, fromRPC, "Unable to decode message payload"))
		return
	}
	name := domainOf(args)
	s.record(Call{Procedure: proc.Name, Domain: name})

	s.mu.Lock()
	d := s.named(name)
	faults := s.faults(PointCall, proc.Name, d)
	s.mu.Unlock()
	ret, cerr, end := c.before(faults, d)
	if end {
		return
	}
	if cerr == nil && ret == nil {
		ret, cerr = c.run(args)
	}
	answer := replyPacket(p, ret)
	if cerr != nil {
		answer = errorPacket(p, asError(cerr, s.opts.Flavour.from()))
	}
	s.mu.Lock()
	faults = s.faults(PointReply, proc.Name, d)
	s.mu.Unlock()
	if c.ctx.Err() == nil && c.deliver(answer, faults) && cerr == nil && c.after != nil {
		c.after()
	}
}

// run carries the call out.
func (c *call) run(args any) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.client.opened && !c.proc.early {
		return nil, errNotOpen()
	}
	return c.proc.run(c, args)
}

// before does what is planned for a call before it takes effect: an answer, an
// error, or the end of it.
func (c *call) before(faults []Fault, d *Domain) (ret any, err error, end bool) {
	for _, f := range faults {
		switch f.Action {
		case Delay:
			if !sleep(c.ctx, f.Delay) {
				return nil, nil, true
			}
		case Refuse:
			return nil, c.refusal(f), false
		case Hang:
			c.client.silence()
			return nil, nil, true
		case Drop:
			c.client.close()
			return nil, nil, true
		case Pretend:
			return c.proc.nothing(), nil, false
		case Flood:
			c.flood(f.Bytes)
		case Gone:
			if d != nil {
				d.Undefine()
			}
		}
	}
	return nil, nil, false
}

func (c *call) refusal(f Fault) *Error {
	e := &Error{Code: f.Code, Domain: f.From, Message: f.Text}
	if e.Code == 0 {
		e.Code = codeInternal
	}
	if e.Domain == 0 {
		e.Domain = c.opts.Flavour.from()
	}
	if e.Message == "" {
		e.Message = prefixes[e.Code] + "a planned fault"
	}
	return e
}

// deliver sends an answer as faults have it; false where it does not go on.
func (c *call) deliver(answer packet, faults []Fault) bool {
	for _, f := range faults {
		switch f.Action {
		case Refuse:
			answer = errorPacket(c.packet, c.refusal(f))
		case Delay:
			if !sleep(c.ctx, f.Delay) {
				return false
			}
		case Flood:
			c.flood(f.Bytes)
		}
	}
	return c.client.spoil(answer, faults)
}

// sleep waits for a duration that a fault or the options name; false where the
// daemon ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) record(c Call) {
	c.At = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// domainOf is the name of the domain that arguments are about.
func domainOf(args any) string {
	v := reflect.ValueOf(args).Elem()
	if v.Kind() != reflect.Struct {
		return ""
	}
	for i := range v.NumField() {
		switch x := v.Field(i).Interface().(type) {
		case golibvirt.Domain:
			return x.Name
		case golibvirt.DomainSnapshot:
			return x.Dom.Name
		}
	}
	return ""
}
