//go:build linux

package ordeal

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

func TestMain(m *testing.M) {
	fakeqemu.Main()
	libvirtlab.Main()
	if task := os.Getenv(childEnv); task != "" {
		child(task)
		return
	}
	os.Exit(m.Run())
}

// emulators runs a test on the fake emulator, and on the host's where there is one.
func emulators(t *testing.T, test func(t *testing.T, l *qemulab.Lab)) {
	for _, e := range []struct{ name, emulator string }{{"fake", ""}, {"host", "qemu-system-x86_64"}} {
		t.Run(e.name, func(t *testing.T) {
			if e.emulator != "" {
				require.Tool(t, "qemu", e.emulator)
			}
			l, err := qemulab.New(t.Context(), qemulab.Options{Emulator: e.emulator})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, l)
		})
	}
}

// newBench makes machines. At the end of the test it holds that the files that they were made of are as they were.
func newBench(t *testing.T, l conformance.Lab, specs ...conformance.MachineSpec) conformance.Bench {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mo")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.NewBench(t.Context(), dir, specs)
	if err != nil {
		t.Fatal(err)
	}
	before := originals(t, b, specs)
	t.Cleanup(func() {
		if after := originals(t, b, specs); after != before {
			t.Errorf("the files of the machines were changed: they were\n%sand are\n%s", before, after)
		}
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the bench's directory is still there: %v", err)
		}
	})
	return b
}

// originals are the checksums of what must never change.
func originals(t *testing.T, b conformance.Bench, specs []conformance.MachineSpec) string {
	t.Helper()
	var all strings.Builder
	for _, spec := range specs {
		sums, err := b.Originals(context.Background(), spec.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range slices.Sorted(maps.Keys(sums)) {
			all.WriteString(spec.Name + " " + what + " " + sums[what] + "\n")
		}
	}
	return all.String()
}

// open opens the driver on a bench's machines.
func open(b conformance.Bench) (*qemu.Machinery, error) {
	doc, err := config.Load(b.ConfigPath(), qemu.Schema())
	if err != nil {
		return nil, err
	}
	return qemu.New(context.Background(), qemu.FromDocument(doc), machinery.Options{RuntimeDir: b.RuntimeDir()})
}

// patience bounds one operation, on a machine that other tests keep busy.
const patience = 2 * time.Minute

// within is a context for one operation.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// nothingLeft fails the test if anything of the machines is left.
func nothingLeft(t *testing.T, b conformance.Bench, when string) {
	t.Helper()
	left, err := b.Leftovers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("%s this is left:\n%s", when, strings.Join(left, "\n"))
	}
}

// length is a number that the environment sets.
func length(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s has to be a number: %q", name, text)
	}
	return n
}
