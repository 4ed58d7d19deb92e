//go:build linux

package qemu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
)

// openGallery opens the example's driver on two machines of the fake QEMU.
func openGallery(t *testing.T) (m machinery.Machinery, b conformance.Bench, pictures string) {
	t.Helper()
	lab, err := qemulab.New(t.Context(), qemulab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lab.Close() })
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	b, err = lab.NewBench(t.Context(), dir, []conformance.MachineSpec{{Name: "first"}, {Name: "second", SavedPaused: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(context.Background()) })
	pictures = t.TempDir()
	files := b.Saved("first").Files
	path := filepath.Join(t.TempDir(), "gallery.yaml")
	text := fmt.Sprintf("emulator: %s\nmachines_in: %s\npictures: %s\nallow_arguments: [-chardev socket]\n", files["program"], filepath.Dir(filepath.Dir(files["disk"])), pictures)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var r machinery.Registry
	if err := r.Register(galleryDriver()); err != nil {
		t.Fatal(err)
	}
	m, err = r.Open(t.Context(), path, machinery.Options{RuntimeDir: b.RuntimeDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Shutdown(context.Background()); err != nil && !errors.Is(err, machinery.ErrClosed) {
			t.Error(err)
		}
	})
	return m, b, pictures
}

func TestADriverThatEmbedsThisOneOverridesAnOperationAndTheLoadingOfMachines(t *testing.T) {
	m, b, pictures := openGallery(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if names := machinery.Names(m.Machines()); !slices.Equal(names, []string{"0", "1"}) { // the lab's directories
		t.Fatalf("its machines are %q", names)
	}
	for _, name := range []string{"0", "1"} {
		if err := machinery.Start(ctx, m, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Stop(ctx, "0"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(pictures, "0.png"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	// What the embedded driver does by itself does not pass the override.
	if err := m.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(pictures); len(left) != 1 {
		t.Errorf("the pictures are %v", left)
	}
	if left, err := b.Leftovers(ctx); err != nil || len(left) > 0 {
		t.Errorf("this is left: %v, %v", left, err)
	}
}

func TestAnEmbeddedDriverKeepsItsOptionalOperationsAndItsErrors(t *testing.T) {
	m, _, _ := openGallery(t)
	for _, c := range []machinery.Capability{machinery.CapNoRestoreStart, machinery.CapACPIStop, machinery.CapDumpMemory, machinery.CapHandlePaused,
		machinery.CapScreenshot, machinery.CapVersion, machinery.CapDependencies, machinery.CapWatch} {
		if !machinery.Supports(m, c) {
			t.Errorf("%s is lost by embedding", c)
		}
	}
	err := m.Stop(t.Context(), "0")
	if e, is := errors.AsType[*machinery.Error](err); !is || e.Op != machinery.OpStop || e.Machine != "0" || e.Kind != machinery.ErrStateReached {
		t.Errorf("stopping a machine that is off: %v", err)
	}
	err = m.Stop(t.Context(), "2")
	if e, is := errors.AsType[*machinery.Error](err); !is || e.Op != machinery.OpStop || e.Kind != machinery.ErrNotFound {
		t.Errorf("stopping a machine that is not there: %v", err)
	}
}

// plain embeds the interface instead of the driver.
type plain struct{ machinery.Machinery }

// fewer hides an operation.
type fewer struct{ *gallery }

func (fewer) Supports(c machinery.Capability) bool { return c != machinery.CapDumpMemory }

func TestAnEmbeddingDriverMayHideAnOperation(t *testing.T) {
	m, _, _ := openGallery(t)
	less := fewer{m.(*gallery)}
	if machinery.Supports(less, machinery.CapDumpMemory) || !machinery.Supports(less, machinery.CapScreenshot) {
		t.Error("Supports does not decide")
	}
	path := filepath.Join(t.TempDir(), "dump")
	if err := machinery.DumpMemory(t.Context(), less, "0", path); !errors.Is(err, machinery.ErrUnsupported) {
		t.Errorf("a hidden operation: %v", err)
	}
	if none := (plain{m}); machinery.Supports(none, machinery.CapScreenshot) || machinery.Supports(none, machinery.CapDumpMemory) {
		t.Error("an embedded interface has optional operations")
	}
}

func TestTheTemplateOfTheExampleDriverIsRight(t *testing.T) {
	if err := conftemplates.Check(galleryTemplate, gallerySchema); err != nil {
		t.Error(err)
	}
}
