package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/machinery"
)

// captureSpecs: the machine's traffic in a file.
var captureSpecs = []spec{
	{Requirement{ID: "MM-CAPTURE-001", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture that was started while the machine was off holds the first frame of its next run, and is a whole pcap file when Stop returns.",
		Why:    "What a sample does first, a name that it looks up, is what identifies it.",
		Source: "machinery.NetworkCapturer; Cuckoo3: start_netcapture before the machine is started"}, captureFirst},
	{Requirement{ID: "MM-CAPTURE-002", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture of a running machine holds the frames between StartCapture and StopCapture and is a whole pcap file when StopCapture returns; the machine runs all the while.",
		Why:    "A file that is still being written to is read as one that is damaged.",
		Source: "machinery.NetworkCapturer"}, captureRunning},
	{Requirement{ID: "MM-CAPTURE-003", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "What comes from or goes to an excluded address and port is not in the file, and all else is, such as the same port of another address.",
		Why:    "The sandbox's own agent and result server would hide the sample's traffic; but one that uses the same port must not be hidden with them.",
		Source: "machinery.Capture, Exclude; Cuckoo3: ignore_ip_ports"}, captureExcludes},
	{Requirement{ID: "MM-CAPTURE-004", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A second capture of the same machine is refused as \"not possible in this state\", and the first goes on.",
		Why:    "One analysis would record into another's file.",
		Source: "machinery.NetworkCapturer"}, captureTwice},
	{Requirement{ID: "MM-CAPTURE-005", Level: Must, Op: machinery.OpStopCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "To end a capture where none is under way or armed is \"already in that state\", whatever the machine does.",
		Why:    "A caller that clears up does not know how far it had come.",
		Source: "machinery.NetworkCapturer"}, captureNone},
	{Requirement{ID: "MM-CAPTURE-006", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A path at which there is something already, or at which no file can be made, is an error of kind \"wrong configuration\"; nothing is changed, and no capture is under way.",
		Why:    "It may be another analysis' capture, or a link that leads to any file of the host.",
		Source: "machinery.Capture, Path"}, capturePath},
	{Requirement{ID: "MM-CAPTURE-007", Level: Must, Op: machinery.OpStopCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture can be read by its owner alone (mode 0600), and nothing lies beside it when it has ended.",
		Why:    "Traffic holds passwords and cookies.",
		Source: "machinery.NetworkCapturer"}, capturePrivate},
	{Requirement{ID: "MM-CAPTURE-008", Level: Must, Op: machinery.OpStopCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture that is armed is taken back by StopCapture and leaves no file; one that is not is for the next run alone.",
		Why:    "The traffic of the next analysis would be recorded for the one that was given up.",
		Source: "machinery.NetworkCapturer"}, captureOnce},
	{Requirement{ID: "MM-CAPTURE-009", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture's file is not longer than the bound that was given, and ends with a whole packet.",
		Why:    "A sample that floods the network fills the host's disk.",
		Source: "machinery.Capture, MaxBytes"}, captureBound},
	{Requirement{ID: "MM-CAPTURE-010", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "Captures of several machines at once hold each its own machine's traffic.",
		Why:    "One sample's traffic would be taken for another's.",
		Source: "machinery.NetworkCapturer"}, captureApart},
	{Requirement{ID: "MM-CAPTURE-011", Level: Must, Op: machinery.OpRestoreStart, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork, FaultFeature(FaultRefuseStart)},
		Rule:   "A start that fails leaves no file of the capture that was armed for it.",
		Why:    "An empty capture is taken for that of a sample without traffic.",
		Source: "machinery, \"What each operation promises\""}, captureFailedStart},
	{Requirement{ID: "MM-CAPTURE-012", Level: Must, Op: machinery.OpStartCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork, FaultFeature(FaultKill)},
		Rule:   "When the machine goes off by itself its capture is completed, without being asked for.",
		Why:    "A sample that switches the machine off would take its traffic with it.",
		Source: "machinery.NetworkCapturer, StopCapture"}, captureKilled},
	{Requirement{ID: "MM-CAPTURE-013", Level: Must, Op: machinery.OpStopCapture, Capability: machinery.CapNetworkCapture, Needs: []Feature{FeatureGuest, FeatureNetwork},
		Rule:   "A capture goes on when its driver is closed and the machine runs on; the next driver that takes it over completes it.",
		Why:    "Between two commands, or while the sandbox is started again, the sample goes on.",
		Source: "machinery.Machinery, Close"}, captureClosed},
}

// StartCapture calls the driver's operation.
func (h *Handle) StartCapture(name string, c machinery.Capture) error {
	return h.returned(h.w.call(h.w.Timing.Start, machinery.OpStartCapture, name, func() error { return machinery.StartCapture(h.w.Ctx, h.M, name, c) }))
}

// StopCapture calls the driver's operation.
func (h *Handle) StopCapture(name string) error {
	return h.returned(h.w.call(h.w.Timing.Start, machinery.OpStopCapture, name, func() error { return machinery.StopCapture(h.w.Ctx, h.M, name) }))
}

// networked opens the driver on machines with a network card, each named.
func (w *World) networked(names ...string) (*Handle, Networked) {
	specs := []MachineSpec{}
	for _, name := range names {
		specs = append(specs, MachineSpec{Name: name, Network: true})
	}
	return w.networkedWith(specs...)
}

var errNotNetworked = errors.New("the lab offers a network, and its bench has none")

func (w *World) networkedWith(specs ...MachineSpec) (*Handle, Networked) {
	h := w.Open(specs...)
	h.Requires(machinery.CapNetworkCapture)
	net, ok := w.bench.(Networked)
	if !ok {
		w.Lab(errNotNetworked, "looking for the machines' network")
	}
	return h, net
}

// transmit sends a frame to a machine.
func (w *World) transmit(net Networked, name string, frame []byte) {
	w.Lab(net.Transmit(w.Ctx, name, frame), "sending a frame to the machine")
}

// holds fails the check unless the file is a pcap file that holds these frames and not those.
func (w *World) holds(path, when string, frames, not [][]byte) {
	r, err := readRecording(path)
	if err != nil {
		w.Failf("%s, the capture cannot be read: %v", when, err)
	}
	for _, f := range frames {
		if !r.has(f) {
			w.Failf("%s, the capture with %d packets lacks the frame %q", when, len(r), text(f))
		}
	}
	for _, f := range not {
		if r.has(f) {
			w.Failf("%s, the capture holds the frame %q, which it should not", when, text(f))
		}
	}
}

// text is what a frame of the suite says.
func text(frame []byte) string {
	var b []byte
	for _, c := range frame[14:] {
		if c >= ' ' && c < 0x7F {
			b = append(b, c)
		}
	}
	return string(b)
}

func captureFirst(w *World) {
	h, net := w.networked("a")
	path := filepath.Join(w.dumps(), "a.pcap")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: path}), "arming a capture of a machine that is off")
	h.Is("a", "with a capture armed", machinery.StatePoweroff)
	h.Restored("a", machinery.StateRunning)
	last := Frame("the last before the stop")
	w.transmit(net, "a", last)
	w.NoError(h.Stop("a"), "stopping a machine whose traffic is recorded")
	w.holds(path, "when Stop has returned", [][]byte{net.Greeting("a"), last}, nil)
}

func captureRunning(w *World) {
	h, net := w.networked("a")
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	before, after := Frame("before the capture"), Frame("after the capture")
	w.transmit(net, "a", before)
	dir := w.dumps()
	for i := range 2 {
		path := filepath.Join(dir, fmt.Sprintf("%d.pcap", i))
		within := Frame(fmt.Sprintf("in capture %d", i))
		w.NoError(h.StartCapture("a", machinery.Capture{Path: path}), "starting a capture of a running machine")
		h.Is("a", "while its traffic is recorded", machinery.StateRunning)
		w.transmit(net, "a", within)
		w.NoError(h.StopCapture("a"), "ending a capture")
		w.holds(path, "when StopCapture has returned", [][]byte{within}, [][]byte{before, after})
		w.transmit(net, "a", after)
		h.Is("a", "after a capture", machinery.StateRunning)
		w.moves(g, "after a capture")
		w.holds(path, "some time after StopCapture has returned", [][]byte{within}, [][]byte{before, after})
	}
}

func captureExcludes(w *World) {
	h, net := w.networked("a")
	h.Restored("a", machinery.StateRunning)
	at := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	server, other := at("192.0.2.200:2042"), at("198.51.100.7:2042")
	guest := at("192.0.2.1:49152")
	agent := at("192.0.2.1:8000")
	out := [][]byte{Datagram(guest, server, "to the result server"), Datagram(server, guest, "from the result server"), Datagram(other, agent, "to the agent")}
	kept := [][]byte{
		Datagram(guest, other, "to the same port of another"), Datagram(netip.AddrPortFrom(server.Addr(), 53), guest, "from another port of the server"),
		Datagram(guest, netip.AddrPortFrom(other.Addr(), 8000), "from the agent's address to the agent's port of another"), Frame("of no address at all"),
	}
	path := filepath.Join(w.dumps(), "a.pcap")
	c := machinery.Capture{Path: path, Exclude: []machinery.Endpoint{{Host: "192.0.2.200", Port: 2042}, {Host: "192.0.2.1", Port: 8000}}}
	w.NoError(h.StartCapture("a", c), "starting a capture with endpoints to leave out")
	for _, f := range append(append([][]byte(nil), out...), kept...) {
		w.transmit(net, "a", f)
	}
	w.NoError(h.StopCapture("a"), "ending a capture")
	w.holds(path, "with endpoints to leave out", kept, out)
}

func captureTwice(w *World) {
	h, net := w.networked("a")
	dir := w.dumps()
	first, second := filepath.Join(dir, "1.pcap"), filepath.Join(dir, "2.pcap")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: first}), "arming a capture")
	w.Kind(h.StartCapture("a", machinery.Capture{Path: second}), machinery.ErrUnexpectedState, "starting a capture while one is armed")
	h.Restored("a", machinery.StateRunning)
	w.Kind(h.StartCapture("a", machinery.Capture{Path: second}), machinery.ErrUnexpectedState, "starting a capture while one is under way")
	frame := Frame("after the second was refused")
	w.transmit(net, "a", frame)
	w.NoError(h.StopCapture("a"), "ending the capture")
	w.holds(first, "after a second was refused", [][]byte{frame}, nil)
	w.holdsOnly(dir, "after a second capture was refused", "1.pcap")
}

func captureNone(w *World) {
	h, _ := w.networked("a")
	w.Kind(h.StopCapture("a"), machinery.ErrStateReached, "ending a capture of a machine that is off")
	h.Restored("a", machinery.StateRunning)
	w.Kind(h.StopCapture("a"), machinery.ErrStateReached, "ending a capture of a running machine that has none")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: filepath.Join(w.dumps(), "a.pcap")}), "starting a capture")
	w.NoError(h.StopCapture("a"), "ending it")
	w.Kind(h.StopCapture("a"), machinery.ErrStateReached, "ending a capture a second time")
	h.Is("a", "after that", machinery.StateRunning)
}

func capturePath(w *World) {
	const content = "something of somebody's"
	h, _ := w.networked("a")
	dir := w.dumps()
	at := func(name string) string { return filepath.Join(dir, name) }
	w.Lab(os.WriteFile(at("file"), []byte(content), 0o640), "making a file")
	w.Lab(os.Mkdir(at("directory"), 0o700), "making a directory")
	w.Lab(os.Symlink(at("elsewhere"), at("link")), "making a link")
	for _, state := range []machinery.State{machinery.StatePoweroff, machinery.StateRunning} {
		if state == machinery.StateRunning {
			h.Restored("a", state)
		}
		for _, name := range []string{"file", "directory", "link", "none/x.pcap", "file/x.pcap"} {
			w.Kind(h.StartCapture("a", machinery.Capture{Path: at(name)}), machinery.ErrConfig, "starting a capture to %q, of a machine that is %s", name, state)
		}
		w.Kind(h.StartCapture("a", machinery.Capture{}), machinery.ErrConfig, "starting a capture to no path at all")
		h.Is("a", "after captures that were refused", state)
		w.Kind(h.StopCapture("a"), machinery.ErrStateReached, "ending a capture after all were refused")
	}
	w.holdsOnly(dir, "after captures to paths that were taken", "directory", "file", "link")
	data, err := os.ReadFile(at("file"))
	w.Lab(err, "reading the file")
	if string(data) != content {
		w.Failf("the file that was at the capture's path holds %q now; it held %q", data, content)
	}
}

func capturePrivate(w *World) {
	h, net := w.networked("a")
	dir := w.dumps()
	w.NoError(h.StartCapture("a", machinery.Capture{Path: filepath.Join(dir, "a.pcap"), Exclude: []machinery.Endpoint{{Host: "192.0.2.1", Port: 8000}}}), "arming a capture")
	h.Restored("a", machinery.StateRunning)
	w.transmit(net, "a", Frame("something"))
	w.NoError(h.Stop("a"), "stopping the machine")
	w.holdsOnly(dir, "after a capture", "a.pcap")
	info, err := os.Stat(filepath.Join(dir, "a.pcap"))
	w.Lab(err, "looking at the capture")
	if mode := info.Mode().Perm(); mode != 0o600 {
		w.Failf("the capture has the mode %#o; want 0600", mode)
	}
}

func captureOnce(w *World) {
	h, net := w.networked("a")
	dir := w.dumps()
	w.NoError(h.StartCapture("a", machinery.Capture{Path: filepath.Join(dir, "back.pcap")}), "arming a capture")
	w.NoError(h.StopCapture("a"), "taking back a capture that is armed")
	h.Restored("a", machinery.StateRunning)
	w.transmit(net, "a", Frame("not recorded"))
	w.NoError(h.Stop("a"), "stopping the machine")
	w.empty(dir, "after a run whose capture was taken back")

	path := filepath.Join(dir, "once.pcap")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: path}), "arming a capture")
	h.Restored("a", machinery.StateRunning)
	w.NoError(h.Stop("a"), "stopping the machine")
	w.Lab(os.Rename(path, path+".1"), "taking the capture away")
	h.Restored("a", machinery.StateRunning)
	w.transmit(net, "a", Frame("of another run"))
	w.Kind(h.StopCapture("a"), machinery.ErrStateReached, "ending a capture in the run after the recorded one")
	w.NoError(h.Stop("a"), "stopping the machine")
	w.holdsOnly(dir, "after a second run", "once.pcap.1")
}

func captureBound(w *World) {
	const bound = 2000
	h, net := w.networked("a")
	h.Restored("a", machinery.StateRunning)
	path := filepath.Join(w.dumps(), "a.pcap")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: path, MaxBytes: bound}), "starting a capture with a bound")
	first := Frame("number 0")
	for i := range 100 {
		w.transmit(net, "a", Frame(fmt.Sprintf("number %d", i)))
	}
	w.NoError(h.StopCapture("a"), "ending a capture that has its bound")
	w.holds(path, "with a bound", [][]byte{first}, nil)
	info, err := os.Stat(path)
	w.Lab(err, "looking at the capture")
	if info.Size() > bound {
		w.Failf("the capture has %d bytes; it was to have %d at most", info.Size(), bound)
	}
	h.Is("a", "after a capture that had its bound", machinery.StateRunning)
}

func captureApart(w *World) {
	h, net := w.networked("a", "b")
	dir := w.dumps()
	names := []string{"a", "b"}
	for _, name := range names {
		w.NoError(h.StartCapture(name, machinery.Capture{Path: filepath.Join(dir, name)}), "arming a capture of %q", name)
	}
	for _, name := range names {
		h.Restored(name, machinery.StateRunning)
	}
	for _, name := range names {
		w.transmit(net, name, Frame("for machine "+name))
	}
	for i, name := range names {
		other := names[1-i]
		w.NoError(h.Stop(name), "stopping %q", name)
		w.holds(filepath.Join(dir, name), "beside another machine", [][]byte{net.Greeting(name), Frame("for machine " + name)}, [][]byte{net.Greeting(other), Frame("for machine " + other)})
	}
}

func captureFailedStart(w *World) {
	h, _ := w.networkedWith(MachineSpec{Name: "a", Network: true, Faults: []Fault{{Kind: FaultRefuseStart, Text: "the suite refuses"}}})
	dir := w.dumps()
	w.NoError(h.StartCapture("a", machinery.Capture{Path: filepath.Join(dir, "a.pcap")}), "arming a capture")
	if err := h.RestoreStart("a"); err == nil {
		h.Becomes("a", "after a start that the hypervisor refused", machinery.StateError)
	}
	w.Within(w.Timing.Clean, func() string {
		entries, err := os.ReadDir(dir)
		w.Lab(err, "looking into the directory of the capture")
		if len(entries) == 0 {
			return ""
		}
		return fmt.Sprintf("after a start that failed, there is %q of its capture", entries[0].Name())
	})
}

func captureKilled(w *World) {
	h, net := w.networkedWith(MachineSpec{Name: "a", Network: true, Faults: []Fault{{Kind: FaultKill}}})
	path := filepath.Join(w.dumps(), "a.pcap")
	w.NoError(h.StartCapture("a", machinery.Capture{Path: path}), "arming a capture")
	h.Restored("a", machinery.StateRunning)
	frame := Frame("before the end")
	w.transmit(net, "a", frame)
	w.Lab(w.bench.Inject(w.Ctx, "a", Fault{Kind: FaultKill}), "killing the machine")
	w.Within(w.Timing.Clean, func() string {
		if _, err := os.Stat(path); err != nil {
			return "the machine is gone, and its capture is not there: " + err.Error()
		}
		return ""
	})
	w.holds(path, "after the machine was killed", [][]byte{net.Greeting("a"), frame}, nil)
}

func captureClosed(w *World) {
	h, net := w.networked("a")
	path := filepath.Join(w.dumps(), "a.pcap")
	h.Restored("a", machinery.StateRunning)
	w.NoError(h.StartCapture("a", machinery.Capture{Path: path}), "starting a capture")
	w.NoError(h.Close(), "closing the driver")
	frame := Frame("while no driver is there")
	w.transmit(net, "a", frame)
	next := w.OpenAgain()
	w.NoError(next.StopCapture("a"), "ending the capture that another driver has started")
	w.holds(path, "ended by another driver", [][]byte{frame}, nil)
	next.Is("a", "after its capture was ended", machinery.StateRunning)
	w.NoError(next.Stop("a"), "stopping the machine")
}
