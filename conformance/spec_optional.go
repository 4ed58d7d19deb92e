package conformance

import (
	"bytes"
	"context"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	"github.com/machineries/machineries/machinery"
)

// optionalSpecs: a driver can do what it says it can, and says so of nothing
// else.
var optionalSpecs = []spec{
	{Requirement{ID: "MM-OPTIONAL-001", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeatureGuest},
		Rule:   "An optional operation that the driver does not have returns an error that matches errors.ErrUnsupported, by whatever way it is called.",
		Why:    "A nil from an operation that does nothing is taken for its effect: a memory dump that does not exist.",
		Source: "machinery.Capable; Cuckoo3: NotImplementedError"}, optionalRejects},
	{Requirement{ID: "MM-OPTIONAL-002", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeatureGuest},
		Rule:   "An optional operation that returns nil has had its effect.",
		Why:    "An analysis without its dump or its screenshot is noticed weeks later.",
		Source: "machinery.Capability"}, optionalEffect},
}

// probes call each optional operation of the driver's own methods, past any
// declaration of what it supports. done says what the effect lacks if the
// operation returned nil.
func (h *Handle) probes(ctx context.Context, name string) map[machinery.Capability]func() (lacks string, err error) {
	w := h.w
	probes := make(map[machinery.Capability]func() (string, error))
	if d, ok := h.M.(machinery.MemoryDumper); ok {
		probes[machinery.CapDumpMemory] = func() (string, error) {
			path := filepath.Join(w.dir, "memory.dump")
			err := d.DumpMemory(ctx, name, path)
			if err != nil {
				return "", err
			}
			info, statErr := os.Stat(path)
			switch {
			case statErr != nil:
				return "there is no file: " + statErr.Error(), nil
			case info.Size() == 0:
				return "the file is empty", nil
			}
			return "", nil
		}
	}
	if d, ok := h.M.(machinery.Screenshotter); ok {
		probes[machinery.CapScreenshot] = func() (string, error) {
			picture, err := d.Screenshot(ctx, name)
			if err != nil {
				return "", err
			}
			if _, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil {
				return "what it returned is no PNG: " + err.Error(), nil
			}
			return "", nil
		}
	}
	if d, ok := h.M.(machinery.Versioner); ok {
		probes[machinery.CapVersion] = func() (string, error) {
			v, err := d.Version(ctx)
			if err == nil && strings.TrimSpace(v) == "" {
				return "the version is empty", nil
			}
			return "", err
		}
	}
	if d, ok := h.M.(machinery.DependencyChecker); ok {
		probes[machinery.CapDependencies] = func() (string, error) { return "", d.CheckDependencies(ctx) }
	}
	// Without a network there is nothing that could be recorded.
	if d, ok := h.M.(machinery.NetworkCapturer); ok && w.equipped().Network {
		probes[machinery.CapNetworkCapture] = func() (string, error) {
			path := filepath.Join(w.dir, "probe.pcap")
			if err := d.StartCapture(ctx, name, machinery.Capture{Path: path}); err != nil {
				return "", err
			}
			if err := d.StopCapture(ctx, name); err != nil {
				return "", err
			}
			if _, err := readRecording(path); err != nil {
				return "the capture cannot be read: " + err.Error(), nil
			}
			return "", nil
		}
	}
	if d, ok := h.M.(machinery.Watcher); ok {
		probes[machinery.CapWatch] = func() (string, error) {
			watching, cancel := context.WithCancel(ctx)
			defer cancel()
			events, err := d.Watch(watching, name)
			if err != nil {
				return "", err
			}
			return w.await(w.Timing.Guest, func() string {
				select {
				case e := <-events:
					if e.Status.State.Valid() {
						return ""
					}
					return "the first event has no state"
				default:
					return "the present status was not sent"
				}
			}), nil
		}
	}
	if d, ok := h.M.(machinery.ACPIStopper); ok {
		g := h.Guest(name)
		probes[machinery.CapACPIStop] = func() (string, error) {
			if err := d.ACPIStop(ctx, name); err != nil {
				return "", err
			}
			return w.await(w.Timing.Guest, func() string {
				select {
				case <-g.Gone():
					return ""
				default:
				}
				if g.Pressed() > 0 {
					return ""
				}
				return "the guest saw no power button pressed"
			}), nil
		}
	}
	return probes
}

// optionalOrder is the order in which probes run: what ends the machine last.
var optionalOrder = []machinery.Capability{machinery.CapVersion, machinery.CapDependencies, machinery.CapWatch, machinery.CapScreenshot, machinery.CapNetworkCapture,
	machinery.CapDumpMemory, machinery.CapACPIStop}

// equipped is a machine with all that an optional operation may need.
func (w *World) equipped() MachineSpec {
	network, _ := w.subject.Lab.Offers(FeatureNetwork)
	return MachineSpec{Network: network}
}

func optionalRejects(w *World) {
	h := w.Open(w.equipped())
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	lacking := 0
	for _, c := range machinery.Capabilities() {
		if machinery.Supports(h.M, c) {
			continue
		}
		lacking++
		if err := h.returned(w.call(w.Timing.Prompt, machinery.Op(c), "a", func() error { return w.packageFunction(h, c) })); !errors.Is(err, errors.ErrUnsupported) {
			w.Failf("the driver does not declare %s, and the package function returned %v; want an error matching errors.ErrUnsupported", c, err)
		}
		if probe := h.probes(w.Ctx, "a")[c]; probe != nil {
			err := h.returned(w.call(w.Timing.Start, machinery.Op(c), "a", func() error { _, err := probe(); return err }))
			if !errors.Is(err, errors.ErrUnsupported) {
				w.Failf("the driver says that it does not support %s, and its method returned %v; want an error matching errors.ErrUnsupported", c, err)
			}
		}
	}
	if lacking == 0 {
		w.Notef("the driver has every optional operation")
	}
}

// packageFunction calls an optional operation by its package function.
func (w *World) packageFunction(h *Handle, c machinery.Capability) error {
	var err error
	switch c {
	case machinery.CapNoRestoreStart:
		err = machinery.NoRestoreStart(w.Ctx, h.M, "a")
	case machinery.CapACPIStop:
		err = machinery.ACPIStop(w.Ctx, h.M, "a")
	case machinery.CapDumpMemory:
		err = machinery.DumpMemory(w.Ctx, h.M, "a", filepath.Join(w.dir, "unsupported.dump"))
	case machinery.CapHandlePaused:
		err = machinery.HandlePaused(w.Ctx, h.M, "a")
	case machinery.CapScreenshot:
		_, err = machinery.Screenshot(w.Ctx, h.M, "a")
	case machinery.CapVersion:
		_, err = machinery.Version(w.Ctx, h.M)
	case machinery.CapDependencies:
		err = machinery.CheckDependencies(w.Ctx, h.M)
	case machinery.CapNetworkCapture:
		err = machinery.StartCapture(w.Ctx, h.M, "a", machinery.Capture{Path: filepath.Join(w.dir, "unsupported.pcap")})
	case machinery.CapWatch:
		_, err = machinery.Watch(w.Ctx, h.M, "a")
	}
	return err
}

func optionalEffect(w *World) {
	h := w.Open(w.equipped())
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	probes := h.probes(w.Ctx, "a")
	for _, c := range optionalOrder {
		probe := probes[c]
		if probe == nil || !machinery.Supports(h.M, c) {
			continue
		}
		var lacks string
		err := h.returned(w.call(w.Timing.Start, machinery.Op(c), "a", func() (err error) { lacks, err = probe(); return err }))
		if err != nil {
			w.Failf("the driver declares %s, and on a running machine it fails: %v", c, err)
		}
		if lacks != "" {
			w.Failf("%s returned nil without its effect: %s", c, lacks)
		}
	}
}
