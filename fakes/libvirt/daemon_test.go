package libvirt

import (
	"net"
	"os"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

func TestMachinesOutliveTheDaemon(t *testing.T) {
	s, d := started(t, Options{}, "a")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	id := d.ID()
	c := dial(t, s)
	if err := s.Restart(time.Millisecond); err != nil {
		t.Fatal(err)
	}
	c.over()
	wantState(t, "after the restart", d, stateRunning, runningBooted)
	if d.ID() != id {
		t.Errorf("the id is %d, not %d", d.ID(), id)
	}
	c = dial(t, s)
	b, err := c.call("DomainLookupByID", golibvirt.DomainLookupByIDArgs{ID: id})
	var ret golibvirt.DomainLookupByIDRet
	if err == nil {
		err = decodeXDR(b, &ret)
	}
	if err != nil || ret.Dom.Name != "a" {
		t.Errorf("%+v, %v", ret, err)
	}
}

func TestARestartEndsAStartThatIsUnderWay(t *testing.T) {
	s, d := started(t, Options{Durations: Durations{Start: time.Hour}}, "a")
	c := dial(t, s)
	c.send("DomainCreate", golibvirt.DomainCreateArgs{Dom: d.ref()})
	await(t, "the start has begun", d.Running)
	if err := s.Restart(0); err != nil {
		t.Fatal(err)
	}
	c.over()
	if d.Running() {
		t.Error("the machine is on")
	}
}

func TestAStoppedDaemonHasNoSocketUntilItStarts(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	s.Stop()
	s.Stop()
	if conn, err := net.Dial("unix", s.Socket()); err == nil {
		conn.Close()
		t.Error("a stopped daemon was connected to")
	}
	for range 2 {
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, s)
}

func TestASilentDaemonAnswersLater(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	c := dial(t, s)
	end := s.Silence()
	c.send(version, none{})
	c.quiet(50 * time.Millisecond)
	fresh, err := net.Dial("unix", s.Socket()) // as with a process that is stopped
	if err != nil {
		t.Fatal(err)
	}
	fresh.Close()
	end()
	end()
	c.right()
}

func TestOneConnectionMoreThanAllowedIsClosed(t *testing.T) {
	s, _ := started(t, Options{Clients: 2}, "a")
	dial(t, s)
	second := dial(t, s)
	third, err := net.Dial("unix", s.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	(&rawClient{t: t, conn: third}).over()
	second.conn.Close()
	await(t, "the second is gone", func() bool { return s.Clients() == 1 })
	dial(t, s)
	s.Limit(3)
	dial(t, s)
}

func TestFiveCallsOfOneClientAreTheMostAtOnce(t *testing.T) {
	s, d := started(t, Options{LockTimeout: time.Hour}, "a")
	release, err := d.HoldLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, other := dial(t, s), dial(t, s)
	for range requests {
		c.send("DomainCreate", golibvirt.DomainCreateArgs{Dom: d.ref()})
	}
	awaitCalls(t, s, func(calls []Call) bool { return count(calls, "DomainCreate") == requests })
	c.send(version, none{})
	c.quiet(50 * time.Millisecond)
	other.send(version, none{})
	other.right()
	release()
	for range requests + 1 {
		if _, err := c.receive(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Define(machineXML(t, "a")); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c.over()
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := s.Restart(0); err == nil {
		t.Error("a closed daemon was restarted")
	}
	if _, err := s.Define("<domain/>"); err == nil {
		t.Error("a closed daemon defined a domain")
	}
}
