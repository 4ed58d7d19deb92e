//go:build linux

package main

import (
	"os"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/drivers/qemu"
)

func TestASealedMachineWhoseDiskChangedIsNotRestored(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b", Damage: conformance.SnapshotMissing})
	files := s.bench.Saved("a").Files
	manifest := qemu.ManifestPath(files["snapshot"])
	r := s.vm("snapshot", "seal", "a")
	r.want(t, 0, "stderr")
	says(t, r.out, "a: wrote "+manifest)
	for _, op := range []string{"restore", "stop"} {
		s.vm(op, "a").want(t, 0, "stderr")
	}
	again := s.vm("snapshot", "seal", "a")
	again.want(t, exitFailed, "stdout")
	says(t, again.err, manifest, "sealed already")

	if err := os.Truncate(files["disk"], 1<<20); err != nil {
		t.Fatal(err)
	}
	r = s.vm("restore", "a")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, files["disk"]+" has changed since the snapshot was made", manifest)

	missing := s.vm("snapshot", "seal", "b")
	missing.want(t, exitFailed, "stdout")
	says(t, missing.err, s.bench.Saved("b").Files["snapshot"])
	s.vm("snapshot", "seal").want(t, exitUsage, "stdout")
	if err := os.Remove(manifest); err != nil { // it is where it should be, and no left-over
		t.Error(err)
	}
	s.nothingLeft()
}
