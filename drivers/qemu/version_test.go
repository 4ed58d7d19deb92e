//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

func TestTheVersionIsThatOfTheRunningQEMUOrElseOfTheEmulator(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running)
	running, err := m.Version(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	installed, err := m.Version(limit(t))
	if err != nil || installed != running {
		t.Errorf("%q while it runs, %q when it is off, %v", running, installed, err)
	}
	s.clean()
}

func TestTheEmulatorIsAskedForItsVersionOnceAndAgainWhenItHasChanged(t *testing.T) {
	s := newSite(t)
	asked := filepath.Join(s.dir, "asked")
	emulator := func(version string) {
		s.script("echo x >>" + asked + "\necho 'QEMU emulator version " + version + "'\necho 'Copyright (c) 2003'\n")
	}
	times := func() int {
		data, _ := os.ReadFile(asked)
		return strings.Count(string(data), "x")
	}
	emulator("6.2.0 (Debian 1:6.2+dfsg)")
	m := s.open(machinery.Options{})
	for range 3 {
		if v, err := m.Version(limit(t)); err != nil || v != "6.2.0" {
			t.Fatalf("%q, %v", v, err)
		}
		if err := m.CheckDependencies(limit(t)); err != nil {
			t.Fatal(err)
		}
	}
	if times() != 1 {
		t.Errorf("it was asked %d times", times())
	}
	emulator("10.1")
	if v, err := m.Version(limit(t)); err != nil || v != "10.1.0" || times() != 2 {
		t.Errorf("%q after %d times, %v", v, times(), err)
	}
}

func TestAnEmulatorThatDoesNotSayItsVersionIsAMissingDependency(t *testing.T) {
	for name, script := range map[string]string{
		"says something else": "echo hello, I am no emulator",
		"says nothing":        "exit 0",
		"fails":               "echo 'libfoo.so.1: cannot open shared object file' >&2; exit 127",
		"says no end":         "yes",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.script(script + "\n")
			m := s.open(machinery.Options{})
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if name == "says no end" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
				_, err := m.Version(ctx)
				mustKind(t, err, machinery.ErrInterrupted)
				mustKind(t, m.CheckDependencies(ctx), machinery.ErrInterrupted)
				s.clean()
				return
			}
			v, err := m.Version(ctx)
			mustKind(t, err, machinery.ErrDependency)
			if v != "" || name == "fails" && !strings.Contains(err.Error(), "libfoo.so.1") {
				t.Errorf("%q, %v", v, err)
			}
			mustKind(t, m.CheckDependencies(ctx), machinery.ErrDependency)
		})
	}
}
