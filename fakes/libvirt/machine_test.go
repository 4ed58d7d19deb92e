package libvirt

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/fakes/guest"
)

// create starts a domain over the wire.
func (c *rawClient) create(d *Domain) error {
	_, err := c.call("DomainCreate", golibvirt.DomainCreateArgs{Dom: d.ref()})
	return err
}

func wantState(t *testing.T, what string, d *Domain, state, reason int32) {
	t.Helper()
	if s, r := d.State(); s != state || r != reason {
		t.Errorf("%s: the state is %d/%d, not %d/%d", what, s, r, state, reason)
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond) // what is waited for has no event of its own
	}
}

func TestAHypervisorRefusesInItsOwnWords(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	plan := func(procedure string, action Action) {
		t.Helper()
		if err := d.Plan(Fault{Point: PointMachine, Procedure: procedure, Action: action, Text: "I will not"}); err != nil {
			t.Fatal(err)
		}
	}
	plan("start", Refuse)
	wantError(t, "start", c.create(d), codeInternal, fromQEMU, "internal error: process exited while connecting to monitor: I will not")
	wantState(t, "refused start", d, stateOff, offFailed)
	plan("cont", Refuse)
	wantError(t, "start", c.create(d), codeInternal, fromQEMU, "internal error: unable to execute QEMU command 'cont': I will not")
	plan("dump", Refuse)
	if err := c.create(d); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "core")
	_, err := c.call("DomainCoreDumpWithFormat", golibvirt.DomainCoreDumpWithFormatArgs{Dom: d.ref(), To: path, Flags: dumpMemoryOnly})
	wantError(t, "dump", err, codeInternal, fromQEMU, "internal error: unable to execute QEMU command 'dump-guest-memory': I will not")
	wantState(t, "refused dump", d, stateRunning, runningUnpaused)
	if _, err := os.Stat(path); err == nil {
		t.Error("a refused dump left a file")
	}
	plan("stop", Kill)
	_, err = c.call("DomainSuspend", golibvirt.DomainSuspendArgs{Dom: d.ref()})
	if err == nil {
		t.Error("suspended by a hypervisor that was killed")
	}
	wantState(t, "killed", d, stateOff, offCrashed)
}

func TestDestroyEndsAStartThatNeverComesToAnEnd(t *testing.T) {
	s, d := started(t, Options{KillDelay: 10 * time.Millisecond}, "a")
	if err := d.Plan(Fault{Point: PointMachine, Procedure: "start", Action: Hang}); err != nil {
		t.Fatal(err)
	}
	c, other := dial(t, s), dial(t, s)
	c.send("DomainCreate", golibvirt.DomainCreateArgs{Dom: d.ref()})
	await(t, "the start has begun", d.Running)
	wantState(t, "starting", d, statePaused, pausedStarting)
	if _, err := other.call("DomainDestroy", golibvirt.DomainDestroyArgs{Dom: d.ref()}); err != nil {
		t.Fatal(err)
	}
	if p, err := c.receive(); err != nil || asAnswer(p) == nil {
		t.Errorf("the start: %+v, %v", p, err)
	}
	wantState(t, "destroyed", d, stateOff, offDestroyed)
}

func TestAHypervisorThatStaysIsKilledAfterAWhile(t *testing.T) {
	const delay = 80 * time.Millisecond
	s, d := started(t, Options{KillDelay: delay}, "a")
	c := dial(t, s)
	if err := d.Plan(Fault{Point: PointMachine, Procedure: "quit", Action: Stay}); err != nil {
		t.Fatal(err)
	}
	if err := c.create(d); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := c.call("DomainDestroyFlags", golibvirt.DomainDestroyFlagsArgs{Dom: d.ref(), Flags: destroyGraceful}); err == nil || !d.Running() {
		t.Errorf("ended gently: %v", err)
	}
	if _, err := c.call("DomainDestroy", golibvirt.DomainDestroyArgs{Dom: d.ref()}); err != nil || d.Running() || time.Since(begin) < 2*delay {
		t.Errorf("%v after %v, running: %v", err, time.Since(begin), d.Running())
	}
}

func TestAWedgedMachineHasAStateAndAnswersNothingElse(t *testing.T) {
	s, d := started(t, Options{LockTimeout: 50 * time.Millisecond}, "a")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	d.Wedge()
	c, other := dial(t, s), dial(t, s)
	c.send("DomainSuspend", golibvirt.DomainSuspendArgs{Dom: d.ref()})
	awaitCalls(t, s, func(calls []Call) bool { return count(calls, "DomainSuspend") == 1 })
	c.quiet(20 * time.Millisecond)
	if _, err := other.call("DomainGetState", golibvirt.DomainGetStateArgs{Dom: d.ref()}); err != nil {
		t.Error(err)
	}
	_, err := other.call("DomainResume", golibvirt.DomainResumeArgs{Dom: d.ref()})
	wantError(t, "resume", err, codeTimeout, fromQEMU, "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainSuspend)")
	d.Heal()
	if p, err := c.receive(); err != nil || asAnswer(p) != nil {
		t.Errorf("after healing: %+v, %v", p, err)
	}
	wantState(t, "healed", d, statePaused, pausedUser)
}

func TestALockThatIsHeldIsWaitedForAndThenToldOf(t *testing.T) {
	s, d := started(t, Options{LockTimeout: 60 * time.Millisecond}, "a")
	c := dial(t, s)
	release, err := d.HoldLock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "start", c.create(d), codeTimeout, fromQEMU,
		"Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainMigratePerform3Params)")
	c.send("DomainCreate", golibvirt.DomainCreateArgs{Dom: d.ref()})
	release()
	if p, err := c.receive(); err != nil || asAnswer(p) != nil || !d.Running() {
		t.Errorf("after the release: %+v, %v", p, err)
	}
}

func TestKillNewIDAndAFailedDiskShowInTheState(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	before := d.ID()
	d.NewID()
	if d.ID() == before {
		t.Error("the id is the same")
	}
	d.FailDisk(true)
	wantState(t, "failed disk", d, statePaused, pausedIOError)
	b, err := c.call("DomainGetDiskErrors", golibvirt.DomainGetDiskErrorsArgs{Dom: d.ref(), Maxerrors: 1})
	var got diskErrors
	if err == nil {
		err = decodeXDR(b, &got)
	}
	if err != nil || len(got.Errors) != 1 || got.Errors[0] != (diskError{"vda", diskFull}) {
		t.Errorf("%+v, %v", got, err)
	}
	d.Kill()
	wantState(t, "killed", d, stateOff, offCrashed)
	if _, err := c.call("DomainDestroy", golibvirt.DomainDestroyArgs{Dom: d.ref()}); err == nil {
		t.Error("a killed machine was destroyed")
	}
}

func TestTheGuestTalksOnItsSerialPortAndSwitchesItselfOff(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := s.Define(strings.Replace(machineXML(t, "a"), "<video>", "<serial type='unix'><source mode='connect' path='"+path+"'/></serial><video>", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func() guest.Reply {
		t.Helper()
		b := make([]byte, guest.FrameSize)
		conn.SetReadDeadline(time.Now().Add(patience))
		for n := 0; n < len(b); {
			k, err := conn.Read(b[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		_, ok, r := guest.DecodeReply(b)
		if !ok {
			t.Fatalf("no frame: %x", b)
		}
		return r
	}
	if r := read(); r.Op != guest.OpBooted {
		t.Errorf("%+v", r)
	}
	off := guest.Request{Op: guest.OpPowerOff}.Encode()
	if _, err := conn.Write(off[:]); err != nil {
		t.Fatal(err)
	}
	await(t, "the machine is off", func() bool { return !d.Running() })
	wantState(t, "after power off", d, stateOff, offShutdown)
}

func TestADumpHoldsTheGuestsMarks(t *testing.T) {
	s, d := started(t, Options{}, "a")
	c := dial(t, s)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the guest has booted", func() bool { return d.Guest().Info().Booted })
	d.Guest().SetMemory(3, 0x1badcafe)
	path := filepath.Join(t.TempDir(), "core")
	if _, err := c.call("DomainCoreDumpWithFormat", golibvirt.DomainCoreDumpWithFormatArgs{Dom: d.ref(), To: path, Flags: dumpMemoryOnly}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at := bytes.Index(b, []byte("\xfe\xca\xad\x1b")); !bytes.HasPrefix(b, []byte("\x7fELF")) || at < 0 || string(b[at-4:at]) != guest.MemoryMagic {
		t.Errorf("%d bytes, mark at %#x", len(b), at)
	}
}
