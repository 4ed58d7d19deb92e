//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance"
)

func TestAMachinesTrafficIsRecordedBetweenTwoCommands(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10", Network: true})
	net := s.bench.(conformance.Networked)
	path := filepath.Join(t.TempDir(), "run.pcap")
	start := []string{"capture", "start", "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir(), "win10", "--write", path}
	stop := []string{"capture", "stop", "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir(), "win10"}
	vm := func(args []string, more ...string) result {
		t.Helper()
		return runCLI(t, append(append([]string{"vm"}, args...), more...)...)
	}

	r := vm(start)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "the machine is off", "--capture "+path)

	s.vm("restore", "win10").want(t, 0, "stderr")
	r = vm(start, "--exclude", "192.0.2.1:8000", "--max-bytes", "1M")
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: running, and recording to "+path+"\n")
	for _, look := range []string{"state", "list"} {
		seen := s.vm(look)
		seen.want(t, 0, "stderr")
		says(t, seen.out, "its traffic is recorded to "+path+"\n")
	}
	again := vm(start)
	again.want(t, exitFailed, "stdout")
	says(t, again.err, "under way already")
	frame := conformance.Frame("between two commands")
	if err := net.Transmit(t.Context(), "win10", frame); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file is there before the capture has ended")
	}
	r = vm(stop)
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: running, and recorded to "+path+", ", " bytes\n")
	if data, err := os.ReadFile(path); err != nil || !bytes.Contains(data, frame) {
		t.Errorf("the capture (%d bytes, %v) lacks the frame", len(data), err)
	}
	r = vm(stop)
	r.want(t, 0, "stderr")
	says(t, r.out, "win10: was not recorded\n")
	r = s.vm("state")
	if r.out != "win10: running\n" {
		t.Errorf("after the capture the state is %s", r.out)
	}
	nobody := runCLI(t, "vm", "capture", "stop", "-c", s.bench.ConfigPath())
	nobody.want(t, exitUsage, "stdout")
	if strings.Contains(nobody.err, "--all") {
		t.Errorf("it offers a flag that it does not have: %s", nobody.err)
	}
	r = vm(start, "--json")
	r.want(t, exitFailed, "")
	var results []vmResult
	if err := json.Unmarshal([]byte(r.out), &results); err != nil || len(results) != 1 || results[0].Error == nil || results[0].Error.Kind != "configuration" {
		t.Errorf("a path that is taken gives %s (%v)", r.out, err)
	}
	s.vm("stop", "win10").want(t, 0, "stderr")
	s.nothingLeft()
}

func TestAMachineIsRecordedFromItsFirstPacketOn(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10", Network: true}, conformance.MachineSpec{Name: "win11"})
	net := s.bench.(conformance.Networked)
	dir := t.TempDir()
	path := filepath.Join(dir, "run.pcap")

	r := s.vm("start", "--all", "--capture", path)
	r.want(t, exitUsage, "stdout")
	says(t, r.err, "--capture", "for one machine")

	r = s.vm("start", "win11", "--capture", path)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "its arguments name no network")
	s.vm("stop", "win11").want(t, 0, "stderr")

	s.vm("start", "win10", "--capture", "-").want(t, exitUsage, "stdout")
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r = s.vm("boot", "win10", "--capture", taken)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, taken, "the machine was not started")
	s.state("win10", "poweroff")

	s.vm("start", "win10", "--capture", path, "--capture-exclude", "[2001:db8::1]:53").want(t, 0, "stderr")
	again := s.vm("restore", "win10", "--capture", path+"2")
	again.want(t, exitFailed, "stdout")
	says(t, again.err, "the machine has to be off", "running")
	s.vm("stop", "win10").want(t, 0, "stderr")
	if data, err := os.ReadFile(path); err != nil || !bytes.Contains(data, net.Greeting("win10")) {
		t.Errorf("the capture (%d bytes, %v) lacks the first frame", len(data), err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("beside the capture there is more: %v (%v)", left, err)
	}
	s.nothingLeft()
}

func TestNumbersOfBytesAreRead(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "500000": 500000, "100M": 100 << 20, "2g": 2 << 30, "1k": 1024, "1T": 1 << 40,
		"": 0, "0": 0, "-1": 0, "M": 0, "1MB": 0, "1.5G": 0, "9999999999G": 0, "M1": 0} {
		if got, ok := parseBytes(text); got != want || ok != (want > 0) {
			t.Errorf("%q is %d (%v); want %d", text, got, ok, want)
		}
	}
}
