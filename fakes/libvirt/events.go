package libvirt

import (
	"reflect"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// Lifecycle events (VIR_DOMAIN_EVENT_).
const (
	eventDefined     = 0
	eventUndefined   = 1
	eventStarted     = 2
	eventSuspended   = 3
	eventResumed     = 4
	eventStopped     = 5
	eventShutdown    = 6
	eventPMSuspended = 7
)

// Details of lifecycle events.
const (
	definedFromSnapshot = 3

	startedBooted       = 0
	startedRestored     = 2
	startedFromSnapshot = 3

	suspendedPaused       = 0
	suspendedIOError      = 2
	suspendedRestored     = 4
	suspendedFromSnapshot = 5

	resumedUnpaused     = 0
	resumedFromSnapshot = 2 // from a memory image too

	stoppedShutdown     = 0
	stoppedDestroyed    = 1
	stoppedSaved        = 4
	stoppedFailed       = 5
	stoppedFromSnapshot = 6

	shutdownGuest = 1
	shutdownHost  = 2
)

// callback is a client's registration for events of a kind.
type callback struct {
	id, kind int32
	domain   *golibvirt.UUID // nil for all domains
	old      bool            // registered by the procedure of before libvirt 1.3, whose events carry no id
}

// What events of a kind are called by: the procedures of their messages, with
// the callback's id, without it, and the name in [Fault.Procedure].
var eventKinds = map[int32]struct {
	number, old int32
	name        string
}{
	kindLifecycle:     {318, 107, "Lifecycle"},
	kindReboot:        {319, 169, "Reboot"},
	kindIOError:       {322, 172, "IOError"},
	kindIOErrorReason: {324, 195, "IOErrorReason"},
	kindIteration:     {359, 0, "MigrationIteration"},
	kindJobCompleted:  {363, 0, "JobCompleted"},
}

// Kinds of events (VIR_DOMAIN_EVENT_ID_).
const (
	kindLifecycle     = 0
	kindReboot        = 1
	kindIOError       = 4
	kindIOErrorReason = 6
	kindIteration     = 20
	kindJobCompleted  = 21
)

// kinds is how many kinds of events libvirt 9.0.0 knows.
const kinds = 27

var watchProcedures = []procedure{
	remote(316, "ConnectDomainEventCallbackRegisterAny", func(c *call, a *golibvirt.ConnectDomainEventCallbackRegisterAnyArgs) (golibvirt.ConnectDomainEventCallbackRegisterAnyRet, error) {
		var ret golibvirt.ConnectDomainEventCallbackRegisterAnyRet
		if a.EventID < 0 || a.EventID >= kinds {
			return ret, fail(codeInternal, fromRPC, "unsupported event ID %d", a.EventID)
		}
		cb := &callback{id: c.client.nextID, kind: a.EventID}
		if len(a.Dom) > 0 {
			d, err := c.find(a.Dom[0])
			if err != nil {
				return ret, err
			}
			cb.domain = &d.uuid
		}
		c.client.nextID++
		c.client.callbacks = append(c.client.callbacks, cb)
		ret.CallbackID = cb.id
		return ret, nil
	}),
	remote(317, "ConnectDomainEventCallbackDeregisterAny", func(c *call, a *golibvirt.ConnectDomainEventCallbackDeregisterAnyArgs) (none, error) {
		if !c.client.deregister(func(cb *callback) bool { return !cb.old && cb.id == a.CallbackID }) {
			return none{}, fail(codeInternal, fromRPC, "domain event callback %d not registered", a.CallbackID)
		}
		return none{}, nil
	}),
	remote(167, "ConnectDomainEventRegisterAny", func(c *call, a *golibvirt.ConnectDomainEventRegisterAnyArgs) (none, error) {
		if a.EventID < 0 || a.EventID >= kinds {
			return none{}, fail(codeInternal, fromRPC, "unsupported event ID %d", a.EventID)
		}
		if c.client.registered(a.EventID) {
			return none{}, fail(codeInternal, fromRPC, "domain event %d already registered", a.EventID)
		}
		c.client.callbacks = append(c.client.callbacks, &callback{id: -1, kind: a.EventID, old: true})
		return none{}, nil
	}),
	remote(168, "ConnectDomainEventDeregisterAny", func(c *call, a *golibvirt.ConnectDomainEventDeregisterAnyArgs) (none, error) {
		if !c.client.deregister(func(cb *callback) bool { return cb.old && cb.kind == a.EventID }) {
			return none{}, fail(codeInternal, fromRPC, "domain event %d not registered", a.EventID)
		}
		return none{}, nil
	}),
	remote(105, "ConnectDomainEventRegister", func(c *call, _ *none) (golibvirt.ConnectDomainEventRegisterRet, error) {
		if !c.client.registered(0) {
			c.client.callbacks = append(c.client.callbacks, &callback{id: -1, old: true})
		}
		return golibvirt.ConnectDomainEventRegisterRet{CbRegistered: 1}, nil
	}),
	remote(106, "ConnectDomainEventDeregister", func(c *call, _ *none) (golibvirt.ConnectDomainEventDeregisterRet, error) {
		c.client.deregister(func(cb *callback) bool { return cb.old && cb.kind == 0 })
		return golibvirt.ConnectDomainEventDeregisterRet{}, nil
	}),
}

// registered tells whether the client has an old registration of that kind.
func (c *client) registered(kind int32) bool {
	for _, cb := range c.callbacks {
		if cb.old && cb.kind == kind {
			return true
		}
	}
	return false
}

// deregister ends a registration; false where there is none.
func (c *client) deregister(which func(*callback) bool) bool {
	for i, cb := range c.callbacks {
		if which(cb) {
			c.callbacks = append(c.callbacks[:i], c.callbacks[i+1:]...)
			return true
		}
	}
	return false
}

// forget ends all registrations.
func (c *client) forget() { c.callbacks = nil }

// lifecycle tells clients of a change in a domain's life. The server is locked.
func (s *Server) lifecycle(d *Domain, event, detail int32) {
	s.event(d, kindLifecycle, func(b []byte) []byte {
		return encodeXDR(b, reflect.ValueOf(golibvirt.DomainEventLifecycleMsg{Dom: d.ref(), Event: event, Detail: detail}))
	})
}

// reboot tells clients that a guest has reset itself. The server is locked.
func (s *Server) reboot(d *Domain) {
	s.event(d, kindReboot, func(b []byte) []byte {
		return encodeXDR(b, reflect.ValueOf(golibvirt.DomainEventRebootMsg{Dom: d.ref()}))
	})
}

// ioError tells clients that a disk of the machine has failed, in both ways that
// libvirt has. The server is locked.
func (s *Server) ioError(d *Domain, path, alias, reason string) {
	const actionPause = 1
	s.event(d, kindIOError, func(b []byte) []byte {
		return encodeXDR(b, reflect.ValueOf(golibvirt.DomainEventIOErrorMsg{Dom: d.ref(), SrcPath: path, DevAlias: alias, Action: actionPause}))
	})
	s.event(d, kindIOErrorReason, func(b []byte) []byte {
		return encodeXDR(b, reflect.ValueOf(golibvirt.DomainEventIOErrorReasonMsg{Dom: d.ref(), SrcPath: path, DevAlias: alias, Action: actionPause, Reason: reason}))
	})
}

// savedMemory tells clients of what the saving of a machine's memory looked
// like: two rounds, and for a job of its own its end, as with libvirt 9.0.0.
func (s *Server) savedMemory(d *Domain, isJob bool) {
	for i := range int32(2) {
		s.event(d, kindIteration, func(b []byte) []byte {
			b = encodeXDR(b, reflect.ValueOf(d.ref()))
			return encodeXDR(b, reflect.ValueOf(i+1))
		})
	}
	if !isJob || d.job == nil {
		return
	}
	const operationSave = 2
	r := statsRecord{Dom: d.ref(), Params: []typedParam{
		{"operation", int32(operationSave)}, {"time_elapsed", uint64(time.Since(d.job.began).Milliseconds())},
		{"data_total", d.job.total}, {"data_processed", d.job.total}, {"data_remaining", uint64(0)},
	}}
	s.event(d, kindJobCompleted, func(b []byte) []byte { return encodeXDR(b, reflect.ValueOf(r)) })
}

// event sends a message to every client that is registered for it.
func (s *Server) event(d *Domain, kind int32, message func([]byte) []byte) {
	if s.life == nil {
		return
	}
	k := eventKinds[kind]
	for _, c := range s.life.clients {
		for _, cb := range c.callbacks {
			if cb.kind != kind || cb.domain != nil && *cb.domain != d.uuid {
				continue
			}
			p := packet{header: header{Program: programRemote, Version: 1, Procedure: k.number, Type: typeEvent}}
			if cb.old && k.old == 0 {
				continue
			}
			if cb.old {
				p.Procedure = k.old
			} else {
				p.payload = encodeXDR(p.payload, reflect.ValueOf(cb.id))
			}
			p.payload = message(p.payload)
			faults := s.faults(PointEvent, k.name, d)
			if delay := delayOf(faults); delay > 0 {
				faults = append(faults, Fault{Action: Late, Delay: delay})
			}
			c.spoil(p, faults)
		}
	}
}

// delayOf is for how long faults hold an event up. Nothing waits for it but the event.
func delayOf(faults []Fault) (d time.Duration) {
	for _, f := range faults {
		if f.Action == Delay {
			d += f.Delay
		}
	}
	return d
}
