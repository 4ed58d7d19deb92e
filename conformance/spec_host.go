package conformance

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/machineries/machineries/machinery"
)

// versionSpecs: which hypervisor it is.
var versionSpecs = []spec{
	{Requirement{ID: "MM-VERSION-001", Level: Must, Op: machinery.OpVersion, Capability: machinery.CapVersion, Needs: []Feature{FeaturePower},
		Rule:   "Version returns the hypervisor's version alone, as numbers with dots, before any machine was started, and starts none.",
		Why:    "It goes into reports, and is compared.",
		Source: "Cuckoo3: version"}, versionPlain},
	{Requirement{ID: "MM-VERSION-002", Level: Must, Op: machinery.OpVersion, Capability: machinery.CapVersion, Needs: []Feature{FeaturePower},
		Rule:   "Version says the same while a machine runs.",
		Why:    "Two versions of one hypervisor in one report are none.",
		Source: "machinery.Versioner"}, versionRunning},
	{Requirement{ID: "MM-VERSION-003", Level: Must, Op: machinery.OpVersion, Capability: machinery.CapVersion, Needs: []Feature{FaultFeature(FaultNoProgram)},
		Rule:   "If the hypervisor cannot be asked, Version returns an error instead of an empty version.",
		Why:    "An empty version is written down, and missed when someone looks for the cause of a difference.",
		Source: "Cuckoo3: version returns \"\""}, versionMissing},
}

// dependencySpecs: what the host has to have.
var dependencySpecs = []spec{
	{Requirement{ID: "MM-DEPS-001", Level: Must, Op: machinery.OpDependencies, Capability: machinery.CapDependencies, Needs: []Feature{FeaturePower, FeatureLeftovers},
		Rule:   "CheckDependencies returns nil on a host on which machines can be started, starts none, and leaves nothing.",
		Why:    "A check that cries wolf is switched off.",
		Source: "Cuckoo3: verify_dependencies"}, depsThere},
	{Requirement{ID: "MM-DEPS-002", Level: Must, Op: machinery.OpDependencies, Capability: machinery.CapDependencies, Needs: []Feature{FaultFeature(FaultNoProgram)},
		Rule:   "If the hypervisor's program is not there, CheckDependencies returns an error of kind \"missing dependency\" that names it, and nil again when it is back.",
		Why:    "The one who set up the host has to know what to install.",
		Source: "Cuckoo3: verify_dependencies, MachineryDependencyError"}, depsMissing},
	{Requirement{ID: "MM-DEPS-003", Level: Must, Op: machinery.OpDependencies, Capability: machinery.CapDependencies, Needs: []Feature{FeaturePower},
		Rule:   "CheckDependencies leaves running machines alone.",
		Why:    "Monitoring calls it every minute.",
		Source: "machinery.DependencyChecker"}, depsRunning},
}

// Version calls the driver's operation.
func (h *Handle) Version() (version string, err error) {
	err = h.returned(h.w.call(h.w.Timing.State, machinery.OpVersion, "", func() (err error) {
		version, err = machinery.Version(h.w.Ctx, h.M)
		return err
	}))
	return version, err
}

// CheckDependencies calls the driver's operation.
func (h *Handle) CheckDependencies() error {
	return h.returned(h.w.call(h.w.Timing.State, machinery.OpDependencies, "", func() error { return machinery.CheckDependencies(h.w.Ctx, h.M) }))
}

var plainVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)+$`)

func versionPlain(w *World) {
	h := w.Open()
	h.Requires(machinery.CapVersion)
	version, err := h.Version()
	w.NoError(err, "asking for the version")
	if !plainVersion.MatchString(version) {
		w.Failf("the version is %q; want numbers with dots, such as \"7.2.22\"", version)
	}
	info, err := w.subject.Lab.Info(w.Ctx)
	w.Lab(err, "asking the lab for the hypervisor's version")
	if info.Version != "" && info.Version != version {
		w.Failf("the version is %q; the hypervisor's is %q", version, info.Version)
	}
	h.Off("a", "after the driver was asked for the version")
}

func versionRunning(w *World) {
	h := w.Open()
	h.Requires(machinery.CapVersion)
	before, err := h.Version()
	w.NoError(err, "asking for the version while no machine runs")
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	now, err := h.Version()
	w.NoError(err, "asking for the version while a machine runs")
	if now != before {
		w.Failf("while a machine runs the version is %q; it was %q before", now, before)
	}
}

func versionMissing(w *World) {
	h := w.Open()
	h.Requires(machinery.CapVersion)
	w.inject("a", FaultNoProgram)
	version, err := h.Version()
	if err == nil {
		w.Failf("the hypervisor's program is not there, and Version returned %q and no error", version)
	}
	var e *machinery.Error
	if !errors.As(err, &e) {
		w.Failf("the error is a %T; want a *machinery.Error: %v", err, err)
	}
}

func depsThere(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDependencies)
	w.NoError(h.CheckDependencies(), "checking the dependencies on a host that has them")
	h.Off("a", "after a check of the dependencies")
	w.Clean("after a check of the dependencies")
}

func depsMissing(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDependencies)
	w.inject("a", FaultNoProgram)
	err := h.CheckDependencies()
	w.Kind(err, machinery.ErrDependency, "checking the dependencies when the hypervisor's program is not there")
	if program := w.bench.Saved("a").Files["program"]; program != "" && !strings.Contains(err.Error(), filepath.Base(program)) {
		w.Failf("the error does not name %s, which is not there: %v", program, err)
	}
	w.Lab(w.bench.Heal(w.Ctx, "a"), "putting the hypervisor's program back")
	w.NoError(h.CheckDependencies(), "checking the dependencies when all is back")
}

func depsRunning(w *World) {
	h := w.Open()
	h.Requires(machinery.CapDependencies)
	h.Restored("a", machinery.StateRunning)
	g := h.Guest("a")
	tells(w, "marking its memory", func(ctx ctxT) error { return g.SetMemory(ctx, markSlot, markRun) })
	w.NoError(h.CheckDependencies(), "checking the dependencies while a machine runs")
	w.moves(g, "after a check of the dependencies")
	if got := answers(w, "reading its memory", func(ctx ctxT) (uint32, error) { return g.Memory(ctx, markSlot) }); got != markRun {
		w.Failf("after a check of the dependencies, the guest's memory has the mark %#x; it was %#x before", got, markRun)
	}
}
