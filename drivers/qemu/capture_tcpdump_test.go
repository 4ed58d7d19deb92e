//go:build linux

package qemu

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// tcpdumpSite is a site whose machines are recorded by tcpdump on the loopback interface, by an address that nobody else uses.
func tcpdumpSite(t *testing.T) *site {
	t.Helper()
	require.Tool(t, "tcpdump")
	if os.Geteuid() != 0 {
		t.Skip("not root, and what tcpdump may do then is the host's affair")
	}
	snaps := realSnapshots(t)
	s := newSite(t)
	s.config.Capture = CaptureTcpdump
	s.config.Tcpdump, _ = exec.LookPath("tcpdump")
	s.config.Interface = "lo"
	s.add("vm", snaps.disk, snaps.running).IP = "127.77.31.9"
	return s
}

// say sends a datagram from the machine's address.
func say(t *testing.T, from, to, text string) {
	t.Helper()
	local, _ := net.ResolveUDPAddr("udp", from)
	c, err := net.ListenUDP("udp", local)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	remote, _ := net.ResolveUDPAddr("udp", to)
	if _, err := c.WriteToUDP([]byte(text), remote); err != nil {
		t.Fatal(err)
	}
}

// hears takes in what is sent to the address. Otherwise there would be answers that quote it.
func hears(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		local, _ := net.ResolveUDPAddr("udp", a)
		c, err := net.ListenUDP("udp", local)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

// tcpdumps are the processes that record for the address.
func tcpdumps() (pids []int) {
	for _, pid := range process.Processes() {
		if line := strings.Join(process.CommandLine(pid), " "); strings.Contains(line, "host 127.77.31.9") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestTcpdumpRecordsFromBeforeTheStartToTheEndOfTheRun(t *testing.T) {
	s := tcpdumpSite(t)
	m := s.open(machinery.Options{})
	dir := scratch(t)
	path := filepath.Join(dir, "x.pcap")
	c := machinery.Capture{Path: path, Exclude: []machinery.Endpoint{{Host: "127.77.31.1", Port: 42042}}}
	if err := m.StartCapture(limit(t), "vm", c); err != nil {
		t.Fatal(err)
	}
	if len(tcpdumps()) > 0 {
		t.Error("tcpdump runs though the machine is off")
	}
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	hears(t, "127.77.31.1:42042", "127.77.31.1:42043")
	say(t, "127.77.31.9:41001", "127.77.31.1:42043", "to be kept")
	say(t, "127.77.31.9:41001", "127.77.31.1:42042", "to be left out")
	say(t, "127.77.31.8:41001", "127.77.31.1:42043", "another machine's")
	say(t, "127.77.31.9:42042", "127.77.31.1:42043", "the last")
	arrived(t, dir, "the last")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	got := recorded(t, path)
	if !has(got, "to be kept") || !has(got, "the last") || has(got, "to be left out") || has(got, "another machine's") {
		t.Errorf("recorded %q", got)
	}
	if pids := tcpdumps(); len(pids) > 0 {
		t.Errorf("tcpdump runs on: %d", pids)
	}
	if left := parts(t, dir); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	s.clean()
}

func TestTcpdumpSurvivesItsDriverAndIsEndedByTheNext(t *testing.T) {
	for _, end := range []string{"stop capture", "stop", "stop, with the id not noted", "QEMU killed"} {
		t.Run(end, func(t *testing.T) {
			s := tcpdumpSite(t)
			m := s.open(machinery.Options{})
			dir := scratch(t)
			path := filepath.Join(dir, "x.pcap")
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
				t.Fatal(err)
			}
			pid := m.frame.Named("vm").run.proc.PID
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if n := len(tcpdumps()); n != 1 {
				t.Fatalf("%d tcpdumps run on", n)
			}
			say(t, "127.77.31.9:41001", "127.77.31.1:42043", "nobody looks")
			arrived(t, dir, "nobody looks")
			again := s.open(machinery.Options{})
			switch end {
			case "stop capture":
				if err := again.StopCapture(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
				if err := again.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			case "stop, with the id not noted":
				// As of a driver that was killed before it could.
				state := filepath.Join(m.frame.Named("vm").dir, stateFile)
				l, err := readLedger(filepath.Dir(state))
				if err != nil {
					t.Fatal(err)
				}
				l.Capture.Tool.PID = 0
				data, _ := json.Marshal(l)
				if err := os.WriteFile(state, data, 0o600); err != nil {
					t.Fatal(err)
				}
				fallthrough
			case "stop":
				if err := again.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			default:
				proc, _ := os.FindProcess(pid)
				proc.Kill()
				until(t, "the end of QEMU", func() bool { return len(process.CommandLine(pid)) == 0 })
				mustKind(t, again.Stop(limit(t), "vm"), machinery.ErrStateReached)
			}
			if got := recorded(t, path); !has(got, "nobody looks") {
				t.Errorf("recorded %q", got)
			}
			if pids := tcpdumps(); len(pids) > 0 {
				t.Errorf("tcpdump runs on: %d", pids)
			}
			s.clean()
		})
	}
}

func TestTcpdumpThatCannotRecordFailsTheStartWithItsWords(t *testing.T) {
	down := ""
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			down = i.Name
		}
	}
	for _, c := range []struct{ name, iface, program, want string }{
		{"an interface that is missing", "nope0", "", "nope0"},
		{"an interface that is down", down, "", "not up"},
		{"no rights", "lo", "#!/bin/sh\nexec setpriv --reuid 65534 --clear-groups tcpdump \"$@\"\n", "permission"},
		{"a program that says nothing", "lo", "#!/bin/sh\nexit 3\n", "exit status 3"},
		{"no program", "lo", "-", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := tcpdumpSite(t)
			if c.iface == "" {
				t.Skip("no interface of this host is down")
			}
			s.config.Interface = c.iface
			if c.program != "" {
				s.config.Tcpdump = filepath.Join(s.dir, "tcpdump")
			}
			if len(c.program) > 1 {
				if err := os.WriteFile(s.config.Tcpdump, []byte(c.program), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			m := s.open(machinery.Options{})
			dir := scratch(t)
			path := filepath.Join(dir, "x.pcap")
			if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
				t.Fatal(err)
			}
			fails := func(err error) {
				t.Helper()
				mustKind(t, err, machinery.ErrCapture)
				if !strings.Contains(strings.ToLower(err.Error()), c.want) {
					t.Errorf("the error does not say %q: %v", c.want, err)
				}
				if left, _ := os.ReadDir(dir); len(left) > 0 || len(tcpdumps()) > 0 {
					t.Errorf("left: %v, processes %v", left, tcpdumps())
				}
			}
			fails(m.RestoreStart(limit(t), "vm"))
			s.clean()
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			fails(m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}))
			mustState(t, m, "vm", machinery.StateRunning, "")
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}

func TestTcpdumpThatEndsEarlyIsToldAndItsRecordingKept(t *testing.T) {
	s := tcpdumpSite(t)
	m := s.open(machinery.Options{})
	path := filepath.Join(scratch(t), "x.pcap")
	if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	say(t, "127.77.31.9:41001", "127.77.31.1:42043", "before")
	arrived(t, filepath.Dir(path), "before")
	proc, _ := os.FindProcess(tcpdumps()[0])
	proc.Kill()
	until(t, "the end of tcpdump", func() bool { return len(tcpdumps()) == 0 })
	err := m.Stop(limit(t), "vm")
	mustKind(t, err, machinery.ErrCapture)
	if !strings.Contains(err.Error(), "killed") {
		t.Errorf("the error does not say why: %v", err)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	if got := recorded(t, path); !has(got, "before") {
		t.Errorf("recorded %q", got)
	}
	s.clean()
}

func TestTcpdumpEndsAtItsBound(t *testing.T) {
	s := tcpdumpSite(t)
	m := s.open(machinery.Options{})
	path := filepath.Join(scratch(t), "x.pcap")
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path, MaxBytes: 4000}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); len(tcpdumps()) > 0 && time.Now().Before(end); {
		say(t, "127.77.31.9:41001", "127.77.31.1:42043", strings.Repeat("again ", 100))
	}
	if err := m.StopCapture(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 4000 || info.Size() < 2500 {
		t.Errorf("%v, %v", info, err)
	}
	recorded(t, path)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
