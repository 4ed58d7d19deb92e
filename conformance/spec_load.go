package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/machinery"
)

// loadSpecs: registration, opening and the list of machines.
var loadSpecs = []spec{
	{Requirement{ID: "MM-LOAD-001", Level: Must, Op: machinery.OpOpen,
		Rule:   "A driver can be registered under its name, once.",
		Why:    "A sandbox finds a driver, its configuration file and its template by that name alone.",
		Source: "machinery.Driver; Cuckoo3: step 3, \"Making the module loadable\""}, loadRegisters},
	{Requirement{ID: "MM-LOAD-002", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "Machines lists every machine of the configuration, in its order.",
		Why:    "A machine that is not listed is never used, and nobody notices.",
		Source: "machinery.Machinery, Machines"}, loadListsAll},
	{Requirement{ID: "MM-LOAD-003", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "What Machines returns is the caller's own: changing it changes nothing in the driver.",
		Why:    "Otherwise one tool that sorts or relabels the list breaks every other one.",
		Source: "machinery.Machinery, Machines"}, loadCopies},
	{Requirement{ID: "MM-LOAD-004", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower, FeatureGuest, FeatureDamage},
		Rule:   "A machine that cannot be used stays listed, in the error state with the reason, and the others work.",
		Why:    "One broken machine of fifty must not stop a whole sandbox, nor vanish from it.",
		Source: "machinery.Driver, Open"}, loadBadMachine},
	{Requirement{ID: "MM-LOAD-005", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A configuration file that is missing, unreadable or without machines is an error of kind \"wrong configuration\" that names the file.",
		Why:    "The person who wrote the file has to find the mistake.",
		Source: "machinery.ErrConfig"}, loadBadFile},
	{Requirement{ID: "MM-LOAD-006", Level: Must, Op: machinery.OpClose, Needs: []Feature{FeaturePower},
		Rule:   "After Close every operation fails with \"the driver is closed\", and Close itself may be called again.",
		Why:    "A sandbox that shuts down closes things twice, and a late operation must not bring a machine back to life.",
		Source: "machinery.Machinery, Close"}, loadClosed},
	{Requirement{ID: "MM-LOAD-007", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower, FeatureLeftovers},
		Rule:   "Opening and closing a driver starts nothing and leaves nothing.",
		Why:    "Tools that only list machines or ask for a state open the driver all the time.",
		Source: "machinery.Machinery, Close"}, loadHarmless},
}

func loadRegisters(w *World) {
	d := w.subject.Driver
	var r machinery.Registry
	w.NoError(r.Register(d), "registering the driver as %q", d.Name)
	found, err := r.Lookup(d.Name)
	w.NoError(err, "looking the driver up as %q", d.Name)
	if found.Name != d.Name || found.Open == nil {
		w.Failf("looking the driver up as %q found %q", d.Name, found.Name)
	}
	w.Kind(r.Register(d), machinery.ErrConfig, "registering the same name a second time")
}

func loadListsAll(w *World) {
	want := []string{"win10", "a", "ubuntu-2"}
	h := w.Open(MachineSpec{Name: "win10"}, MachineSpec{Name: "a"}, MachineSpec{Name: "ubuntu-2"})
	if got := machinery.Names(h.M.Machines()); !slices.Equal(got, want) {
		w.Failf("Machines lists %q; the configuration has %q", got, want)
	}
}

func loadCopies(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	list := h.M.Machines()
	if len(list) != 2 {
		w.Failf("Machines lists %q; the configuration has two machines", machinery.Names(list))
	}
	for i := range list {
		list[i].Name = "changed"
		for k := range list[i].Tags {
			list[i].Tags[k] = "changed"
		}
	}
	for _, m := range h.M.Machines() {
		if m.Name == "changed" || slices.Contains(m.Tags, "changed") {
			w.Failf("after the caller changed its list, Machines returns the changed one: %+v", m)
		}
	}
}

func loadBadMachine(w *World) {
	h := w.Open(MachineSpec{Name: "bad", Damage: SnapshotMissing}, MachineSpec{Name: "good"})
	if got := machinery.Names(h.M.Machines()); !slices.Contains(got, "bad") {
		w.Failf("a machine whose snapshot is missing is no longer listed: Machines lists %q", got)
	}
	s := h.Is("bad", "with its snapshot missing", machinery.StateError)
	if s.Reason == "" && s.Detail == "" {
		w.Failf("the machine is in the error state without any reason")
	}
	if file := filepath.Base(w.bench.Saved("bad").Files["snapshot"]); !strings.Contains(s.Reason+s.Detail, file) {
		w.Failf("the reason of the error state does not name the missing file %q: %s%s", file, s, detail(s))
	}
	h.Restored("good", machinery.StateRunning)
	h.Guest("good")
}

func loadBadFile(w *World) {
	b := w.Bench()
	for _, bad := range []struct {
		what    string
		content []byte
	}{
		{"is no YAML at all", []byte("machines: [\n  a: }\n")},
		{"holds binary data", []byte{0, 1, 2, 0xff, 0xfe, 0}},
		{"is empty", nil},
		{"names no machine", []byte("{}\n")},
	} {
		w.Lab(os.WriteFile(b.ConfigPath(), bad.content, 0o600), "writing a bad configuration")
		w.badFile("opening a configuration that "+bad.what, b.ConfigPath())
	}
	w.Lab(os.Remove(b.ConfigPath()), "removing the configuration")
	w.badFile("opening a configuration that is missing", b.ConfigPath())
}

// badFile opens the driver and fails the check unless that is refused rightly.
func (w *World) badFile(doing, path string) {
	_, err := w.tryOpen(machinery.Options{RuntimeDir: w.bench.RuntimeDir()})
	w.Kind(err, machinery.ErrConfig, "%s", doing)
	if !strings.Contains(err.Error(), filepath.Base(path)) {
		w.Failf("%s, the error does not name the file %q: %v", doing, filepath.Base(path), err)
	}
}

func loadClosed(w *World) {
	h := w.Open()
	w.NoError(h.Close(), "closing the driver")
	w.NoError(h.Close(), "closing the driver a second time")
	w.Kind(h.RestoreStart("a"), machinery.ErrClosed, "restoring a machine after Close")
	w.Kind(h.Stop("a"), machinery.ErrClosed, "stopping a machine after Close")
	_, err := h.State("a")
	w.Kind(err, machinery.ErrClosed, "asking for a state after Close")
	h.Off("a", "after operations on a closed driver")
}

func loadHarmless(w *World) {
	h := w.Open(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	h.Is("a", "before anything was done", machinery.StatePoweroff)
	h.Off("a", "after the driver was opened")
	w.NoError(h.Close(), "closing the driver")
	w.Clean("after the driver was opened and closed")
}
