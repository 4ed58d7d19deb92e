//go:build linux

package qemu

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/pcap"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// peer is the other end of a machine's network: QEMU connects to it.
type peer struct {
	t     testing.TB
	path  string
	conns chan net.Conn
}

func newPeer(t testing.TB, dir, name string) *peer {
	t.Helper()
	p := &peer{t: t, path: filepath.Join(dir, name), conns: make(chan net.Conn, 8)}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// The very first frame, before QEMU does anything else.
			send(c, ethernet("first of "+name))
			for len(p.conns) == cap(p.conns) { // of runs that nobody asked about
				(<-p.conns).Close()
			}
			p.conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for len(p.conns) > 0 {
			(<-p.conns).Close()
		}
	})
	return p
}

// card is a network card that takes whatever comes, without a driver in the guest.
func (p *peer) card(id string) []string {
	return []string{"-netdev", "stream,id=" + id + ",server=off,addr.type=unix,addr.path=" + p.path, "-device", "pcnet,romfile=,netdev=" + id}
}

// conn is the connection to the machine's present run.
func (p *peer) conn() net.Conn {
	p.t.Helper()
	select {
	case c := <-p.conns:
		p.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(10 * time.Second):
		p.t.Fatal("QEMU has not connected its network card")
		return nil
	}
}

func send(c net.Conn, frame []byte) {
	c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

func ethernet(text string) []byte {
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 0x88, 0xb5}, text...)
	return append(f, make([]byte, 60)...)
}

// datagram is a frame with a UDP packet.
func datagram(from, to, text string) []byte {
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 8, 0, 0x45, 0}, 0, byte(28+len(text)), 0, 0, 0, 0, 64, 17, 0, 0)
	f = append(append(f, a.Addr().AsSlice()...), b.Addr().AsSlice()...)
	for _, n := range []uint16{a.Port(), b.Port(), uint16(8 + len(text)), 0} {
		f = binary.BigEndian.AppendUint16(f, n)
	}
	return append(f, text...)
}

// recorded reads a pcap file, and holds that tcpdump and tshark read as many packets in it.
func recorded(t testing.TB, path string) [][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, _ := f.Stat(); info.Mode() != 0o600 {
		t.Errorf("%s has the mode %v", path, info.Mode())
	}
	r, err := pcap.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.Clone(p.Data))
	}
	for _, tool := range []string{"tcpdump", "tshark"} {
		if _, err := exec.LookPath(tool); err != nil {
			require.Missing(skipNothing{t}, tool, err.Error())
			continue
		}
		cmd := exec.Command(tool, "-nr", "-")
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = in
		out, err := cmd.Output()
		in.Close()
		if lines := bytes.Count(out, []byte("\n")) - bytes.Count(out, []byte("\n\t")); err != nil || lines != len(all) {
			t.Errorf("%s reads %d packets of %d: %v\n%s", tool, lines, len(all), err, out)
		}
	}
	return all
}

// skipNothing goes on where a tool is missing that need not be there.
type skipNothing struct{ testing.TB }

func (s skipNothing) Skipf(format string, args ...any) { s.Logf(format, args...) }

func has(packets [][]byte, text string) bool {
	return slices.ContainsFunc(packets, func(p []byte) bool { return bytes.Contains(p, []byte(text)) })
}

// until waits for something that comes without a sign.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) { // between two looks at what has no event
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// parts are the hidden files in a directory.
func parts(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".*.part"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// arrived waits until something is in the files that are recorded to.
func arrived(t testing.TB, dir, text string) {
	t.Helper()
	until(t, text+" in "+dir, func() bool {
		for _, path := range parts(t, dir) {
			if data, _ := os.ReadFile(path); bytes.Contains(data, []byte(text)) {
				return true
			}
		}
		return false
	})
}

// netSite is a site with a machine that has these cards. Its snapshot is made without what they are connected to.
func netSite(t testing.TB, peers ...*peer) (*site, *Machinery) {
	t.Helper()
	s := newSite(t)
	var args, bare []string
	for i, p := range peers {
		id := "n" + string(rune('0'+i))
		args = append(args, p.card(id)...)
		bare = append(bare, "-device", "pcnet,romfile=")
	}
	s.add("vm", bootDisk(), netSnapshot(t, bare), machineArgs(args...)...).AllowArguments = []string{"-netdev stream"}
	return s, s.open(machinery.Options{})
}

func bootDisk() []byte { return append(bootSector(), make([]byte, 1<<20-512)...) }

// netSnapshot saves a running machine with more devices.
func netSnapshot(t testing.TB, more []string) []byte {
	t.Helper()
	require.Tool(t, "qemu", "qemu-system-x86_64")
	dir := scratch(t)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, bootDisk(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := machineArgs(more...)
	for i := range args {
		args[i] = strings.Replace(args[i], placeholder+",format=qcow2", disk+",format=raw", 1)
	}
	cmd := exec.CommandContext(limit(t), "qemu-system-x86_64", append(args, "-monitor", "stdio")...)
	cmd.Stdin = strings.NewReader("migrate \"exec:cat > " + dir + "/state\"\nquit\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAnArmedCaptureHoldsTheFirstFrameOfTheRun(t *testing.T) {
	dir := scratch(t)
	p := newPeer(t, dir, "p")
	s, m := netSite(t, p)
	for op, start := range map[string]func(context.Context, string) error{"restore": m.RestoreStart, "boot": m.NoRestoreStart} {
		path := filepath.Join(dir, op+".pcap")
		c := machinery.Capture{Path: path, Exclude: []machinery.Endpoint{{Host: "192.0.2.1", Port: 2042}}}
		if err := m.StartCapture(limit(t), "vm", c); err != nil {
			t.Fatal(err)
		}
		mustKind(t, m.StartCapture(limit(t), "vm", machinery.Capture{Path: path + "2"}), machinery.ErrUnexpectedState)
		if err := start(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		mustKind(t, m.StartCapture(limit(t), "vm", machinery.Capture{Path: path + "2"}), machinery.ErrUnexpectedState)
		conn := p.conn()
		send(conn, datagram("192.0.2.1:2042", "192.0.2.7:999", "to be left out"))
		send(conn, datagram("192.0.2.1:2043", "192.0.2.7:2042", "to be kept"))
		arrived(t, dir, "to be kept")
		if fileExists(path) {
			t.Error("the file is there before it is whole")
		}
		if err := m.Stop(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		got := recorded(t, path)
		if !has(got, "first of p") || !has(got, "to be kept") || has(got, "to be left out") {
			t.Errorf("%s: recorded %q", op, got)
		}
		if left := parts(t, dir); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
		mustKind(t, m.StopCapture(limit(t), "vm"), machinery.ErrStateReached)
	}
	s.clean()
}

func TestACaptureOfARunningMachineEndsWhenItIsToldTo(t *testing.T) {
	dir := scratch(t)
	a, b := newPeer(t, dir, "a"), newPeer(t, dir, "b")
	s, m := netSite(t, a, b)
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	toA, toB := a.conn(), b.conn()
	path := filepath.Join(dir, "x.pcap")
	for range 2 { // what the first has left is not in the way of the second
		if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
			t.Fatal(err)
		}
		mustState(t, m, "vm", machinery.StateRunning, "")
		for i, c := range []net.Conn{toA, toB, toA} {
			send(c, ethernet("frame "+string(rune('0'+i))))
			arrived(t, dir, "frame "+string(rune('0'+i)))
		}
		if err := m.StopCapture(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range recorded(t, path) {
			// QEMU announces a restored machine for half a second, by reverse ARP.
			if text := strings.Trim(string(f[14:]), "\x00"); strings.HasPrefix(text, "frame ") {
				got = append(got, text)
			}
		}
		if strings.Join(got, ",") != "frame 0,frame 1,frame 2" {
			t.Errorf("recorded %q; want the frames of both cards in the order in which they came", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	mustKind(t, m.StopCapture(limit(t), "vm"), machinery.ErrStateReached)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if left := parts(t, dir); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	s.clean()
}

func TestWhoeverTakesTheMachineOverFinishesItsCapture(t *testing.T) {
	for _, end := range []string{"stop capture", "stop", "killed"} {
		t.Run(end, func(t *testing.T) {
			dir := scratch(t)
			p := newPeer(t, dir, "p")
			s, m := netSite(t, p)
			path := filepath.Join(dir, "x.pcap")
			if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
				t.Fatal(err)
			}
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			conn := p.conn()
			pid := m.frame.Named("vm").run.proc.PID
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			send(conn, ethernet("nobody looks"))
			arrived(t, dir, "nobody looks")
			again := s.open(machinery.Options{})
			switch end {
			case "killed":
				proc, _ := os.FindProcess(pid)
				proc.Kill()
				until(t, "the end of QEMU", func() bool { return len(process.CommandLine(pid)) == 0 })
				mustKind(t, again.StopCapture(limit(t), "vm"), machinery.ErrStateReached)
			case "stop":
				if err := again.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			default:
				if err := again.StopCapture(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			}
			if got := recorded(t, path); !has(got, "first of p") || !has(got, "nobody looks") {
				t.Errorf("recorded %q", got)
			}
			if left := parts(t, dir); len(left) > 0 {
				t.Errorf("%q is left", left)
			}
			if err := again.Stop(limit(t), "vm"); err != nil && !errors.Is(err, machinery.ErrStateReached) {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}

func TestACaptureThatCannotBeMadeIsRefused(t *testing.T) {
	dir := scratch(t)
	p := newPeer(t, dir, "p")
	s, m := netSite(t, p)
	s2 := newSite(t)
	s2.add("vm", bootDisk(), realSnapshots(t).running)
	bare := s2.open(machinery.Options{})
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	free := filepath.Join(dir, "free")
	check := func(when string) {
		for name, c := range map[string]machinery.Capture{
			"no path": {}, "a file": {Path: taken}, "a link": {Path: filepath.Join(dir, "link")}, "a directory": {Path: dir},
			"no directory": {Path: filepath.Join(dir, "none/x")}, "below a file": {Path: filepath.Join(taken, "x")},
			"a negative bound": {Path: free, MaxBytes: -1}, "a bound without room": {Path: free, MaxBytes: 23},
			"a name to leave out": {Path: free, Exclude: []machinery.Endpoint{{Host: "localhost", Port: 1}}},
			"words to leave out":  {Path: free, Exclude: []machinery.Endpoint{{Host: "192.0.2.1 or tcp", Port: 1}}},
			"no port":             {Path: free, Exclude: []machinery.Endpoint{{Host: "192.0.2.1"}}},
			"a port beyond":       {Path: free, Exclude: []machinery.Endpoint{{Host: "192.0.2.1", Port: 65536}}},
		} {
			err := m.StartCapture(limit(t), "vm", c)
			if machinery.KindOf(err) != machinery.ErrConfig {
				t.Errorf("%s, with %s: %v", when, name, err)
			}
		}
	}
	check("off")
	mustKind(t, m.StopCapture(limit(t), "vm"), machinery.ErrStateReached)
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	p.conn()
	check("running")
	mustState(t, m, "vm", machinery.StateRunning, "")

	// A machine without a card, off and on.
	mustKind(t, bare.StartCapture(limit(t), "vm", machinery.Capture{Path: free}), machinery.ErrCapture)
	if err := bare.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, bare.StartCapture(limit(t), "vm", machinery.Capture{Path: free}), machinery.ErrCapture)

	// A path that is taken between arming and the start, and one that is taken while it is recorded.
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	for i, when := range []string{"before the start", "during the run"} {
		path := free + when
		if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
			t.Fatal(err)
		}
		take := func() {
			if err := os.WriteFile(path, []byte("somebody's"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			take()
			mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrConfig)
		} else {
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			p.conn()
			take()
			mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrCapture)
			mustState(t, m, "vm", machinery.StatePoweroff, "")
		}
		if data, _ := os.ReadFile(path); string(data) != "somebody's" {
			t.Errorf("what was at the path is %q", data)
		}
	}
	if left := parts(t, dir); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	s.clean()
}

func TestACaptureHasNoMoreThanItsBound(t *testing.T) {
	dir := scratch(t)
	p := newPeer(t, dir, "p")
	s, m := netSite(t, p)
	path := filepath.Join(dir, "x.pcap")
	if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path, MaxBytes: 1000}); err != nil {
		t.Fatal(err)
	}
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	conn := p.conn()
	for range 20 {
		send(conn, ethernet("again and again"))
	}
	v := m.frame.Named("vm")
	until(t, "the end of the recording", func() bool {
		mon, err := v.run.master(limit(t))
		var text string
		return err == nil && mon.Execute(limit(t), "human-monitor-command", map[string]any{"command-line": "info network"}, &text) == nil && !strings.Contains(text, "filter-dump")
	})
	if err := m.StopCapture(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1000 || info.Size() < 800 {
		t.Errorf("%v, %v", info.Size(), err)
	}
	recorded(t, path)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestBackendsAreFoundInWhatQEMUSays(t *testing.T) {
	// Seen on QEMU 7.2.22.
	const said = "hub 0\r\n \\ hub0port1: #net233: index=0,type=user,net=10.0.2.0,restrict=off\r\n \\ hub0port0: rtl8139.0: index=0,type=nic,model=rtl8139,macaddr=52:54:00:12:34:57\r\n" +
		"e1000.0: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:56\r\n \\ #net042: index=0,type=user,net=10.0.2.0,restrict=off\r\n" +
		"e1000.1: index=0,type=nic,model=e1000,macaddr=52:54:00:12:34:58\r\n \\ n0: index=0,type=socket,socket: udp=127.0.0.1:12001\r\n" +
		"filters:\r\n  - f0: type=filter-dump,file=a: index=0,type=user,netdev=n0\r\n"
	if got := strings.Join(backendsIn(said), " "); got != "#net233 #net042 n0" {
		t.Errorf("found %q", got)
	}
}

func TestBackendsInTheArgumentsAllGetAName(t *testing.T) {
	named, ids := namedBackends([]string{"-nodefaults", "-netdev", "user,id=a,,b", "-device", "e1000,netdev=x", "-nic", "user,model=e1000", "-net", "nic", "-net", "user",
		"-nic", "none", "-netdev", "hubport,id=h,hubid=0", "-netdev", `{"type":"user","id":"j"}`, "-name", "-netdev"})
	want := []string{"-nodefaults", "-netdev", "user,id=a,,b", "-device", "e1000,netdev=x", "-nic", "user,model=e1000,id=machinery-net-1", "-net", "nic", "-net", "user,id=machinery-net-2",
		"-nic", "none", "-netdev", "hubport,id=h,hubid=0", "-netdev", `{"type":"user","id":"j"}`, "-name", "-netdev"}
	if !slices.Equal(named, want) || !slices.Equal(ids, []string{"a,b", "machinery-net-1", "machinery-net-2", "j"}) {
		t.Errorf("named %q\nids %q", named, ids)
	}
}
