//go:build linux

package qemu

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

// onBoth runs a test on the fake, and on a real emulator through the interposer.
func onBoth(t *testing.T, o Options, test func(t *testing.T, in *Installation)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) { test(t, install(t, Options{})) })
	t.Run("real", func(t *testing.T) {
		require.Tool(t, "qemu", emulatorName, imgName)
		real, err := exec.LookPath(emulatorName)
		if err != nil {
			t.Fatal(err)
		}
		o.Real = real
		test(t, install(t, o))
	})
}

func planFaults(t *testing.T, in *Installation, faults ...Fault) {
	t.Helper()
	if err := in.Plan("", faults...); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsOfTheWireStrikeFakeAndRealAlike(t *testing.T) {
	status := `{"execute":"query-status","id":1}`
	statusReply := `{"return": {"status": "prelaunch", "singlestep": false, "running": false}, "id": 1}`
	silent := func(t *testing.T, c *client) {
		t.Helper()
		if s, err := c.read(150 * time.Millisecond); err != errSilence {
			t.Errorf("got %q, %v; want silence", s, err)
		}
	}
	ends := func(t *testing.T, c *client) {
		t.Helper()
		for {
			if _, err := c.read(patience); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal("the connection does not end")
			}
		}
	}
	for _, tc := range []struct {
		name  string
		fault Fault
		test  func(t *testing.T, e *emulator)
	}{
		{"a late reply comes after the next one", Fault{Point: PointReply, Command: "query-status", Action: Late, Delay: 200 * time.Millisecond}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			c.want(`{"execute":"query-kvm","id":2}`, c.kvmReply())
			if l := c.line(); l != statusReply {
				t.Error(l)
			}
		}},
		{"a double reply comes twice", Fault{Point: PointReply, Command: "query-status", Action: Double}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(status, statusReply)
			if l := c.line(); l != statusReply {
				t.Error(l)
			}
		}},
		{"a refused command takes no effect", Fault{Point: PointCommand, Command: "cont", Action: Refuse, Text: "no", Class: "DeviceNotActive"}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(`{"execute":"cont","id":"x"}`, `{"id": "x", "error": {"class": "DeviceNotActive", "desc": "no"}}`)
			c.want(status, statusReply)
		}},
		{"a reply that lies comes after the effect", Fault{Point: PointReply, Command: "cont", Action: Refuse, Text: "no"}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(`{"execute":"cont"}`, `{"error": {"class": "GenericError", "desc": "no"}}`, "RESUME")
			c.status("running")
		}},
		{"a pretended command takes no effect", Fault{Point: PointCommand, Command: "cont", Action: Pretend}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(`{"execute":"cont"}`, okReply)
			c.want(status, statusReply)
		}},
		{"a swallowed reply never comes", Fault{Point: PointReply, Command: "query-status", Action: Swallow, Times: 1}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			silent(t, c)
			c.want(status, statusReply)
		}},
		{"a swallowed event never comes", Fault{Point: PointEvent, Command: "RESUME", Action: Swallow}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(`{"execute":"cont"}`, okReply)
			c.want(`{"execute":"stop"}`, okReply, "STOP")
		}},
		{"a hung monitor stays so for later clients", Fault{Point: PointCommand, Command: "query-status", Action: Hang}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			silent(t, c)
			c.conn.Close()
			silent(t, e.dial())
			e.cmd.Process.Signal(syscall.SIGTERM)
			e.ended()
		}},
		{"a monitor hangs after half a reply", Fault{Point: PointReply, Command: "query-status", Action: Half}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			silent(t, c)
			if got := string(c.buf); got == "" || !strings.HasPrefix(statusReply, got) {
				t.Errorf("half of the reply is %q", got)
			}
		}},
		{"a connection is dropped and the next is served", Fault{Point: PointCommand, Command: "query-status", Action: Drop, Times: 1}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			ends(t, c)
			e.connect().want(status, statusReply)
		}},
		{"garbage comes before a reply", Fault{Point: PointReply, Command: "query-status", Action: Garbage, Text: "]}garbage\n"}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(status)
			if l := c.line(); l != "]}garbage" {
				t.Error(l)
			}
			if l := c.line(); l != statusReply {
				t.Error(l)
			}
		}},
		{"a flood of events comes before a reply", Fault{Point: PointReply, Command: "query-status", Action: Flood, Bytes: 20_000}, func(t *testing.T, e *emulator) {
			c := e.connect()
			reply, events := c.do(status)
			if reply != statusReply || len(events) != 20_000 {
				t.Errorf("%d events, reply %s", len(events), reply)
			}
		}},
		{"the emulator dies at a command", Fault{Point: PointCommand, Command: "cont", Action: Kill}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(`{"execute":"cont"}`)
			ends(t, c)
			e.ended()
			if ws := e.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Errorf("%v", e.cmd.ProcessState)
			}
		}},
		{"the emulator exits at a command", Fault{Point: PointCommand, Command: "cont", Action: Exit, Code: 7, Text: "it broke"}, func(t *testing.T, e *emulator) {
			e.connect().send(`{"execute":"cont"}`)
			if code := e.ended(); code != 7 || e.stderr.String() != "it broke\n" {
				t.Errorf("exit code %d, stderr %q", code, e.stderr.String())
			}
		}},
		{"the greeting never comes", Fault{Point: PointGreeting, Action: Hang}, func(t *testing.T, e *emulator) { silent(t, e.dial()) }},
		{"the greeting comes late", Fault{Point: PointGreeting, Action: Delay, Delay: 300 * time.Millisecond}, func(t *testing.T, e *emulator) {
			begin := time.Now()
			e.connect().want(status, statusReply)
			if d := time.Since(begin); d < 300*time.Millisecond {
				t.Errorf("after %v", d)
			}
		}},
		{"the emulator stays after quit and SIGTERM", Fault{Point: PointExit, Action: Stay}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.want(`{"execute":"quit"}`, okReply, "SHUTDOWN")
			c.want(status, statusReply)
			e.cmd.Process.Signal(syscall.SIGTERM)
			c.want(status, statusReply)
		}},
		{"the emulator hangs at quit", Fault{Point: PointExit, Action: Hang, Deaf: true}, func(t *testing.T, e *emulator) {
			c := e.connect()
			c.send(`{"execute":"quit"}`)
			e.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-e.done:
				t.Error("it ended")
			case <-time.After(200 * time.Millisecond):
			}
		}},
		{"quit ends with another code", Fault{Point: PointExit, Action: Exit, Code: 3, Text: "bad end"}, func(t *testing.T, e *emulator) {
			e.connect().send(`{"execute":"quit"}`)
			if code := e.ended(); code != 3 || e.stderr.String() != "bad end\n" {
				t.Errorf("exit code %d, stderr %q", code, e.stderr.String())
			}
		}},
		{"noise on stderr", Fault{Point: PointStart, Action: Noise, Bytes: 1 << 20}, func(t *testing.T, e *emulator) {
			e.connect().want(status, statusReply)
			if e.cmd.Process.Kill(); e.ended() != -1 || e.stderr.Len() < 1<<20 {
				t.Errorf("%d bytes of noise", e.stderr.Len())
			}
		}},
		{"a slow start", Fault{Point: PointStart, Action: Delay, Delay: 300 * time.Millisecond}, func(t *testing.T, e *emulator) {
			begin := time.Now()
			e.connect()
			if d := time.Since(begin); d < 250*time.Millisecond {
				t.Errorf("after %v", d)
			}
		}},
		{"a start that fails", Fault{Point: PointStart, Action: Exit, Code: 1, Text: "qemu-system-x86_64: no luck"}, func(t *testing.T, e *emulator) {
			if code := e.ended(); code != 1 || e.stderr.String() != "qemu-system-x86_64: no luck\n" {
				t.Errorf("exit code %d, stderr %q", code, e.stderr.String())
			}
		}},
		{"a start that hangs", Fault{Point: PointStart, Action: Hang, Deaf: true}, func(t *testing.T, e *emulator) {
			silent(t, e.dial())
			e.cmd.Process.Signal(syscall.SIGTERM)
			silent(t, e.dial())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			onBoth(t, Options{}, func(t *testing.T, in *Installation) {
				planFaults(t, in, tc.fault)
				tc.test(t, start(t, in.Emulator, with("-S")...))
			})
		})
	}
}

// kvmReply is what query-kvm answers with id 2 on this machine.
func (c *client) kvmReply() string {
	c.t.Helper()
	return `{"return": {"enabled": false, "present": true}, "id": 2}`
}

func TestAnInterposedEmulatorIsTheRealOne(t *testing.T) {
	require.Tool(t, "qemu", emulatorName, imgName)
	real, err := exec.LookPath(emulatorName)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("without faults it takes the process over", func(t *testing.T) {
		in := install(t, Options{Real: real})
		e := start(t, in.Emulator, with("-S")...)
		e.connect()
		exe, err := os.Readlink("/proc/" + itoa(e.cmd.Process.Pid) + "/exe")
		if err != nil || exe != real {
			t.Errorf("the process is %s, %v", exe, err)
		}
		if ps := in.Processes(); len(ps) != 1 || ps[0].PID != e.cmd.Process.Pid || !ps[0].Alive() {
			t.Errorf("processes %+v", ps)
		}
	})
	t.Run("watched it answers and passes descriptors, and its end is its own", func(t *testing.T) {
		in := install(t, Options{Real: real, Watch: true})
		e := start(t, in.Emulator, with("-S", "-no-reboot")...)
		c := e.connect()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		if _, _, err := c.conn.(*net.UnixConn).WriteMsgUnix([]byte(`{"execute":"getfd","arguments":{"fdname":"x"}}`+"\n"), syscall.UnixRights(int(w.Fd())), nil); err != nil {
			t.Fatal(err)
		}
		if l := c.line(); l != okReply {
			t.Fatal(l)
		}
		p := in.Processes()[0]
		if _, err := p.Do(ctx(t), `{"execute":"cont"}`); err != nil {
			t.Error(err)
		}
		c.event("RESUME")
		c.status("running")
		if p.Status() != "running" {
			t.Errorf("status %q", p.Status())
		}
		_, err = p.Do(ctx(t), `{"execute":"nonsense"}`)
		var ce *CommandError
		if !asError(err, &ce) || ce.Class != "CommandNotFound" {
			t.Errorf("%v", err)
		}
		if got := strings.Join(p.Commands(), " "); !strings.HasPrefix(got, "qmp_capabilities getfd query-status") {
			t.Errorf("commands %q", got)
		}
		c.conn.Close()
		again := e.connect()
		again.want(`{"execute":"system_reset"}`, okReply, "SHUTDOWN") // -no-reboot
		if code := e.ended(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
	t.Run("a failed start is the real one's", func(t *testing.T) {
		in := install(t, Options{Real: real, Watch: true})
		out, err := exec.Command(in.Emulator, with("-drive", "file=/nonexistent")...).CombinedOutput()
		if want := "qemu-system-x86_64: -drive file=/nonexistent: Could not open '/nonexistent': No such file or directory\n"; string(out) != want {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("the child does not outlive the interposer", func(t *testing.T) {
		in := install(t, Options{Real: real, Watch: true})
		e := start(t, in.Emulator, with("-S")...)
		c := e.connect()
		reply, _ := c.do(`{"execute":"query-cpus-fast"}`)
		_, after, _ := strings.Cut(reply, `"thread-id": `)
		tid, _, _ := strings.Cut(after, ",")
		e.cmd.Process.Kill()
		e.ended()
		waitFor(t, "the child's end", func() bool {
			_, err := os.Stat("/proc/" + tid)
			return os.IsNotExist(err)
		})
	})
}
