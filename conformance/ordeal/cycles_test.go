//go:build linux

package ordeal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/machinery"
)

// settledAfter is the cycle with which the last is compared: what is made once is there by then.
const settledAfter = 10

// TestHundredsOfCyclesLeaveNothing restores, runs and stops machines at once, again and again, with one driver. What that
// holds at the end it held after the tenth cycle.
func TestHundredsOfCyclesLeaveNothing(t *testing.T) {
	emulators(t, func(t *testing.T, l *qemulab.Lab) {
		cycles(t, l, 0, func(b conformance.Bench) (machinery.Machinery, error) { return open(b) },
			conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b", SavedPaused: true},
			conformance.MachineSpec{Name: "c", Kind: conformance.SnapshotZstd}, conformance.MachineSpec{Name: "d", Kind: conformance.SnapshotGzip})
	})
}

func TestHundredsOfCyclesLeaveNothingWithLibvirt(t *testing.T) {
	daemons(t, func(t *testing.T, l *libvirtlab.Lab) {
		// The driver keeps what it needs for as many calls at once as there ever were, with two goroutines of the library each: there may be
		// some more at once in a later cycle. In the shortest run a goroutine for each run of a machine would be fifteen.
		cycles(t, l, 12, func(b conformance.Bench) (machinery.Machinery, error) { return openKVM(b) },
			conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b", SavedPaused: true},
			conformance.MachineSpec{Name: "c", Kind: conformance.SnapshotMemory})
	})
}

// cycles is the test with a lab, a driver and machines. So many goroutines more than after the tenth cycle are none too many.
func cycles(t *testing.T, l conformance.Lab, more int, open func(conformance.Bench) (machinery.Machinery, error), specs ...conformance.MachineSpec) {
	cycles := max(length(t, "MACHINERY_CYCLES", settledAfter+5), settledAfter+1)
	b := newBench(t, l, specs...)
	m, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var settled usage
	for i := range cycles {
		errs := make(chan error, len(specs))
		for _, spec := range specs {
			go func() { errs <- cycle(m, b, spec.Name) }()
		}
		for range specs {
			if err := <-errs; err != nil {
				t.Errorf("cycle %d: %v", i+1, err)
			}
		}
		nothingLeft(t, b, fmt.Sprintf("after cycle %d", i+1)) // by which the lab itself lets go of emulators that have ended
		if t.Failed() {
			return
		}
		if i+1 == settledAfter {
			settled = used(t, b)
		}
	}
	end := used(t, b)
	t.Logf("after %d cycles: %s", settledAfter, settled)
	t.Logf("after %d cycles: %s", cycles, end)
	if diff := cmp.Diff(settled.files, end.files); diff != "" {
		t.Errorf("other files are there than after cycle %d:\n%s", settledAfter, diff)
	}
	if diff := cmp.Diff(settled.descriptors, end.descriptors); diff != "" {
		t.Errorf("other descriptors are open than after cycle %d:\n%s", settledAfter, diff)
	}
	if end.goroutines > settled.goroutines+more {
		t.Errorf("%d goroutines became %d:\n%s", settled.goroutines, end.goroutines, stacks())
	}
	// The collector gives back what it does in its own time; a leak of a kilobyte in each of hundreds of cycles is beyond this.
	if end.heap > settled.heap+(512<<10) {
		t.Errorf("what is on the heap grew from %d KiB to %d KiB", settled.heap>>10, end.heap>>10)
	}
}

// cycle is what a machine goes through for each analysis.
func cycle(m machinery.Machinery, b conformance.Bench, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := machinery.Start(ctx, m, name); err != nil {
		return err
	}
	g, err := b.Guest(ctx, name)
	if err != nil {
		return err
	}
	memory, err := g.Memory(ctx, 0)
	if err == nil && memory != b.Saved(name).Memory {
		err = fmt.Errorf("%s has the mark %#x in memory, and its snapshot %#x", name, memory, b.Saved(name).Memory)
	}
	if err == nil {
		err = errors.Join(g.SetMemory(ctx, 0, 1), g.SetDisk(ctx, 0, 1))
	}
	return errors.Join(err, m.Stop(ctx, name))
}

// usage is what a program holds.
type usage struct {
	files       []string
	descriptors map[string]int // by what they are
	goroutines  int
	heap        uint64 // bytes of what is reachable
	resident    string
}

func (u usage) String() string {
	open := 0
	for _, n := range u.descriptors {
		open += n
	}
	return fmt.Sprintf("%d descriptors, %d goroutines, %d KiB on the heap, resident %s, %d files", open, u.goroutines, u.heap>>10, u.resident, len(u.files))
}

// used is what this program holds once what ends by itself has ended.
func used(t *testing.T, b conformance.Bench) usage {
	t.Helper()
	var u usage
	// The last of a run ends a moment after Stop has returned: there is no event for that, so that the least of some looks counts.
	for range 20 {
		n := runtime.NumGoroutine()
		if u.goroutines == 0 || n < u.goroutines {
			u.goroutines = n
		}
		time.Sleep(10 * time.Millisecond) // a goroutine that is about to end gives no sign of it
	}
	debug.FreeOSMemory()
	debug.FreeOSMemory() // what finalizers have let go of too
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	u.heap, u.resident = stats.HeapAlloc, residentOf(t)
	u.descriptors = descriptors(t)
	for _, dir := range []string{filepath.Dir(b.ConfigPath()), b.RuntimeDir()} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			u.files = append(u.files, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(u.files)
	u.files = slices.Compact(u.files)
	return u
}

// descriptors counts what this program has open, by what it is. The numbers in the names of sockets and pipes are left out.
func descriptors(t *testing.T) map[string]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]int)
	for _, e := range entries {
		what, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // that of the directory itself
		}
		if kind, _, has := strings.Cut(what, ":["); has {
			what = kind
		}
		all[what]++
	}
	return all
}

func residentOf(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, is := strings.CutPrefix(line, "VmRSS:"); is {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func stacks() string {
	text := make([]byte, 1<<20)
	return string(text[:runtime.Stack(text, true)])
}
