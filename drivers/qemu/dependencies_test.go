//go:build linux

package qemu

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/machineries/machineries/machinery"
)

func TestAllThatIsMissingIsNamedAtOnce(t *testing.T) {
	s := newSite(t)
	s.script("echo 'QEMU emulator version 5.2.0'\n")
	m := s.open(machinery.Options{})
	err := m.CheckDependencies(limit(t))
	mustKind(t, err, machinery.ErrDependency)
	if !strings.Contains(err.Error(), "5.2.0") || !strings.Contains(err.Error(), "6.0") {
		t.Errorf("the error lacks the versions: %v", err)
	}
	s.script("echo 'QEMU emulator version 7.2.22'\n")
	if err := m.CheckDependencies(limit(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.config.QEMU); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.config.DisposableDir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.runtime, 0o755); err != nil {
		t.Fatal(err)
	}
	err = m.CheckDependencies(limit(t))
	mustKind(t, err, machinery.ErrDependency)
	for _, word := range []string{s.config.QEMU, s.config.DisposableDir, s.runtime, "chmod 700"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error lacks %s: %v", word, err)
		}
	}
	if err := os.RemoveAll(s.runtime); err != nil {
		t.Fatal(err)
	}
	err = m.CheckDependencies(limit(t))
	mustKind(t, err, machinery.ErrDependency)
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	mustKind(t, m.CheckDependencies(dead), machinery.ErrInterrupted)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	mustKind(t, m.CheckDependencies(limit(t)), machinery.ErrClosed)
	_, err = m.Version(limit(t))
	mustKind(t, err, machinery.ErrClosed)
}

func TestKVMIsNeededByMachinesThatNameNoOtherAccelerator(t *testing.T) {
	for line, want := range map[string]bool{
		"":                         false,
		"-enable-kvm":              true,
		"-accel kvm":               true,
		"-accel kvm,thread=single": true,
		"-accel accel=kvm":         true,
		"--accel kvm":              true,
		"-M q35,accel=kvm":         true,
		"-machine q35,accel=kvm":   true,
		"-M q35,accel=kvm:tcg":     false,
		"-accel kvm -accel tcg":    false,
		"-M q35 -name accel=kvm":   false,
		"-accel tcg":               false,
		"-M q35,accel=tcg -m 1024": false,
		"-name -enable-kvm -accel": false,
	} {
		v := &vm{args: &commandArgs{args: strings.Split(line, " ")}}
		if got := v.wantsKVM(); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
