package libvirt

import (
	"encoding/binary"
	"io"
	"slices"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

func TestPlanRefusesWhatNeverHappens(t *testing.T) {
	s, d := started(t, Options{}, "a")
	for _, f := range []Fault{{Point: PointMachine, Action: Double}, {Point: PointCall, Action: Half}, {Point: PointReply, Action: "dance"}} {
		if s.Plan(f) == nil || d.Plan(f) == nil {
			t.Errorf("%s was taken", f)
		}
	}
	for _, e := range Effects {
		for _, p := range e.Points {
			if err := d.Plan(Fault{Point: p, Action: e.Action}); err != nil {
				t.Error(err)
			}
		}
	}
}

// version is a call without arguments, and its answer.
const version = "ConnectGetLibVersion"

// faulty makes a call with a fault on a connection of its own and returns it.
func faulty(t *testing.T, f Fault) *rawClient {
	t.Helper()
	s, _ := started(t, Options{}, "a")
	c := dial(t, s)
	f.Procedure = version
	if err := s.Plan(f); err != nil {
		t.Fatal(err)
	}
	c.send(version, none{})
	return c
}

// right checks that the answer to the last call is right.
func (c *rawClient) right() {
	c.t.Helper()
	p, err := c.receive()
	if err != nil || p.Serial != c.serial || len(p.payload) != 8 || binary.BigEndian.Uint64(p.payload) != libVersion {
		c.t.Errorf("%+v, %v", p, err)
	}
}

func TestRepliesAreSpoiltAsPlanned(t *testing.T) {
	for _, at := range []Point{PointCall, PointReply} {
		t.Run(string(at)+" hang", func(t *testing.T) {
			c := faulty(t, Fault{Point: at, Action: Hang})
			c.quiet(50 * time.Millisecond)
			c.send("ConnectGetType", none{})
			c.quiet(50 * time.Millisecond)
		})
		t.Run(string(at)+" drop", func(t *testing.T) { faulty(t, Fault{Point: at, Action: Drop}).over() })
		t.Run(string(at)+" delay", func(t *testing.T) {
			begin := time.Now()
			faulty(t, Fault{Point: at, Action: Delay, Delay: 60 * time.Millisecond}).right()
			if took := time.Since(begin); took < 60*time.Millisecond {
				t.Errorf("it took %v", took)
			}
		})
		t.Run(string(at)+" refuse", func(t *testing.T) {
			c := faulty(t, Fault{Point: at, Action: Refuse, Code: 38, From: 20, Text: "no more of it"})
			p, err := c.receive()
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, "refused", asAnswer(p), 38, 20, "no more of it")
		})
	}
	t.Run("pretend", func(t *testing.T) {
		if p, err := faulty(t, Fault{Point: PointCall, Action: Pretend}).receive(); err != nil || binary.BigEndian.Uint64(p.payload) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("swallow", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Swallow, Times: 1})
		c.quiet(50 * time.Millisecond)
		c.send(version, none{})
		c.right()
	})
	t.Run("double", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Double})
		c.right()
		c.right()
	})
	t.Run("late", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Late, Delay: 60 * time.Millisecond})
		c.send("ConnectGetType", none{})
		first, err := c.receive()
		if err != nil || first.Serial != c.serial {
			t.Errorf("%+v, %v", first, err)
		}
		c.serial--
		c.right()
	})
	t.Run("stranger", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Stranger})
		if p, err := c.receive(); err != nil || p.Serial == c.serial {
			t.Errorf("%+v, %v", p, err)
		}
		c.right()
	})
	t.Run("half", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Half})
		if n, err := io.ReadFull(c.conn, make([]byte, 18)); n != 18 {
			t.Error(n, err)
		}
		c.quiet(50 * time.Millisecond)
	})
	t.Run("bad length", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: BadLength, Bytes: 4})
		var n [4]byte
		if _, err := io.ReadFull(c.conn, n[:]); err != nil || binary.BigEndian.Uint32(n[:]) != 4 {
			t.Error(n, err)
		}
	})
	t.Run("garbage", func(t *testing.T) {
		c := faulty(t, Fault{Point: PointReply, Action: Garbage, Bytes: 100})
		b := make([]byte, 100)
		if _, err := io.ReadFull(c.conn, b); err != nil || binary.BigEndian.Uint32(b) < maxPacket {
			t.Error(b, err)
		}
	})
}

func TestFaultsSkipAndEnd(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	if err := d.Plan(Fault{Point: PointCall, Procedure: "DomainGetState", Action: Refuse, Text: "not now", Skip: 1, Times: 2}); err != nil {
		t.Fatal(err)
	}
	args := golibvirt.DomainGetStateArgs{Dom: d.ref()}
	var got []bool
	for range 5 {
		_, err := c.call("DomainGetState", args)
		got = append(got, err == nil)
	}
	if want := []bool{true, false, false, true, true}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestADomainThatIsGoneUnderACallIsNotFound(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := d.Plan(Fault{Point: PointCall, Procedure: "DomainDestroy", Action: Gone}); err != nil {
		t.Fatal(err)
	}
	_, err := c.call("DomainDestroy", golibvirt.DomainDestroyArgs{Dom: d.ref()})
	wantError(t, "destroy", err, codeNoDomain, fromQEMU, "Domain not found: no domain with matching uuid '"+d.UUID()+"' (a)")
	if d.Defined() || d.Running() || s.Domain("a") != nil {
		t.Error("the domain is still there")
	}
}

func TestAnEventStormReachesWhoeverIsRegistered(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	c, other := dial(t, s), dial(t, s)
	if _, err := c.call("ConnectDomainEventCallbackRegisterAny", golibvirt.ConnectDomainEventCallbackRegisterAnyArgs{}); err != nil {
		t.Fatal(err)
	}
	const storm = 5000
	s.Storm(storm)
	for i := range storm {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		if p, err := readPacket(c.conn); err != nil || p.Type != typeEvent {
			t.Fatalf("event %d: %+v, %v", i, p, err)
		}
	}
	other.quiet(20 * time.Millisecond)
	c.send(version, none{})
	c.right()
}

func TestEventsAreSpoiltAsPlanned(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	if _, err := c.call("ConnectDomainEventCallbackRegisterAny", golibvirt.ConnectDomainEventCallbackRegisterAnyArgs{Dom: golibvirt.OptDomain{d.ref()}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Plan(Fault{Point: PointEvent, Procedure: "Lifecycle", Action: Swallow, Times: 1}, Fault{Point: PointEvent, Action: Double, Skip: 1}); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	// The first of its two events does not come, and the second comes twice.
	for range 2 {
		c.conn.SetReadDeadline(time.Now().Add(patience))
		p, err := readPacket(c.conn)
		if err != nil {
			t.Fatal(err)
		}
		var e golibvirt.DomainEventCallbackLifecycleMsg
		if err := decodeXDR(p.payload, &e); err != nil || e.Msg.Event != eventStarted || e.Msg.Dom.ID != 1 {
			t.Errorf("%+v, %v", e, err)
		}
	}
	c.quiet(20 * time.Millisecond)
}
