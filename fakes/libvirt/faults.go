package libvirt

import (
	"fmt"
	"slices"
	"time"
)

// Point is a moment at which a fault can strike.
type Point string

// The points. Which action works at which is in [Effects].
const (
	// PointCall is when a call was read and before it takes effect.
	PointCall Point = "call"
	// PointReply is when a call took effect and its reply is about to be sent.
	PointReply Point = "reply"
	// PointEvent is when an event is about to be sent to a client.
	PointEvent Point = "event"
	// PointMachine is when the hypervisor of a machine is to do something; what
	// is in Fault.Procedure: "start", "load" (saved memory), "save", "cont", "stop", "dump",
	// "quit", "screendump", "system_powerdown", "system_reset".
	PointMachine Point = "machine"
)

// Action is what goes wrong.
type Action string

// The actions. Fields of [Fault] that an action does not mention mean nothing to it.
const (
	// Delay waits for Fault.Delay and goes on.
	Delay Action = "delay"
	// Refuse answers a call with an error of Fault.Code and Fault.From (by default "internal error" of the
	// driver) with Fault.Text as its whole text; at PointReply the call has had its full
	// effect. A machine's hypervisor refuses in its own words, which libvirt puts its own before.
	Refuse Action = "refuse"
	// Hang does nothing more: at a wire's point the connection stays open, and nothing
	// more comes over it; at PointMachine the hypervisor answers no more, until the
	// machine is destroyed.
	Hang Action = "hang"
	// Kill ends the hypervisor as SIGKILL does.
	Kill Action = "kill"
	// Stay makes the hypervisor not end when asked to; it has to be killed.
	Stay Action = "stay"
	// Drop closes the client's connection.
	Drop Action = "drop"
	// Pretend answers a call as done, without doing it.
	Pretend Action = "pretend"
	// Swallow does not send the reply or event.
	Swallow Action = "swallow"
	// Double sends the reply or event twice.
	Double Action = "double"
	// Late sends the reply or event after Fault.Delay, while others go on.
	Late Action = "late"
	// Half sends the first half of the reply or event, and then nothing more.
	Half Action = "half"
	// Garbage sends Fault.Bytes (by default 64) bytes that are no packet instead of the reply or event.
	Garbage Action = "garbage"
	// BadLength sends the reply or event with Fault.Bytes as its length.
	BadLength Action = "bad length"
	// Stranger sends a reply to a serial number that nobody used, and then the
	// reply.
	Stranger Action = "stranger"
	// Flood sends Fault.Bytes (default 10,000) lifecycle events first, to every
	// client that is registered for them.
	Flood Action = "flood"
	// Gone undefines the call's domain, with its snapshots, before the call takes
	// effect. A machine that runs is ended.
	Gone Action = "gone"
)

// Effect says at which points an action works.
type Effect struct {
	Action Action
	Points []Point
}

// Effects is the whole table. Plan refuses what is not in it.
var Effects = []Effect{
	{Delay, []Point{PointCall, PointReply, PointEvent, PointMachine}},
	{Refuse, []Point{PointCall, PointReply, PointMachine}},
	{Hang, []Point{PointCall, PointReply, PointEvent, PointMachine}},
	{Kill, []Point{PointMachine}},
	{Stay, []Point{PointMachine}},
	{Drop, []Point{PointCall, PointReply, PointEvent}},
	{Pretend, []Point{PointCall}},
	{Swallow, []Point{PointReply, PointEvent}},
	{Double, []Point{PointReply, PointEvent}},
	{Late, []Point{PointReply, PointEvent}},
	{Half, []Point{PointReply, PointEvent}},
	{Garbage, []Point{PointReply, PointEvent}},
	{BadLength, []Point{PointReply, PointEvent}},
	{Stranger, []Point{PointReply}},
	{Flood, []Point{PointCall, PointReply}},
	{Gone, []Point{PointCall}},
}

// Fault is one thing that is planned to go wrong.
type Fault struct {
	Point  Point
	Action Action
	// Procedure is the procedure's name as in [Procedures] ("DomainCreateWithFlags"), an event's ("Lifecycle"),
	// or what a machine's hypervisor is to do ("start"); "" is any.
	Procedure string
	// Text, Code, From, Delay and Bytes are what the actions say they are.
	Text       string
	Code, From int32
	Delay      time.Duration
	Bytes      int
	// Skip lets the fault pass by that many times before it strikes.
	Skip int
	// Times is how often it strikes; 0 is always.
	Times int
}

// String is the fault in one line, for reports: "call DomainCreate: hang".
func (f Fault) String() string {
	s := string(f.Point)
	if f.Procedure != "" {
		s += " " + f.Procedure
	}
	s += ": " + string(f.Action)
	if f.Delay > 0 {
		s += " " + f.Delay.String()
	}
	return s
}

func (f Fault) check() error {
	for _, e := range Effects {
		if e.Action == f.Action {
			if slices.Contains(e.Points, f.Point) {
				return nil
			}
			return fmt.Errorf("fault %q: action %s does nothing at point %s", f, f.Action, f.Point)
		}
	}
	return fmt.Errorf("fault %q: unknown action", f)
}

// plan is faults with how often each has struck.
type plan []*planned

type planned struct {
	Fault
	seen, struck int
}

// newPlan checks faults and makes a plan of them.
func newPlan(faults []Fault) (plan, error) {
	var p plan
	for _, f := range faults {
		if err := f.check(); err != nil {
			return nil, err
		}
		p = append(p, &planned{Fault: f})
	}
	return p, nil
}

// at returns the faults that strike now, in the order in which they were planned.
func (p plan) at(point Point, name string) []Fault {
	var now []Fault
	for _, f := range p {
		if f.Point != point || f.Procedure != "" && f.Procedure != name {
			continue
		}
		f.seen++
		if f.seen <= f.Skip || f.Times > 0 && f.struck >= f.Times {
			continue
		}
		f.struck++
		now = append(now, f.Fault)
	}
	return now
}

// Plan replaces what is planned to go wrong with the daemon as a whole. Faults
// at PointMachine strike every machine.
func (s *Server) Plan(faults ...Fault) error {
	p, err := newPlan(faults)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = p
	return nil
}

// Plan replaces what is planned to go wrong with this domain: calls about it,
// their replies, events of it, its hypervisor.
func (d *Domain) Plan(faults ...Fault) error {
	p, err := newPlan(faults)
	if err != nil {
		return err
	}
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	d.plan = p
	return nil
}

// faults returns what strikes now. The server is locked.
func (s *Server) faults(point Point, name string, d *Domain) []Fault {
	now := s.plan.at(point, name)
	if d != nil {
		now = append(now, d.plan.at(point, name)...)
	}
	return now
}
