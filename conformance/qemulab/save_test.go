//go:build linux

package qemulab_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// saver is a machine "a" that can be saved, on a bench.
type saver struct {
	t     *testing.T
	bench conformance.Bench
	conf  qemu.Config
	m     *qemu.Machinery
	out   string // a directory for what is saved
}

func newSaver(t *testing.T, l *qemulab.Lab, spec conformance.MachineSpec) *saver {
	t.Helper()
	spec.Name = "a"
	b, _ := newBench(t, l, spec)
	doc, err := config.Load(b.ConfigPath(), qemu.Schema())
	if doc == nil {
		t.Fatal(err)
	}
	s := &saver{t: t, bench: b, conf: qemu.FromDocument(doc), out: t.TempDir()}
	s.m = s.open(s.conf)
	return s
}

// open opens machines, with the bench's runtime directory.
func (s *saver) open(c qemu.Config) *qemu.Machinery {
	s.t.Helper()
	m, err := qemu.New(s.t.Context(), c, machinery.Options{RuntimeDir: s.bench.RuntimeDir()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := m.Shutdown(context.Background()); err != nil && !errors.Is(err, machinery.ErrClosed) {
			s.t.Error(err)
		}
	})
	return m
}

// limited is a context for one operation.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (s *saver) guest() conformance.Guest {
	s.t.Helper()
	g, err := s.bench.Guest(limited(s.t), "a")
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

const saveSlot, saveMark = 3, 0x5AFED00D

// mark boots the machine and marks its memory and disk.
func (s *saver) mark() {
	s.t.Helper()
	if err := s.m.NoRestoreStart(limited(s.t), "a"); err != nil {
		s.t.Fatal(err)
	}
	g := s.guest()
	if err := errors.Join(g.SetMemory(limited(s.t), saveSlot, saveMark), g.SetDisk(limited(s.t), saveSlot, saveMark+1)); err != nil {
		s.t.Fatal(err)
	}
}

// marked fails the test unless the guest has the marks.
func (s *saver) marked(when string) {
	s.t.Helper()
	g := s.guest()
	memory, err := g.Memory(limited(s.t), saveSlot)
	disk, diskErr := g.Disk(limited(s.t), saveSlot)
	if memory != saveMark || disk != saveMark+1 || err != nil || diskErr != nil {
		s.t.Errorf("%s the guest has the marks %#x in memory (%v) and %#x on disk (%v)", when, memory, err, disk, diskErr)
	}
}

func (s *saver) is(m machinery.Machinery, want machinery.State) {
	s.t.Helper()
	if got, err := m.State(limited(s.t), "a"); err != nil || got.State != want {
		s.t.Errorf("the machine is %s (%s), %v; want %s", got, got.Detail, err, want)
	}
}

// nothing fails the test if anything is left, of the machine or in the directory for what is saved.
func (s *saver) nothing() {
	s.t.Helper()
	left, err := s.bench.Leftovers(limited(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	entries, err := os.ReadDir(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, filepath.Join(s.out, e.Name()))
	}
	if trials, _ := filepath.Glob("/proc/self/fd/*"); len(trials) > 200 {
		s.t.Errorf("%d descriptors are open", len(trials))
	}
	if len(left) > 0 {
		s.t.Errorf("this is left:\n%s", strings.Join(left, "\n"))
	}
}

// restored opens the saved pair as a machine of its own.
func (s *saver) restored(saved qemu.Saved) *qemu.Machinery {
	s.t.Helper()
	c := s.conf
	c.DisposableDir = ""
	c.Machines = []qemu.MachineConfig{{Name: "a", Disk: saved.Disk, Snapshot: saved.Snapshot, Info: saved.Info, AllowArguments: saved.AllowArguments}}
	return s.open(c)
}

func TestASavedMachineIsRestoredWithWhatWasInItsMemoryAndOnItsDisk(t *testing.T) {
	for name, l := range labs(t) {
		for _, o := range []qemu.SaveOptions{{}, {Compress: "zstd"}, {Paused: true}, {Paused: true, Compress: "zstd"}} {
			what := name + " " + o.Compress
			if o.Paused {
				what += " paused"
			}
			t.Run(what, func(t *testing.T) {
				s := newSaver(t, l, conformance.MachineSpec{Damage: conformance.SnapshotMissing})
				before, err := s.bench.Originals(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				s.mark()
				var steps []string
				o.Dir = filepath.Join(s.out, "new")
				o.Progress = func(p qemu.SaveProgress) {
					if len(steps) == 0 || steps[len(steps)-1] != p.Step {
						steps = append(steps, p.Step)
					}
				}
				began := time.Now()
				saved, err := s.m.SaveSnapshot(limited(t), "a", o)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("saved in %v", time.Since(began))
				s.is(s.m, machinery.StateError) // it is off, and has no snapshot still
				if left, err := s.bench.Leftovers(t.Context()); err != nil || len(left) > 0 {
					t.Errorf("of the machine that was saved there is left: %v, %v", left, err)
				}
				after, err := s.bench.Originals(t.Context(), "a")
				if diff := cmp.Diff(before, after); diff != "" || err != nil {
					t.Errorf("the machine's own files have changed: %v\n%s", err, diff)
				}
				if want := []string{"memory", "disk", "verify"}; !slices.Equal(steps, want) {
					t.Errorf("the steps told are %q, want %q", steps, want)
				}
				if entries, err := os.ReadDir(s.out); err != nil || len(entries) != 1 {
					t.Errorf("beside what was saved there is something left: %v, %v", entries, err)
				}
				whole(t, saved)
				want := machinery.StateRunning
				if o.Paused {
					want = machinery.StatePaused
				}
				if saved.State != want {
					t.Errorf("it is said to be restored to %s, want %s", saved.State, want)
				}
				m := s.restored(saved)
				for range 2 { // a second restore shows that the first has changed nothing
					if err := m.RestoreStart(limited(t), "a"); err != nil {
						t.Fatal(err)
					}
					s.is(m, want)
					if o.Paused {
						if err := m.HandlePaused(limited(t), "a"); err != nil {
							t.Fatal(err)
						}
					}
					s.marked("after a restore")
					if err := s.guest().SetDisk(limited(t), saveSlot, 7); err != nil {
						t.Error(err)
					}
					if err := m.Stop(limited(t), "a"); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// whole fails the test unless the files of a saved machine are there, closed to others, and as their manifest says.
func whole(t *testing.T, saved qemu.Saved) {
	t.Helper()
	text, err := os.ReadFile(saved.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Version int
		Files   []struct {
			Path, SHA256 string
			Size         int64
			Modified     time.Time
		}
		Hypervisor, Arguments string
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Version != 1 || len(manifest.Files) != 2 || !strings.HasPrefix(manifest.Hypervisor, "QEMU 7.") || len(manifest.Arguments) != 64 {
		t.Errorf("the manifest is %s", text)
	}
	for _, f := range manifest.Files {
		path := filepath.Join(saved.Dir, f.Path)
		data, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil {
			t.Fatal(err, statErr)
		}
		sum := sha256.Sum256(data)
		if f.SHA256 != hex.EncodeToString(sum[:]) || f.Size != info.Size() || !f.Modified.Equal(info.ModTime()) {
			t.Errorf("%s does not fit the manifest: %+v", path, f)
		}
	}
	for _, path := range []string{saved.Dir, saved.Disk, saved.Snapshot, saved.Info, saved.Manifest} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; want it closed to others", path, info, err)
		}
	}
}

func TestAMachineThatWasRestoredCanBeSavedAgain(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t, l, conformance.MachineSpec{SavedPaused: true})
			if err := s.m.RestoreStart(limited(t), "a"); err != nil {
				t.Fatal(err)
			}
			saved, err := s.m.SaveSnapshot(limited(t), "a", qemu.SaveOptions{Dir: filepath.Join(s.out, "new")})
			if err != nil {
				t.Fatal(err)
			}
			if saved.State != machinery.StatePaused {
				t.Errorf("a machine that stood still is restored to %s", saved.State)
			}
			s.is(s.m, machinery.StatePoweroff)
			m := s.restored(saved)
			if err := machinery.Start(limited(t), m, "a"); err != nil {
				t.Fatal(err)
			}
			if mark, err := s.guest().Memory(limited(t), 0); err != nil || mark != s.bench.Saved("a").Memory {
				t.Errorf("the mark in memory is %#x, %v", mark, err)
			}
		})
	}
}

func TestAMachineThatCannotBeSavedIsLeftAsItWas(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t, l, conformance.MachineSpec{})
			there := filepath.Join(s.out, "there")
			_, err := s.m.SaveSnapshot(limited(t), "a", qemu.SaveOptions{Dir: there})
			if !errors.Is(err, machinery.ErrUnexpectedState) || !strings.Contains(err.Error(), "poweroff") {
				t.Errorf("saving a machine that is off: %v", err)
			}
			s.mark()
			if err := os.Mkdir(there, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				o    qemu.SaveOptions
				kind error
				says string
			}{
				{qemu.SaveOptions{Dir: there}, machinery.ErrConfig, there},
				{qemu.SaveOptions{Dir: filepath.Join(s.out, "no/where")}, machinery.ErrConfig, "no such file"},
				{qemu.SaveOptions{}, machinery.ErrConfig, "no directory"},
				{qemu.SaveOptions{Dir: filepath.Join(s.out, "x"), Compress: "rar"}, machinery.ErrConfig, `"rar"; there are none, zstd`},
			} {
				_, err := s.m.SaveSnapshot(limited(t), "a", c.o)
				if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), `save_snapshot "a": `) {
					t.Errorf("%+v: %v", c.o, err)
				}
				s.is(s.m, machinery.StateRunning)
			}
			os.Remove(there)
			dead, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.m.SaveSnapshot(dead, "a", qemu.SaveOptions{Dir: there}); !errors.Is(err, machinery.ErrInterrupted) {
				t.Errorf("with a dead context: %v", err)
			}
			s.marked("after attempts to save it")
			if err := s.m.Stop(limited(t), "a"); err != nil {
				t.Fatal(err)
			}
			s.nothing()
		})
	}
}

// Each attempt is interrupted at the first sign of a step. While the memory is written the machine survives that, and goes on.
func TestASaveThatIsInterruptedLeavesNothing(t *testing.T) {
	for name, l := range labs(t) {
		for step, survives := range map[string]bool{"memory": true, "disk": false, "verify": false} {
			for _, paused := range []bool{false, true} {
				t.Run(name+" "+step, func(t *testing.T) {
					s := newSaver(t, l, conformance.MachineSpec{})
					s.mark()
					ctx, cancel := context.WithCancel(limited(t))
					defer cancel()
					seen := false
					_, err := s.m.SaveSnapshot(ctx, "a", qemu.SaveOptions{Dir: filepath.Join(s.out, "new"), Paused: paused, Progress: func(p qemu.SaveProgress) {
						if p.Step == step {
							seen = true
							cancel()
						}
					}})
					switch {
					case !seen:
						t.Skip("it was done before it said anything of that step")
					case err == nil || !errors.Is(err, machinery.ErrInterrupted) || !errors.Is(err, context.Canceled):
						t.Fatalf("the error is %v", err)
					}
					if survives {
						s.is(s.m, machinery.StateRunning)
						s.marked("after a save that was interrupted")
						if err := s.m.Stop(limited(t), "a"); err != nil {
							t.Fatal(err)
						}
					}
					s.is(s.m, machinery.StatePoweroff)
					s.nothing()
					if err := s.m.RestoreStart(limited(t), "a"); err != nil {
						t.Errorf("restoring it afterwards: %v", err)
					}
				})
			}
		}
	}
}

func TestAQemuImgThatFailsIsQuotedAndLeavesNothing(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			s := newSaver(t, l, conformance.MachineSpec{})
			img := filepath.Join(t.TempDir(), "qemu-img")
			if err := os.WriteFile(img, []byte("#!/bin/sh\nfor last; do :; done\necho half > \"$last\"\necho 'qemu-img: error while writing at byte 0: No space left on device' >&2\nexit 1\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			c := s.conf
			c.QEMUImg = img
			m := s.open(c)
			if err := m.NoRestoreStart(limited(t), "a"); err != nil {
				t.Fatal(err)
			}
			_, err := m.SaveSnapshot(limited(t), "a", qemu.SaveOptions{Dir: filepath.Join(s.out, "new")})
			if !errors.Is(err, machinery.ErrHypervisor) || !strings.Contains(err.Error(), "No space left on device") {
				t.Errorf("the error is %v", err)
			}
			s.is(m, machinery.StatePoweroff)
			s.nothing()
			c.QEMUImg = "/nowhere/qemu-img"
			m = s.open(c)
			if err := m.NoRestoreStart(limited(t), "a"); err != nil {
				t.Fatal(err)
			}
			_, err = m.SaveSnapshot(limited(t), "a", qemu.SaveOptions{Dir: filepath.Join(s.out, "new")})
			if !errors.Is(err, machinery.ErrDependency) || !strings.Contains(err.Error(), "/nowhere/qemu-img") {
				t.Errorf("the error is %v", err)
			}
			s.is(m, machinery.StateRunning)
		})
	}
}
