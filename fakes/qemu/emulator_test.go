//go:build linux

package qemu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
	"github.com/machineries/machineries/internal/qcow2"
)

// plainArgs make a machine without a disk.
var plainArgs = []string{"-nodefaults", "-display", "none", "-accel", "tcg", "-M", "q35", "-m", "16"}

func with(args ...string) []string { return append(append([]string(nil), plainArgs...), args...) }

func TestAMachineGoesThroughItsLifeAsInTheTranscripts(t *testing.T) {
	in := install(t, Options{})
	e := start(t, in.Emulator, with("-S")...)
	c := e.dial()
	if g, want := c.line(), `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}`; g != want {
		t.Fatalf("greeting %s", g)
	}
	c.want(`{"execute":"query-status","id":"before-caps"}`, `{"id": "before-caps", "error": {"class": "CommandNotFound", "desc": "Expecting capabilities negotiation with 'qmp_capabilities'"}}`)
	c.want(`{"execute":"qmp_capabilities","id":1}`, `{"return": {}, "id": 1}`)
	c.want(`{"execute":"qmp_capabilities"}`, `{"error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete, command ignored"}}`)
	c.want(`{"execute":"query-status","id":{"a":[1,2]}}`, `{"return": {"status": "prelaunch", "singlestep": false, "running": false}, "id": {"a": [1, 2]}}`)
	c.want(`{"execute":"cont"}`, okReply, "RESUME")
	c.want(`{"execute":"cont"}`, okReply)
	c.want(`{"execute":"stop"}`, okReply, "STOP")
	c.want(`{"execute":"stop"}`, okReply)
	c.status("paused")
	c.want(`{"execute":"system_reset"}`, okReply, "RESET")
	c.status("prelaunch")
	c.want(`{"execute":"system_powerdown"}`, okReply, "POWERDOWN")
	c.want(`{"execute":"system_wakeup"}`, `{"error": {"class": "GenericError", "desc": "Unable to wake up: guest is not in suspended state"}}`)
	c.want(`{"execute":"quit","id":"bye"}`, `{"return": {}, "id": "bye"}`, "SHUTDOWN")
	if _, err := c.read(patience); err == nil {
		t.Error("the connection is open after quit")
	}
	if code := e.ended(); code != 0 || e.stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q", code, e.stderr.String())
	}
}

func TestAMonitorServesOneClientAtATime(t *testing.T) {
	in := install(t, Options{})
	e := start(t, in.Emulator, with("-S")...)
	first := e.connect()
	second := e.dial()
	second.send(`{"execute":"qmp_capabilities"}`)
	if s, err := second.read(100 * time.Millisecond); err != errSilence {
		t.Fatalf("the second client got %q, %v", s, err)
	}
	first.want(`{"execute":"cont"}`, okReply, "RESUME")
	first.conn.Close()
	if g := second.line(); !strings.HasPrefix(g, `{"QMP"`) {
		t.Fatalf("greeting %q", g)
	}
	if s := second.line(); s != okReply {
		t.Fatalf("what was written early was answered by %q", s)
	}
	second.want(`{"execute":"query-status"}`, `{"return": {"status": "running", "singlestep": false, "running": true}}`)
}

func TestASignalEndsTheEmulatorWithItsEvent(t *testing.T) {
	in := install(t, Options{})
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(s.String(), func(t *testing.T) {
			e := start(t, in.Emulator, plainArgs...)
			c := e.connect()
			c.status("running")
			e.cmd.Process.Signal(s)
			if ev := c.event("SHUTDOWN"); !strings.Contains(ev, `{"guest": false, "reason": "host-signal"}`) {
				t.Error(ev)
			}
			if code := e.ended(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if !strings.HasPrefix(e.stderr.String(), "qemu-system-x86_64: terminating on signal ") {
				t.Errorf("stderr %q", e.stderr.String())
			}
		})
	}
}

// snapshot makes a machine with marks in memory and on disk and saves it to a file,
// by the descriptor that the driver would pass.
func snapshot(t *testing.T, in *Installation, disk, file string, paused bool) {
	t.Helper()
	s, path := listenSerial(t)
	e := start(t, in.Emulator, with(append(serialArgs(path), "-drive", "file="+disk+",if=ide,format=qcow2")...)...)
	s.accept()
	if r := s.next(); r.Op != guest.OpBooted {
		t.Fatalf("the guest's first word: %+v", r)
	}
	s.ask(guest.OpSetMemory, 3, 0xcafe)
	s.ask(guest.OpSetDisk, 3, 0xd15c)
	c := e.connect()
	if paused {
		c.want(`{"execute":"stop"}`, okReply, "STOP")
	}
	c.want(`{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true}]}}`, okReply)
	c.want(`{"execute":"migrate","arguments":{"uri":"exec:cat > `+file+`"}}`, okReply, "MIGRATION")
	for c.line() != "" {
		if got, _ := c.do(`{"execute":"query-migrate"}`); strings.Contains(got, `"completed"`) {
			break
		}
	}
	c.status("postmigrate")
	c.send(`{"execute":"quit"}`)
	e.ended()
	waitFor(t, "the snapshot's end", func() bool { st, err := os.Stat(file); return err == nil && st.Size() > ramFill })
}

func TestARestoredMachineHasTheSnapshotsMemoryAndRunState(t *testing.T) {
	in := install(t, Options{})
	dir := shortDir(t)
	base, disk := filepath.Join(dir, "base"), filepath.Join(dir, "disk")
	bootDisk(t, base)
	if err := qcow2.CreateOverlay(disk, base, "raw", 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		paused, early bool
		args          []string
		status        string
		events        string
	}{
		{"saved paused stays paused, whatever", true, true, nil, "paused", "MIGRATION"},
		{"saved running runs", false, false, nil, "running", "RESUME MIGRATION"},
		{"saved running waits with -S", false, false, []string{"-S"}, "paused", "MIGRATION"},
		{"saved running runs with an early cont", false, true, []string{"-S"}, "running", "RESUME MIGRATION"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state")
			snapshot(t, in, disk, file, c.paused)
			if b, _ := os.ReadFile(file); !strings.HasPrefix(string(b), "QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x0apc-q35-7.2") {
				t.Errorf("the file begins %q", b[:24])
			}
			if err := in.Plan("", Fault{Point: PointLoad, Action: Delay, Delay: 100 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			defer in.Clear("")
			s, path := listenSerial(t)
			args := with(append(serialArgs(path), "-drive", "file="+disk+",if=ide,format=qcow2", "-global", "migration.x-events=on", "-incoming", "exec:cat "+file)...)
			e := start(t, in.Emulator, append(args, c.args...)...)
			s.accept()
			q := e.connect()
			q.status("inmigrate")
			if c.early {
				// The event that loading has begun may come at any moment before.
				if reply, _ := q.do(`{"execute":"cont"}`); reply != okReply {
					t.Error(reply)
				}
			}
			var events []string
			for done := false; !done; {
				l := q.line()
				done = strings.Contains(l, "completed")
				if done || eventName(l) != "MIGRATION" {
					events = append(events, eventName(l))
				}
			}
			if got := strings.Join(events, " "); got != c.events {
				t.Errorf("events %q, want %q", got, c.events)
			}
			q.status(c.status)
			if c.status == "paused" {
				q.want(`{"execute":"cont"}`, okReply, "RESUME")
			}
			if v := s.ask(guest.OpGetMemory, 3, 0); v != 0xcafe {
				t.Errorf("memory mark %#x", v)
			}
			if v := s.ask(guest.OpGetDisk, 3, 0); v != 0xd15c {
				t.Errorf("disk mark %#x", v)
			}
		})
	}
}

func TestAStateThatCannotBeLoadedEndsTheEmulatorAsQEMUWould(t *testing.T) {
	in := install(t, Options{})
	dir := shortDir(t)
	base, disk, good := filepath.Join(dir, "base"), filepath.Join(dir, "disk"), filepath.Join(dir, "good")
	bootDisk(t, base)
	if err := qcow2.CreateOverlay(disk, base, "raw", 1<<20); err != nil {
		t.Fatal(err)
	}
	snapshot(t, in, disk, good, true)
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	state := b[:len(b)-len(description)-5] // what is read of it
	flipped := append([]byte(nil), b...)
	flipped[len(state)-20] ^= 1
	for _, c := range []struct {
		name   string
		data   []byte
		args   []string
		stderr string
	}{
		{"empty", nil, nil, "Not a migration stream|load of migration failed: Invalid argument"},
		{"garbage", []byte(strings.Repeat("garbage", 1000)), nil, "Not a migration stream|load of migration failed: Invalid argument"},
		{"5 bytes", b[:5], nil, "Unsupported migration stream version|load of migration failed: Operation not supported"},
		{"8 bytes", b[:8], nil, "Configuration section missing|load of migration failed: Invalid argument"},
		{"12 bytes", b[:12], nil, "Failed to load configuration:len|load of migration failed: Input/output error"},
		{"20 bytes", b[:20], nil, "Failed to load configuration:name|load of migration failed: Input/output error"},
		{"half", b[:len(b)/2], nil, "error while loading state section id 2(ram)|load of migration failed: Input/output error"},
		{"all but one byte", state[:len(state)-1], nil, "error while loading state for instance 0x0 of device 'guest'|load of migration failed: Input/output error"},
		{"a bit flipped", flipped, nil, "error while loading state for instance 0x0 of device 'guest'|load of migration failed: Input/output error"},
		{"another machine", b, []string{"-M", "pc"}, "Machine type received is 'pc-q35-7.2' and local is 'pc-i440fx-7.2'|load of migration failed: Invalid argument"},
		{"other memory", b, []string{"-m", "32"}, "Size mismatch: pc.ram: 0x1000000 != 0x2000000: Invalid argument|error while loading state for instance 0x0 of device 'ram'|load of migration failed: Invalid argument"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(file, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := exec.Command(in.Emulator, with(append(c.args, "-incoming", "fd:3")...)...)
			cmd.ExtraFiles = []*os.File{f}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%v", err)
			}
			want := "qemu-system-x86_64: " + strings.ReplaceAll(c.stderr, "|", "\nqemu-system-x86_64: ") + "\n"
			if string(out) != want {
				t.Errorf("stderr:\n%swant:\n%s", out, want)
			}
		})
	}
}

func TestAPipeThatClosesWithoutAByteLeavesTheMachineWaiting(t *testing.T) {
	in := install(t, Options{})
	e := start(t, in.Emulator, with("-incoming", "exec:true")...)
	c := e.connect()
	c.status("inmigrate")
	if s, err := c.read(200 * time.Millisecond); err != errSilence {
		t.Errorf("got %q, %v", s, err)
	}
	c.status("inmigrate")
}

func TestTwoEmulatorsCannotHaveOneDisk(t *testing.T) {
	in := install(t, Options{})
	real := ""
	if p, err := exec.LookPath(emulatorName); err == nil {
		real = p
	} else {
		t.Log("only among fakes: QEMU is not installed")
	}
	dir := shortDir(t)
	raw, q := filepath.Join(dir, "raw"), filepath.Join(dir, "q")
	bootDisk(t, raw)
	if err := qcow2.Create(q, qcow2.Options{VirtualSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for _, drive := range []string{"file=" + q + ",if=ide,format=qcow2", "file=" + raw + ",if=ide,format=raw"} {
		for _, pair := range [][2]string{{in.Emulator, in.Emulator}, {real, in.Emulator}, {in.Emulator, real}} {
			if pair[0] == "" || pair[1] == "" {
				continue
			}
			first := start(t, pair[0], with("-S", "-drive", drive)...)
			first.connect()
			out, _ := exec.Command(pair[1], with("-S", "-drive", drive)...).CombinedOutput()
			if !strings.Contains(string(out), "Failed to get \"write\" lock\nIs another process using the image [") {
				t.Errorf("%v with %s: %s", pair, drive, out)
			}
			first.cmd.Process.Kill()
			<-first.done
		}
	}
}

func TestTheGuestSwitchesOffAndItsEmulatorEnds(t *testing.T) {
	in := install(t, Options{})
	disk := filepath.Join(shortDir(t), "disk")
	bootDisk(t, disk)
	for _, stays := range []bool{false, true} {
		s, path := listenSerial(t)
		args := with(append(serialArgs(path), "-drive", "file="+disk+",if=virtio,format=raw")...)
		if stays {
			args = append(args, "-no-shutdown")
		}
		e := start(t, in.Emulator, args...)
		s.accept()
		c := e.connect()
		if r := s.next(); r.Op != guest.OpBooted {
			t.Fatalf("%+v", r)
		}
		c.want(`{"execute":"system_powerdown"}`, okReply, "POWERDOWN")
		if ev := c.event("SHUTDOWN"); !strings.Contains(ev, `{"guest": true, "reason": "guest-shutdown"}`) {
			t.Error(ev)
		}
		if !stays {
			if code := e.ended(); code != 0 {
				t.Errorf("exit code %d, stderr %q", code, e.stderr.String())
			}
			continue
		}
		c.event("STOP")
		c.status("shutdown")
		c.want(`{"execute":"cont"}`, `{"error": {"class": "GenericError", "desc": "Resetting the Virtual Machine is required"}}`)
		c.want(`{"execute":"system_reset"}`, okReply, "RESET")
		c.status("prelaunch")
		c.want(`{"execute":"cont"}`, okReply, "RESUME")
		if r := s.next(); r.Op != guest.OpPower && r.Op != guest.OpBooted {
			t.Errorf("%+v", r)
		}
		c.want(`{"execute":"quit"}`, okReply, "SHUTDOWN")
		e.ended()
	}
}

func TestADumpHoldsTheMarksOfMemory(t *testing.T) {
	in := install(t, Options{})
	dir := shortDir(t)
	disk := filepath.Join(dir, "disk")
	bootDisk(t, disk)
	s, path := listenSerial(t)
	e := start(t, in.Emulator, with(append(serialArgs(path), "-drive", "file="+disk+",if=ide,format=raw")...)...)
	s.accept()
	s.ask(guest.OpSetMemory, 5, 0x12345678)
	c := e.connect()
	file := filepath.Join(dir, "dump")
	c.want(`{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:`+file+`"}}`, okReply, "STOP", "DUMP_COMPLETED", "RESUME")
	c.status("running")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(b), "\x7fELF") || !strings.Contains(string(b), guest.MemoryMagic+"\x78\x56\x34\x12") || len(b) < 16<<20 {
		t.Errorf("a dump of %d bytes, beginning %q, without the mark", len(b), b[:8])
	}
	if st, _ := os.Stat(file); st.Mode().Perm() != 0o400 {
		t.Errorf("mode %v", st.Mode())
	}
	c.want(`{"execute":"dump-guest-memory","arguments":{"paging":false,"protocol":"file:/dev/full"}}`,
		`{"error": {"class": "GenericError", "desc": "dump: failed to write elf header: No space left on device"}}`, "STOP", "DUMP_COMPLETED", "RESUME")
}

func TestTheEmulatorStartsFastAndIdlesAtNothing(t *testing.T) {
	in := install(t, Options{})
	begin := time.Now()
	e := start(t, in.Emulator, plainArgs...)
	c := e.connect()
	took := time.Since(begin)
	t.Logf("start to negotiated: %v", took)
	if took > 5*time.Second { // on a quiet machine it is some 10 ms
		t.Errorf("the emulator took %v to start", took)
	}
	c.status("running")
	ticks := func() int {
		b, err := os.ReadFile("/proc/" + itoa(e.cmd.Process.Pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b))
		user, err1 := strconv.Atoi(f[13])
		system, err2 := strconv.Atoi(f[14])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return user + system
	}
	before := ticks()
	time.Sleep(500 * time.Millisecond) // the time in which it does nothing
	if used := ticks() - before; used > 2 {
		t.Errorf("an idle emulator used the processor for %d ms of 500", used*10)
	}
}
