//go:build linux

package qemu

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Point is a moment in the life of an emulator at which a fault can strike.
type Point string

// The points. Which action works at which is in [Effects].
const (
	// PointStart is before anything is done: options unread, no socket, no file.
	PointStart Point = "start"
	// PointGreeting is when a monitor has taken a client and is about to greet it.
	PointGreeting Point = "greeting"
	// PointCommand is when a command was read and before it takes effect.
	PointCommand Point = "command"
	// PointReply is when a command took effect and its reply is about to be sent.
	PointReply Point = "reply"
	// PointEvent is when an event is about to be sent to a client.
	PointEvent Point = "event"
	// PointLoad is when the whole of an incoming state was read and before the
	// machine becomes it.
	PointLoad Point = "load"
	// PointExit is when the emulator has been told to end (quit, a signal, the guest's
	// power off) and before it does.
	PointExit Point = "exit"
)

// Action is what goes wrong.
type Action string

// The actions. Fields of [Fault] that an action does not mention mean nothing to it.
const (
	// Delay waits for Fault.Delay and goes on. At PointCommand and PointReply the
	// monitor stands still meanwhile, as QEMU does while it is busy.
	Delay Action = "delay"
	// Exit ends the emulator with Fault.Code, after Fault.Text was written to stderr.
	Exit Action = "exit"
	// Kill ends the emulator by SIGKILL from itself.
	Kill Action = "kill"
	// Hang does nothing more. At PointStart and PointLoad that is the whole emulator;
	// at the points of a monitor it is this monitor, for good: connections stay open, new ones
	// are taken, nothing is answered. SIGTERM still ends the emulator, unless
	// Fault.Deaf.
	Hang Action = "hang"
	// Drop closes the client's connection.
	Drop Action = "drop"
	// Garbage sends Fault.Text (by default, Fault.Bytes bytes that are no JSON) before
	// what was about to be sent.
	Garbage Action = "garbage"
	// Half sends the first half of what was about to be sent, and then hangs.
	Half Action = "half"
	// Refuse answers a command with an error of class Fault.Class (GenericError by
	// default) and text Fault.Text; the command has no effect at PointCommand, and its full
	// effect at PointReply.
	Refuse Action = "refuse"
	// Pretend answers a command as done, without doing it.
	Pretend Action = "pretend"
	// Swallow does not send the reply or event. A swallowed command takes no effect
	// either.
	Swallow Action = "swallow"
	// Double sends the reply or event twice.
	Double Action = "double"
	// Late sends the reply or event after Fault.Delay, while the monitor goes on with
	// whatever comes.
	Late Action = "late"
	// Flood sends Fault.Bytes (default 100,000) RTC_CHANGE events first, as fast as the
	// client takes them.
	Flood Action = "flood"
	// Noise writes Fault.Bytes bytes (default one MiB) of lines to stderr first, or
	// Fault.Text where that is set.
	Noise Action = "noise"
	// Stay makes the emulator not end: quit is answered, SIGTERM, SIGINT and SIGHUP are
	// ignored, and it goes on as if nothing had been said. Only SIGKILL helps.
	Stay Action = "stay"
)

// Effect says at which points an action works, on the fake emulator and through
// the interposer on a real one.
type Effect struct {
	Action     Action
	Fake, Real []Point
}

// Effects is the whole table. Plan refuses what is not in it. PointLoad is not seen
// from outside of a real emulator: there, delay the events of the load instead.
var Effects = []Effect{
	{Delay, allPoints, points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointExit)},
	{Exit, allPoints, points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointExit)},
	{Kill, allPoints, points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointExit)},
	{Hang, allPoints, points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointExit)},
	{Drop, wirePoints, wirePoints},
	{Garbage, wirePoints, wirePoints},
	{Half, points(PointGreeting, PointReply, PointEvent), points(PointGreeting, PointReply, PointEvent)},
	{Refuse, points(PointCommand, PointReply), points(PointCommand, PointReply)},
	{Pretend, points(PointCommand), points(PointCommand)},
	{Swallow, wirePoints, wirePoints},
	{Double, points(PointGreeting, PointReply, PointEvent), points(PointGreeting, PointReply, PointEvent)},
	{Late, points(PointGreeting, PointReply, PointEvent), points(PointGreeting, PointReply, PointEvent)},
	{Flood, wirePoints, wirePoints},
	{Noise, allPoints, points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointExit)},
	{Stay, points(PointExit), points(PointExit)},
}

var (
	allPoints  = points(PointStart, PointGreeting, PointCommand, PointReply, PointEvent, PointLoad, PointExit)
	wirePoints = points(PointGreeting, PointCommand, PointReply, PointEvent)
)

func points(p ...Point) []Point { return p }

// Fault is one thing that is planned to go wrong.
type Fault struct {
	Point  Point  `json:"point"`
	Action Action `json:"action"`
	// Command is the command's name at PointCommand and PointReply, the event's at
	// PointEvent ("cont", "RESUME"); "" is any. It means nothing elsewhere.
	Command string `json:"command,omitempty"`
	// Text, Class, Code, Delay and Bytes are what the actions say they are.
	Text  string        `json:"text,omitempty"`
	Class string        `json:"class,omitempty"`
	Code  int           `json:"code,omitempty"`
	Delay time.Duration `json:"delay,omitempty"`
	Bytes int           `json:"bytes,omitempty"`
	// Deaf makes the emulator ignore SIGTERM, SIGINT and SIGHUP as well from the moment
	// on at which the fault strikes.
	Deaf bool `json:"deaf,omitempty"`
	// Skip lets the fault pass by that many times before it strikes.
	Skip int `json:"skip,omitempty"`
	// Times is how often it strikes in one emulator; 0 is always.
	Times int `json:"times,omitempty"`
}

// String is the fault in one line, for reports: "command cont: hang".
func (f Fault) String() string {
	s := string(f.Point)
	if f.Command != "" {
		s += " " + f.Command
	}
	s += ": " + string(f.Action)
	if f.Delay > 0 {
		s += " " + f.Delay.String()
	}
	return s
}

// check says what is wrong with a planned fault, for the fake or a real emulator.
func (f Fault) check(real bool) error {
	for _, e := range Effects {
		if e.Action != f.Action {
			continue
		}
		works := e.Fake
		if real {
			works = e.Real
		}
		for _, p := range works {
			if p == f.Point {
				return nil
			}
		}
		return fmt.Errorf("fault %q: action %s does nothing at point %s", f, f.Action, f.Point)
	}
	return fmt.Errorf("fault %q: unknown action", f)
}

// onWire says whether the fault needs someone between client and emulator.
func (f Fault) onWire() bool { return f.Point != PointStart }

// plan is the faults of one emulator, with how often each has struck.
type plan struct {
	mu     sync.Mutex
	faults []*planned
	deaf   bool // a fault at PointStart was to make the emulator so
}

func (p *plan) isDeaf() bool { return p != nil && p.deaf }

type planned struct {
	Fault
	seen, struck int
}

func newPlan(faults []Fault) *plan {
	p := &plan{}
	p.set(faults)
	return p
}

// set replaces the faults; counts start anew.
func (p *plan) set(faults []Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
	for _, f := range faults {
		p.faults = append(p.faults, &planned{Fault: f})
	}
}

// at returns the faults that strike now, in the order in which they were planned.
func (p *plan) at(point Point, name string) []Fault {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var now []Fault
	for _, f := range p.faults {
		if f.Point != point || f.Command != "" && f.Command != name {
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

// floodEvent is what a flood consists of; real QEMU sends it as often as a guest
// sets its clock.
func floodEvent(i int) []byte {
	b, err := json.Marshal(map[string]any{
		"event":     "RTC_CHANGE",
		"data":      map[string]any{"offset": i, "qom-path": "/machine/unattached/device[8]"},
		"timestamp": map[string]any{"seconds": time.Now().Unix(), "microseconds": i % 1_000_000},
	})
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return append(b, "\r\n"...)
}
