package conformance

import (
	"bytes"
	"image/png"

	"github.com/machineries/machineries/machinery"
)

// screenshotSpecs: pictures of the display.
var screenshotSpecs = []spec{
	{Requirement{ID: "MM-SHOT-001", Level: Must, Op: machinery.OpScreenshot, Capability: machinery.CapScreenshot, Needs: []Feature{FeatureGuest, FeatureDisplay, FeatureLeftovers},
		Rule:   "Screenshot returns a whole picture as PNG, the machine runs on, and no file of it is left.",
		Why:    "It is shown in a browser, which knows PNG, while the analysis goes on.",
		Source: "machinery.Screenshotter"}, shotRunning},
	{Requirement{ID: "MM-SHOT-002", Level: Must, Op: machinery.OpScreenshot, Capability: machinery.CapScreenshot, Needs: []Feature{FeatureGuest, FeatureDisplay, FeatureSavedPaused},
		Rule:   "A picture of a paused machine is taken without resuming it.",
		Why:    "Whoever looks at a machine must not change what it does.",
		Source: "machinery.Screenshotter"}, shotPaused},
	{Requirement{ID: "MM-SHOT-003", Level: Must, Op: machinery.OpScreenshot, Capability: machinery.CapScreenshot, Needs: []Feature{FeatureGuest},
		Rule:   "To take a picture of a machine that is off is refused as \"not possible in this state\".",
		Why:    "A black picture is taken for a system that shows nothing.",
		Source: "machinery.Screenshotter"}, shotOff},
	{Requirement{ID: "MM-SHOT-004", Level: Must, Op: machinery.OpScreenshot, Capability: machinery.CapScreenshot, Needs: []Feature{FeatureGuest, FeatureDisplay},
		Rule:   "To take a picture of a machine without a display is an error of kind \"the hypervisor failed\", and the machine runs on.",
		Why:    "A black picture is taken for a system that shows nothing.",
		Source: "machinery.Screenshotter"}, shotHeadless},
}

// Screenshot calls the driver's operation.
func (h *Handle) Screenshot(name string) (picture []byte, err error) {
	err = h.returned(h.w.call(h.w.Timing.State, machinery.OpScreenshot, name, func() (err error) {
		picture, err = machinery.Screenshot(h.w.Ctx, h.M, name)
		return err
	}))
	return picture, err
}

// picture takes a picture and fails the check unless it is a whole PNG.
func (h *Handle) picture(name, of string) {
	data, err := h.Screenshot(name)
	h.w.NoError(err, "taking a picture of %s", of)
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		h.w.Failf("the picture of %s (%d bytes, beginning with %.8q) is no whole PNG: %v", of, len(data), data, err)
	}
	if size := img.Bounds().Size(); size.X < 1 || size.Y < 1 {
		h.w.Failf("the picture of %s has %d × %d pixels", of, size.X, size.Y)
	}
}

func shotRunning(w *World) {
	h := w.Open()
	h.Requires(machinery.CapScreenshot)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	before, err := w.bench.Leftovers(w.Ctx)
	w.Lab(err, "looking what there is of a running machine")
	for range 3 {
		h.picture("a", "a running machine")
		w.moves(g, "after a picture was taken")
	}
	h.Is("a", "after a picture was taken", machinery.StateRunning)
	after, err := w.bench.Leftovers(w.Ctx)
	w.Lab(err, "looking what there is of a running machine")
	if len(after) > len(before) {
		w.Failf("taking pictures has left something: before, there were %d things of the running machine, and now\n  %s", len(before), lines(after))
	}
	h.stopped("a", "a machine of which pictures were taken")
	w.Clean("after pictures were taken and the machine stopped")
}

func shotPaused(w *World) {
	h := w.Open(MachineSpec{SavedPaused: true})
	h.Requires(machinery.CapScreenshot)
	h.Restored("a", machinery.StatePaused)
	g := h.connect("a")
	h.picture("a", "a paused machine")
	h.Is("a", "after a picture was taken of a paused machine", machinery.StatePaused)
	w.silent(g, "after a picture was taken of a paused machine")
}

func shotOff(w *World) {
	h := w.Open()
	h.Requires(machinery.CapScreenshot)
	_, err := h.Screenshot("a")
	w.Kind(err, machinery.ErrUnexpectedState, "taking a picture of a machine that was never started")
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	h.stopped("a", "a running machine")
	_, err = h.Screenshot("a")
	w.Kind(err, machinery.ErrUnexpectedState, "taking a picture of a machine that was stopped")
}

func shotHeadless(w *World) {
	h := w.Open(MachineSpec{Headless: true})
	h.Requires(machinery.CapScreenshot)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	_, err := h.Screenshot("a")
	w.Kind(err, machinery.ErrHypervisor, "taking a picture of a machine without a display")
	w.moves(g, "after a picture of it could not be taken")
}
