package libvirt

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// revertTo reverts over the wire.
func (c *rawClient) revertTo(d *Domain, name string) error {
	_, err := c.call("DomainRevertToSnapshot", golibvirt.DomainRevertToSnapshotArgs{Snap: golibvirt.DomainSnapshot{Name: name, Dom: d.ref()}})
	return err
}

func TestARevertIsRefusedByLibvirtAndByTheHypervisor(t *testing.T) {
	s, d := marked(t, 1, 2)
	if err := d.TakeSnapshot("clean"); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	// libvirt refuses before it touches the machine.
	if err := d.Plan(Fault{Point: PointCall, Procedure: "DomainRevertToSnapshot", Action: Refuse, Code: codeRisky, From: fromQEMU, Text: "revert requires force: not as it was"}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "by libvirt", c.revertTo(d, "clean"), codeRisky, fromQEMU, "revert requires force: not as it was")
	wantState(t, "by libvirt", d, stateRunning, runningUnpaused)
	// The hypervisor refuses when the old run has ended already.
	if err := d.Plan(Fault{Point: PointMachine, Procedure: "load", Action: Refuse, Text: "Device 'x' not found", Times: 1}); err != nil {
		t.Fatal(err)
	}
	wantError(t, "by the hypervisor", c.revertTo(d, "clean"), codeInternal, fromQEMU, "internal error: process exited while connecting to monitor: Device 'x' not found")
	wantState(t, "by the hypervisor", d, stateOff, offFailed)
	if err := c.revertTo(d, "clean"); err != nil {
		t.Error(err)
	}
	wantMarks(t, "afterwards", d, 1, 2)
}

func TestASnapshotThatIsGoneIsNotFound(t *testing.T) {
	s, d := started(t, Options{}, "a")
	if err := d.TakeSnapshot("clean"); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	if err := d.RemoveSnapshot("clean"); err != nil {
		t.Fatal(err)
	}
	const gone = "Domain snapshot not found: no domain snapshot with matching name 'clean'"
	wantError(t, "revert", c.revertTo(d, "clean"), codeNoSnapshot, fromQEMU, gone)
	_, err := c.call("DomainSnapshotLookupByName", golibvirt.DomainSnapshotLookupByNameArgs{Dom: d.ref(), Name: "clean"})
	wantError(t, "lookup", err, codeNoSnapshot, fromQEMU, gone)
	_, err = c.call("DomainSnapshotCurrent", golibvirt.DomainSnapshotCurrentArgs{Dom: d.ref()})
	wantError(t, "current", err, codeNoSnapshot, fromQEMU, "Domain snapshot not found: the domain does not have a current snapshot")
	wantError(t, "removed again", d.RemoveSnapshot("clean"), codeNoSnapshot, fromQEMU, gone)
}

func TestAnIDThatChangedIsNotFoundByItsOldNumber(t *testing.T) {
	s, d := started(t, Options{}, "a")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	old := d.ref()
	d.NewID()
	_, err := c.call("DomainLookupByID", golibvirt.DomainLookupByIDArgs{ID: old.ID})
	wantError(t, "by the old id", err, codeNoDomain, fromQEMU, "Domain not found: no domain with matching id 1")
	if _, err := c.call("DomainLookupByID", golibvirt.DomainLookupByIDArgs{ID: d.ID()}); err != nil {
		t.Error(err)
	}
	// The UUID counts: what was looked up before is still the domain.
	if _, err := c.call("DomainGetState", golibvirt.DomainGetStateArgs{Dom: old}); err != nil {
		t.Error(err)
	}
}

func TestAFloodOfEventsComesBeforeAnAnswer(t *testing.T) {
	s, _ := started(t, Options{}, "a")
	c := dial(t, s)
	if _, err := c.call("ConnectDomainEventCallbackRegisterAny", golibvirt.ConnectDomainEventCallbackRegisterAnyArgs{}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []Point{PointCall, PointReply} {
		if err := s.Plan(Fault{Point: at, Procedure: version, Action: Flood, Bytes: 100}); err != nil {
			t.Fatal(err)
		}
		c.send(version, none{})
		for range 100 {
			c.event(318)
		}
		c.conn.SetReadDeadline(time.Now().Add(patience))
		if p, err := readPacket(c.conn); err != nil || p.Type != typeReply || p.Serial != c.serial {
			t.Errorf("%s: %+v, %v", at, p.header, err)
		}
	}
}

func TestASaveThatIsAbortedLetsTheMachineGoOn(t *testing.T) {
	s, d := started(t, Options{Durations: Durations{Save: time.Hour}}, "a")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	c, other := dial(t, s), dial(t, s)
	path := filepath.Join(t.TempDir(), "image")
	c.send("DomainSaveFlags", golibvirt.DomainSaveFlagsArgs{Dom: d.ref(), To: path})
	var job golibvirt.DomainGetJobInfoRet
	await(t, "the save has begun", func() bool {
		b, err := other.call("DomainGetJobInfo", golibvirt.DomainGetJobInfoArgs{Dom: d.ref()})
		return err == nil && decodeXDR(b, &job) == nil && job.Type == jobUnbounded
	})
	if job.DataTotal != 16<<20 {
		t.Errorf("%+v", job)
	}
	if _, err := other.call("DomainAbortJob", golibvirt.DomainAbortJobArgs{Dom: d.ref()}); err != nil {
		t.Fatal(err)
	}
	p, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "the save", asAnswer(p), codeAborted, fromQEMU, "operation aborted: domain save job: canceled by client")
	wantState(t, "after the save was aborted", d, stateRunning, runningUnpaused)
	if left, _ := filepath.Glob(path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestADomainWithoutADefinitionIsThereForItsRunAlone(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	text := strings.NewReplacer("<name>a</name>", "<name>b</name>", d.UUID(), "01234567-89ab-4def-8123-456789abcdef").Replace(d.XML(true))
	if _, err := c.call("DomainCreateXML", golibvirt.DomainCreateXMLArgs{XMLDesc: text}); err != nil {
		t.Fatal(err)
	}
	b := s.Domain("b")
	wantState(t, "created", b, stateRunning, runningBooted)
	_, err := c.call("DomainUndefine", golibvirt.DomainUndefineArgs{Dom: b.ref()})
	wantError(t, "undefine", err, codeInvalid, fromQEMU, "Requested operation is not valid: cannot undefine transient domain")
	// One that runs as it is undefined runs on, and is one of those then.
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.call("DomainUndefine", golibvirt.DomainUndefineArgs{Dom: d.ref()}); err != nil || !d.Running() || !d.Defined() {
		t.Errorf("%v, running: %v", err, d.Running())
	}
	for _, m := range []*Domain{b, d} {
		if _, err := c.call("DomainDestroy", golibvirt.DomainDestroyArgs{Dom: m.ref()}); err != nil || m.Defined() {
			t.Errorf("%s: %v, there: %v", m.Name(), err, m.Defined())
		}
	}
}

func TestListsHoldWhatTheirFlagsAskFor(t *testing.T) {
	s, _ := started(t, Options{}, "off")
	for _, name := range []string{"running", "paused", "kept"} {
		d, err := s.Define(machineXML(t, name))
		if err == nil && name != "kept" {
			err = d.Start()
		}
		if err == nil && name == "paused" {
			err = d.Suspend()
		}
		if err == nil && name == "kept" {
			err = d.TakeSnapshot("clean")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, s)
	for _, l := range []struct {
		flags uint32
		want  string
	}{
		{0, "off running paused kept"},
		{listActive, "running paused"}, {listInactive, "off kept"}, {listActive | listInactive, "off running paused kept"},
		{listRunning, "running"}, {listPaused, "paused"}, {listShutoff, "off kept"}, {listRunning | listPaused, "running paused"}, {listOther, ""},
		{listPersistent, "off running paused kept"}, {listTransient, ""}, {listManaged, ""}, {listAutostart, ""},
		{listHasSnapshot, "kept"}, {listHasNoSnapshot, "off running paused"}, {listHasCheckpoint, ""}, {listInactive | listHasSnapshot, "kept"},
	} {
		b, err := c.call("ConnectListAllDomains", golibvirt.ConnectListAllDomainsArgs{NeedResults: 1, Flags: golibvirt.ConnectListAllDomainsFlags(l.flags)})
		var ret golibvirt.ConnectListAllDomainsRet
		if err == nil {
			err = decodeXDR(b, &ret)
		}
		var names []string
		for _, dom := range ret.Domains {
			names = append(names, dom.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != l.want || int(ret.Ret) != len(names) {
			t.Errorf("flags %#x: %q, %v, want %q", l.flags, got, err, l.want)
		}
	}
}
