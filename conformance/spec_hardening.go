package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/machinery"
)

// hardeningSpecs: what a hypervisor that malware attacks gets of the program
// that started it.
var hardeningSpecs = []spec{
	{Requirement{ID: "MM-HARD-001", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureProcess},
		Rule:   "The hypervisor's process has no file open that the program had open for itself, even if the program did not mark it to be closed.",
		Why:    "A guest that breaks out of the hypervisor has what that has: the sandbox's database, its sockets, its logs.",
		Source: "execve(2)"}, hardDescriptors},
	{Requirement{ID: "MM-HARD-002", Level: Should, Op: machinery.OpRestoreStart, Needs: []Feature{FeatureGuest, FeatureProcess},
		Rule:   "The hypervisor's process does not have the program's environment variables beyond those that it needs.",
		Why:    "That is where services are given their keys and passwords.",
		Source: "environ(7)"}, hardEnvironment},
	{Requirement{ID: "MM-HARD-003", Level: Must, Op: machinery.OpRestoreStart, Needs: []Feature{FeaturePower, FeatureDangerous},
		Rule:   "A machine whose own definition could harm the host is not started unless the configuration allows that; the error is of kind \"wrong configuration\" and says what it is.",
		Why:    "Machines come from elsewhere, and nobody reads them.",
		Source: "machinery.ErrConfig"}, hardDangerous},
}

// errNoProcessViewer is a lab's mistake, as errNoDumpReader is.
var errNoProcessViewer = errors.New("the lab offers the feature \"process\", and its bench is no ProcessViewer")

// viewer is the bench as what can look into a machine's process.
func (w *World) viewer() ProcessViewer {
	v, ok := w.bench.(ProcessViewer)
	if !ok {
		w.Lab(errNoProcessViewer, "looking into a machine's process")
	}
	return v
}

func hardDescriptors(w *World) {
	h := w.Open()
	dir, err := os.MkdirTemp("", "mmd")
	w.Lab(err, "making a file that the program has open")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "secret")
	w.Lab(os.WriteFile(path, nil, 0o600), "making a file that the program has open")
	closeFile, err := openUnmarked(path)
	w.Lab(err, "opening a file as code in C does")
	defer closeFile()
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	open, err := w.viewer().Descriptors(w.Ctx, "a")
	w.Lab(err, "looking at what the hypervisor has open")
	if len(open) == 0 {
		w.Lab(errors.New("a process without any descriptor"), "looking at what the hypervisor has open")
	}
	if slices.Contains(open, path) {
		w.Failf("the hypervisor has a file open that the program had open for itself: %s among %s", path, strings.Join(open, ", "))
	}
}

// secretVariable is an environment variable that no hypervisor needs.
const secretVariable = "MACHINERY_SUITE_SECRET"

func hardEnvironment(w *World) {
	h := w.Open()
	w.Lab(os.Setenv(secretVariable, "of no use to a hypervisor"), "setting a variable")
	defer os.Unsetenv(secretVariable)
	h.Restored("a", machinery.StateRunning)
	h.Guest("a")
	env, err := w.viewer().Environment(w.Ctx, "a")
	w.Lab(err, "looking at the hypervisor's environment")
	for _, variable := range env {
		if strings.HasPrefix(variable, secretVariable+"=") {
			w.Failf("the hypervisor has the program's variable %s", secretVariable)
		}
	}
}

func hardDangerous(w *World) {
	h := w.Open(MachineSpec{Name: "a", Damage: Dangerous}, MachineSpec{Name: "well"})
	err := h.RestoreStart("a")
	w.Kind(err, machinery.ErrConfig, "restoring a machine whose own definition could harm the host")
	if danger := w.bench.Saved("a").Files["danger"]; danger != "" && !strings.Contains(err.Error(), danger) {
		w.Failf("the error does not name %s, which is what is dangerous: %v", danger, err)
	}
	h.Off("a", "after it was refused")
	h.Restored("well", machinery.StateRunning)
}
