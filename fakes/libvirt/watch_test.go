package libvirt

import (
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// event returns the next packet, which has to be an event of that procedure.
func (c *rawClient) event(procedure int32) packet {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	p, err := readPacket(c.conn)
	if err != nil || p.Type != typeEvent || p.Procedure != procedure {
		c.t.Fatalf("%+v, %v; want an event of procedure %d", p.header, err, procedure)
	}
	return p
}

// Clients of before libvirt 1.3 register once for a kind of events, for all domains, and what comes carries no number of a callback.
func TestOldClientsGetEventsInTheOldWay(t *testing.T) {
	for _, way := range []struct {
		register, deregister string
		args                 any
		again, without       string // what a second registration and a second end of it are told; empty for nothing
	}{
		{"ConnectDomainEventRegister", "ConnectDomainEventDeregister", none{}, "", ""},
		{"ConnectDomainEventRegisterAny", "ConnectDomainEventDeregisterAny", golibvirt.ConnectDomainEventRegisterAnyArgs{EventID: kindLifecycle},
			"internal error: domain event 0 already registered", "internal error: domain event 0 not registered"},
	} {
		t.Run(way.register, func(t *testing.T) {
			s, d := started(t, Options{}, "a")
			c := dial(t, s)
			do := func(procedure, says string) {
				t.Helper()
				_, err := c.call(procedure, way.args)
				if says == "" && err != nil || says != "" && (err == nil || err.Error() != says) {
					t.Errorf("%s: %v, want %q", procedure, err, says)
				}
			}
			do(way.register, "")
			do(way.register, way.again)
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			for _, want := range []int32{eventResumed, eventStarted} {
				var e golibvirt.DomainEventLifecycleMsg
				if err := decodeXDR(c.event(107).payload, &e); err != nil || e.Event != want || e.Dom.Name != "a" || e.Dom.ID != 1 {
					t.Errorf("%+v, %v; want event %d", e, err, want)
				}
			}
			do(way.deregister, "")
			do(way.deregister, way.without)
			if err := d.Destroy(); err != nil {
				t.Fatal(err)
			}
			c.quiet(20 * time.Millisecond)
		})
	}
}

func TestACallbackThatWasEndedAndOneForAnotherDomainHearNothing(t *testing.T) {
	s, d := started(t, Options{}, "a")
	other, err := s.Define(machineXML(t, "b"))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	register := func(dom golibvirt.OptDomain) int32 {
		t.Helper()
		b, err := c.call("ConnectDomainEventCallbackRegisterAny", golibvirt.ConnectDomainEventCallbackRegisterAnyArgs{Dom: dom})
		var ret golibvirt.ConnectDomainEventCallbackRegisterAnyRet
		if err == nil {
			err = decodeXDR(b, &ret)
		}
		if err != nil {
			t.Fatal(err)
		}
		return ret.CallbackID
	}
	ended, kept := register(nil), register(golibvirt.OptDomain{other.ref()})
	args := golibvirt.ConnectDomainEventCallbackDeregisterAnyArgs{CallbackID: ended}
	if _, err := c.call("ConnectDomainEventCallbackDeregisterAny", args); err != nil {
		t.Fatal(err)
	}
	if _, err := c.call("ConnectDomainEventCallbackDeregisterAny", args); err == nil {
		t.Error("a callback was ended twice")
	}
	for _, m := range []*Domain{d, other} {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var e golibvirt.DomainEventCallbackLifecycleMsg
		if err := decodeXDR(c.event(318).payload, &e); err != nil || e.CallbackID != kept || e.Msg.Dom.Name != "b" {
			t.Errorf("%+v, %v", e, err)
		}
	}
	c.quiet(20 * time.Millisecond)
}

func TestAKindOfEventThatDoesNotExistIsRefused(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	c := dial(t, s)
	for _, kind := range []int32{-1, kinds} {
		if _, err := c.call("ConnectDomainEventCallbackRegisterAny", golibvirt.ConnectDomainEventCallbackRegisterAnyArgs{EventID: kind}); err == nil {
			t.Errorf("kind %d was registered for", kind)
		}
		if _, err := c.call("ConnectDomainEventRegisterAny", golibvirt.ConnectDomainEventRegisterAnyArgs{EventID: kind}); err == nil {
			t.Errorf("kind %d was registered for in the old way", kind)
		}
	}
}
