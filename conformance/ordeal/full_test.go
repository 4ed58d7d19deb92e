//go:build linux

package ordeal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// disk is a small file system.
type disk struct {
	t       *testing.T
	dir     string
	ballast string
}

// mount puts a file system over a directory, with so many pages and files.
func mount(t *testing.T, dir string, pages, files int) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("size=%d,mode=700", pages*os.Getpagesize())
	if files > 0 {
		options += fmt.Sprintf(",nr_inodes=%d", files+1) // the directory itself is one
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &disk{t, dir, filepath.Join(dir, "ballast")}
}

// fill leaves so many bytes free.
func (d *disk) fill(free int64) {
	d.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Create(d.ballast)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if n := int64(s.Bavail)*s.Bsize - free; n > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			d.t.Fatal(err)
		}
	}
}

// empty takes away what fill put there.
func (d *disk) empty() {
	d.t.Helper()
	if err := os.Remove(d.ballast); err != nil {
		d.t.Fatal(err)
	}
}

// only fails the test if there is anything on the disk but its ballast.
func (d *disk) only(when string) {
	d.t.Helper()
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(d.ballast) {
			d.t.Errorf("%s there is %s", when, filepath.Join(d.dir, e.Name()))
		}
	}
}

// roomy is what a disk has that is to be filled: enough for all that a machine writes.
const roomy = 4096

// noRoom fails the test unless the error says that there was no room, and where.
func noRoom(t *testing.T, err error, where string) {
	t.Helper()
	var e *machinery.Error
	if !errors.As(err, &e) || !strings.Contains(strings.ToLower(err.Error()), "no space left on device") || !strings.Contains(err.Error(), where) {
		t.Errorf("the error should say that there is no space left, and where (%s): %v", where, err)
	}
}

// fullSite is a machine "a" and its driver, on a bench of which one directory is a small disk.
type fullSite struct {
	t     *testing.T
	bench conformance.Bench
	m     *qemu.Machinery
}

func newFullSite(t *testing.T, l *qemulab.Lab, spec conformance.MachineSpec) *fullSite {
	t.Helper()
	spec.Name = "a"
	return &fullSite{t: t, bench: newBench(t, l, spec)}
}

// overlays is where the bench has the disposable disks.
func (s *fullSite) overlays() string {
	return filepath.Join(filepath.Dir(s.bench.ConfigPath()), "overlays")
}

// open opens the driver, once the disk is there.
func (s *fullSite) open() {
	s.t.Helper()
	m, err := open(s.bench)
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = m
	s.t.Cleanup(func() {
		if err := m.Shutdown(context.Background()); err != nil {
			s.t.Error(err)
		}
	})
}

// off fails the test unless nothing of the machine runs.
func (s *fullSite) off(when string) {
	s.t.Helper()
	if power, err := s.bench.Power(context.Background(), "a"); err != nil || power.On {
		s.t.Errorf("%s the machine runs: %+v, %v", when, power, err)
	}
}

// works fails the test unless the machine can be started, used and stopped.
func (s *fullSite) works(when string) {
	s.t.Helper()
	if err := machinery.Start(within(s.t), s.m, "a"); err != nil {
		s.t.Fatalf("%s the machine cannot be started: %v", when, err)
	}
	g, err := s.bench.Guest(within(s.t), "a")
	if err != nil {
		s.t.Fatal(err)
	}
	memory, err := g.Memory(within(s.t), 0)
	onDisk, diskErr := g.Disk(within(s.t), 0)
	if saved := s.bench.Saved("a"); memory != saved.Memory || onDisk != saved.Disk || err != nil || diskErr != nil {
		s.t.Errorf("%s the guest has the marks %#x (%v) and %#x (%v)", when, memory, err, onDisk, diskErr)
	}
	if err := s.m.Stop(within(s.t), "a"); err != nil {
		s.t.Errorf("%s the machine cannot be stopped: %v", when, err)
	}
}

func TestNoFullDiskLosesAnythingOrLeavesHalfAFile(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	emulators(t, func(t *testing.T, l *qemulab.Lab) {
		t.Run("disposable disk as it is made", func(t *testing.T) { overlayIsMade(t, l) })
		t.Run("disposable disk as it grows", func(t *testing.T) { overlayGrows(t, l) })
		t.Run("memory dump", func(t *testing.T) { dumpIsWritten(t, l) })
		t.Run("runtime directory", func(t *testing.T) { runtimeIsFull(t, l) })
		t.Run("runtime directory without files to be had", func(t *testing.T) { runtimeHasNoFiles(t, l) })
	})
}

func overlayIsMade(t *testing.T, l *qemulab.Lab) {
	s := newFullSite(t, l, conformance.MachineSpec{})
	d := mount(t, s.overlays(), roomy, 0)
	s.open()
	for _, pages := range []int64{0, 1, 2, 3} {
		d.fill(pages * int64(os.Getpagesize()))
		err := s.m.RestoreStart(within(t), "a")
		if err == nil { // an empty one needs few of its bytes to be stored
			err = s.m.Stop(within(t), "a")
			if err != nil {
				t.Errorf("Stop: %v", err)
			}
		} else {
			noRoom(t, err, s.overlays())
		}
		if pages == 0 && err == nil {
			t.Error("without any room, a start succeeded")
		}
		s.off("after that start")
		d.only("after that start")
		d.empty()
	}
	s.works("once there is room")
	d.only("at the end")
}

func overlayGrows(t *testing.T, l *qemulab.Lab) {
	info, err := l.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Accelerator == "" {
		t.Skip("the fake emulator's guest keeps its disk in memory until it is saved")
	}
	s := newFullSite(t, l, conformance.MachineSpec{})
	d := mount(t, s.overlays(), roomy, 0)
	s.open()
	if err := machinery.Start(within(t), s.m, "a"); err != nil {
		t.Fatal(err)
	}
	g, err := s.bench.Guest(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	d.fill(0)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	writing, give := context.WithTimeout(ctx, 2*time.Second)
	defer give()
	for slot := range 16 { // the guest does not get an answer for the write that there is no room for: it stands still then
		if g.SetDisk(writing, slot, 0xF0110000+uint32(slot)) != nil {
			break
		}
		if status, err := s.m.State(ctx, "a"); err != nil || status.State != machinery.StateRunning {
			break
		}
	}
	status, err := machinery.WaitState(ctx, s.m, "a", machinery.StateError)
	if err != nil || status.State != machinery.StateError || status.Reason == "" {
		t.Errorf("the machine whose disposable disk has no room is %s (%s), %v", status, status.Detail, err)
	}
	if err := s.m.Stop(within(t), "a"); err != nil {
		t.Errorf("Stop: %v", err)
	}
	s.off("after Stop")
	d.only("after Stop")
	d.empty()
	s.works("once there is room")
}

func dumpIsWritten(t *testing.T, l *qemulab.Lab) {
	s := newFullSite(t, l, conformance.MachineSpec{})
	dir := filepath.Join(filepath.Dir(s.bench.ConfigPath()), "d")
	d := mount(t, dir, 8192, 0)
	t.Cleanup(func() { os.Remove(dir) })
	s.open()
	if err := machinery.Start(within(t), s.m, "a"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "dump")
	for _, free := range []int64{0, 1 << 12, 1 << 16, 1 << 20, 15 << 20} {
		d.fill(free)
		noRoom(t, s.m.DumpMemory(within(t), "a", path), "")
		if status, err := s.m.State(within(t), "a"); err != nil || status.State != machinery.StateRunning {
			t.Errorf("after the dump with room for %d bytes the machine is %s (%s), %v", free, status, status.Detail, err)
		}
		d.only("after the dump that failed")
		d.empty()
	}
	if err := s.m.DumpMemory(within(t), "a", path); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if err := wholeDump(path); err != nil {
		t.Error(err)
	}
	if err := s.m.Stop(within(t), "a"); err != nil {
		t.Error(err)
	}
	os.Remove(path)
}

// runtimeIsFull leaves one page more free each time, so that each thing which is written to the runtime directory in turn finds no
// room, and goes through all that is.
func runtimeIsFull(t *testing.T, l *qemulab.Lab) {
	s := newFullSite(t, l, conformance.MachineSpec{SavedPaused: true})
	d := mount(t, s.bench.RuntimeDir(), roomy, 0)
	s.open()
	refused, done := 0, 0
	for pages := range 8 {
		d.fill(int64(pages) * int64(os.Getpagesize()))
		if s.round(d, fmt.Sprintf("with %d pages free ", pages)) {
			done++
		} else {
			refused++
		}
		d.empty()
	}
	if refused == 0 || done == 0 {
		t.Errorf("%d starts failed and %d did not; some of both were to be seen", refused, done)
	}
	s.works("once there is room")
}

// runtimeHasNoFiles has a runtime directory in which one file more can be made each time.
func runtimeHasNoFiles(t *testing.T, l *qemulab.Lab) {
	s := newFullSite(t, l, conformance.MachineSpec{SavedPaused: true})
	refused, done := 0, 0
	for files := 1; files <= 10; files++ {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			inner := &fullSite{t: t, bench: s.bench}
			d := mount(t, s.bench.RuntimeDir(), roomy, files)
			inner.open()
			if inner.round(d, fmt.Sprintf("with %d files to be had ", files)) {
				done++
			} else {
				refused++
			}
		})
	}
	if refused == 0 || done == 0 {
		t.Errorf("%d starts failed and %d did not; some of both were to be seen", refused, done)
	}
}

// round starts the machine, does to it all that writes to its runtime directory, and stops it, whatever of that works. It returns
// whether the start did.
func (s *fullSite) round(d *disk, when string) (started bool) {
	t := s.t
	t.Helper()
	err := s.m.RestoreStart(within(t), "a")
	if err != nil {
		noRoom(t, err, "")
		s.off(when + "after the start that failed")
		d.only(when + "after the start that failed")
		if status, err := s.m.State(within(t), "a"); err != nil || status.State != machinery.StateError && status.State != machinery.StatePoweroff {
			t.Errorf("%sthe machine is %s, %v", when, status, err)
		}
		_ = s.m.Stop(within(t), "a")
		return false
	}
	if picture, err := s.m.Screenshot(within(t), "a"); err == nil && !strings.HasSuffix(string(picture), "IEND\xaeB`\x82") {
		t.Errorf("%sthe picture is cut short, at %d bytes", when, len(picture))
	}
	// On a full disk the ledger may not tell all that was done, and the machine can be used all the same.
	if err := s.m.HandlePaused(within(t), "a"); err != nil {
		t.Errorf("%sresuming: %v", when, err)
	}
	if status, err := s.m.State(within(t), "a"); err != nil || status.State != machinery.StateRunning {
		t.Errorf("%sthe machine is %s, %v", when, status, err)
	}
	if err := s.m.Stop(within(t), "a"); err != nil {
		t.Errorf("%sStop: %v", when, err)
	}
	s.off(when + "after Stop")
	d.only(when + "after Stop")
	return true
}
