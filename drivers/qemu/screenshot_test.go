//go:build linux

package qemu

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/picture"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

func TestAPictureIsPNGAndThatOfAnOlderQEMUIsTheSame(t *testing.T) {
	s, m := booted(t, append(machineArgs(), "-device", "VGA")...)
	stranger(t, m, "stop", nil) // so that both pictures are of the same moment
	data, err := m.Screenshot(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	got, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(s.dir, "screen.ppm")
	stranger(t, m, "screendump", map[string]any{"filename": raw}) // ppm, all that QEMU 7.0 has
	pixmap, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	converted, err := picture.FromPPM(pixmap)
	if err != nil {
		t.Fatal(err)
	}
	want, err := png.Decode(bytes.NewReader(converted))
	if err != nil {
		t.Fatal(err)
	}
	if got.Bounds() != want.Bounds() || got.Bounds().Empty() {
		t.Fatalf("sizes %v and %v", got.Bounds(), want.Bounds())
	}
	for y := range got.Bounds().Dy() {
		for x := range got.Bounds().Dx() {
			r, g, b, _ := got.At(x, y).RGBA()
			r2, g2, b2, _ := want.At(x, y).RGBA()
			if r != r2 || g != g2 || b != b2 {
				t.Fatalf("at %d, %d: %v and %v", x, y, got.At(x, y), want.At(x, y))
			}
		}
	}
	for _, name := range names(t, m.frame.Named("vm").dir) {
		if name == screenFile {
			t.Error("the picture's file is left")
		}
	}
}

func TestAMachineWithoutADisplayHasNoPictureAndOneThatIsOffNeither(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	_, err := m.Screenshot(limit(t), "vm")
	mustKind(t, err, machinery.ErrUnexpectedState)
	s.clean()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	_, err = m.Screenshot(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), "no console") {
		t.Errorf("the error lacks QEMU's words: %v", err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
}

func TestOnlyAQEMUThatHasItIsAskedForPNG(t *testing.T) {
	for text, want := range map[string]bool{"6.2.0": false, "7.0.9": false, "7.1.0": true, "7.2.22": true, "10.0.0": true} {
		var v monitor.Version
		if _, err := fmt.Sscanf(text, "%d.%d.%d", &v.Major, &v.Minor, &v.Micro); err != nil {
			t.Fatal(err)
		}
		if writesPNG(v) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}
