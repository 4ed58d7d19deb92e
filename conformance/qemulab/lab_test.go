//go:build linux

package qemulab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery/config"
)

// labs are the lab on each emulator that there is.
func labs(t *testing.T) map[string]*qemulab.Lab {
	t.Helper()
	all := make(map[string]*qemulab.Lab)
	for name, o := range map[string]qemulab.Options{"fake": {}, "real": {Emulator: "qemu-system-x86_64"}} {
		l, err := qemulab.New(t.Context(), o)
		if err != nil {
			if name == "real" {
				continue
			}
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		all[name] = l
	}
	return all
}

func newBench(t *testing.T, l *qemulab.Lab, specs ...conformance.MachineSpec) (conformance.Bench, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mqt")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.NewBench(t.Context(), filepath.Clean(dir), specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the bench's directory is still there: %v", err)
		}
	})
	return b, dir
}

func TestALabAccountsForWhatIsLeft(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			b, dir := newBench(t, l, conformance.MachineSpec{Name: "a"})
			if left, err := b.Leftovers(t.Context()); err != nil || len(left) > 0 {
				t.Fatalf("before anything was done: %v, %v", left, err)
			}
			for _, path := range []string{"overlays/x.qcow2", "0/stray", "stray"} {
				full := filepath.Join(dir, path)
				if err := os.WriteFile(full, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				left, err := b.Leftovers(t.Context())
				if err != nil || !slices.ContainsFunc(left, func(line string) bool { return strings.Contains(line, full) }) {
					t.Errorf("the file %s is not accounted for: %v, %v", path, left, err)
				}
				if err := os.Remove(full); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestALabKnowsThatAMachineIsOff(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			b, _ := newBench(t, l, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"})
			for _, m := range []string{"a", "b"} {
				if p, err := b.Power(t.Context(), m); err != nil || p.On {
					t.Errorf("%s runs before anyone started it: %+v, %v", m, p, err)
				}
			}
		})
	}
}

func TestALabWritesAConfigurationThatTheSchemaTakes(t *testing.T) {
	for name, l := range labs(t) {
		t.Run(name, func(t *testing.T) {
			b, _ := newBench(t, l, conformance.MachineSpec{Name: "a: b"}, conformance.MachineSpec{Name: "no"})
			doc, err := config.Load(b.ConfigPath(), qemu.Schema())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range doc.Machines() {
				names = append(names, e.Name)
			}
			if !slices.Equal(names, []string{"a: b", "no"}) {
				t.Errorf("the configuration has the machines %q", names)
			}
		})
	}
}

func TestALabRefusesWhatIsNotThere(t *testing.T) {
	for what, o := range map[string]qemulab.Options{
		"an emulator that is not there": {Emulator: "/nonexistent/qemu"},
		"an unknown accelerator":        {Accel: "hax"},
		"KVM on the fake":               {Accel: "kvm"},
		"a program that is no emulator": {Emulator: "/bin/true"},
	} {
		if _, err := qemulab.New(t.Context(), o); err == nil {
			t.Errorf("the lab takes %s", what)
		}
	}
}

func TestThatAGuestRunsIsProvedByStartingOne(t *testing.T) {
	for name, l := range labs(t) {
		if err := l.Check(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	require.Tool(t, "qemu", "qemu-system-x86_64")
	// An emulator that starts and runs nothing: real, but stopped by its
	// arguments' accelerator or by a script in front of it.
	script := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ncase $1 in --version) echo QEMU emulator version 7.2.22;; *) exit 3;; esac\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := qemulab.New(t.Context(), qemulab.Options{Emulator: script})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Check(t.Context()); err == nil {
		t.Error("a guest is said to run in an emulator that ends at once")
	}
}
