package machinery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/machineries/machineries/machinery/config"
)

// Finding is one thing about an installation that was looked at, and how it
// stands. Findings are for people who set up a host. Like [Accountant], they
// are none of the operations that a sandbox needs: a driver tells its own by
// [Driver.Diagnose], and conformance does not ask for it.
type Finding struct {
	// Area is what it belongs to, such as AreaHypervisor. Findings of one area
	// are shown together, in the order in which they come.
	Area string `json:"area"`
	// Subject is what was looked at: a path, a network interface, a machine.
	Subject string `json:"subject"`
	// Key is the configuration's key that it is about, with those above it as
	// in [config.Diagnostic]; empty if it is about none.
	Key   string `json:"key,omitempty"`
	Level Level  `json:"level"`
	// What says what was found, in words that go on after the subject and a
	// colon.
	What string `json:"what"`
	// Do says what to do about it. It is empty where nothing is to be done, or
	// where What says it.
	Do string `json:"do,omitempty"`
}

// Level is how bad a finding is.
type Level string

// The levels of findings.
const (
	// LevelOK is for what is as it should be.
	LevelOK Level = "ok"
	// LevelWarning is for what may be meant so, or does harm later.
	LevelWarning Level = "warning"
	// LevelProblem is for what keeps something from working.
	LevelProblem Level = "problem"
)

// The areas that drivers have in common. They may have others.
const (
	AreaConfiguration = "configuration"
	AreaHypervisor    = "hypervisor"
	AreaDirectories   = "directories"
	AreaNetwork       = "network"
	AreaCapture       = "traffic capture"
	AreaMachines      = "machines"
	AreaLeftovers     = "left-overs"
)

// DiagnoseOptions are Options, and how far a diagnosis goes.
type DiagnoseOptions struct {
	Options
	// Deep has files read through that are taken on trust otherwise, which may
	// take as long as copying them.
	Deep bool
	// DumpDir is a directory that memory dumps are to go to: whether files can be
	// made in it and whether it has room for one of each machine. Empty for none.
	DumpDir string
}

// Diagnose looks at an installation: the configuration file at path, and all
// that the driver of that name needs for it on this host. It changes nothing
// and leaves nothing, but what a driver without a diagnosis of its own makes when
// it is opened. An empty path means no configuration: then it is about what the
// driver needs in any case.
//
// What is wrong is a Finding. The error is [ErrNotFound] for a driver that is
// not registered, and [ErrInterrupted], beside what was found until then, if ctx
// ended.
func (r *Registry) Diagnose(ctx context.Context, driver, path string, o DiagnoseOptions) ([]Finding, error) {
	d, err := r.Lookup(driver)
	if err != nil {
		return nil, err
	}
	var found []Finding
	if path == "" {
		found = d.diagnose(ctx, nil, o)
	} else {
		doc, always, here := readForDiagnosis(path, d.Schema, o.Strict)
		if doc != nil {
			found = d.diagnose(ctx, doc, o)
		}
		for i := range found {
			// The file cannot be used, however little the driver itself thinks of it.
			if f := &found[i]; f.Level == LevelWarning && f.Key != "" && slices.ContainsFunc(here, func(h Finding) bool { return h.Level == LevelProblem && h.Key == f.Key }) {
				f.Level = LevelProblem
			}
		}
		// What the driver has found itself, it says better.
		sound := len(always)+len(here) == 0
		here = slices.DeleteFunc(here, func(f Finding) bool { return tells(found, f.Key) })
		file := append(always, here...)
		if doc == nil {
			file = append(file, Finding{Area: AreaConfiguration, Subject: path, Level: LevelWarning, What: "nothing else was looked at", Do: "put this right first, and look again"})
		}
		if sound && doc != nil {
			what := fmt.Sprintf("%d machines, no mistake", len(doc.Machines()))
			if len(doc.Machines()) == 1 {
				what = "1 machine, no mistake"
			}
			file = []Finding{{Area: AreaConfiguration, Subject: path, Level: LevelOK, What: what}}
		}
		found = append(file, found...)
	}
	if err := ctx.Err(); err != nil {
		return found, &Error{Op: OpDiagnose, Kind: ErrInterrupted, Reason: "not everything was looked at", Err: errors.Join(err, context.Cause(ctx))}
	}
	return found, nil
}

// OpDiagnose is Diagnose in errors.
const OpDiagnose Op = "diagnose"

// Diagnose looks at an installation with a driver of the default registry; see
// [Registry.Diagnose].
func Diagnose(ctx context.Context, driver, path string, o DiagnoseOptions) ([]Finding, error) {
	return DefaultRegistry.Diagnose(ctx, driver, path, o)
}

// readForDiagnosis reads a configuration without looking at the host, so that
// a driver can do that itself and say more. here is what a look at the host
// finds wrong with it besides. The document is nil if no driver can use it.
func readForDiagnosis(path string, s *config.Schema, strict bool) (doc *config.Document, always, here []Finding) {
	full, err := config.Options{Strict: strict}.Load(path, s)
	if full == nil {
		if problems, is := errors.AsType[config.Problems](err); is {
			return nil, findingsOf(problems), nil
		}
		return nil, []Finding{unread(path, err)}, nil
	}
	doc, err = config.Options{Strict: strict, Static: true}.Load(path, s)
	if doc == nil {
		return nil, []Finding{unread(path, err)}, nil // it has been changed since
	}
	always = findingsOf(doc.Problems())
	here = slices.DeleteFunc(findingsOf(full.Problems()), func(f Finding) bool { return slices.Contains(always, f) })
	if doc.Err() != nil {
		return nil, always, here
	}
	return doc, always, here
}

// unread is about a configuration that cannot be read at all.
func unread(path string, err error) Finding {
	f := Finding{Area: AreaConfiguration, Subject: path, Level: LevelProblem, What: fmt.Sprintf("it cannot be read: %v", err)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.What, f.Do = "there is no such file", "name the right one"
	case errors.Is(err, fs.ErrPermission):
		f.What, f.Do = "this user may not read it", "let this user at it and at the directories above it, or run this as another"
	}
	return f
}

// findingsOf are the problems of a file as findings, errors first.
func findingsOf(problems config.Problems) []Finding {
	var found []Finding
	for _, p := range append(problems.Errors(), problems.Warnings()...) {
		f := Finding{Area: AreaConfiguration, Subject: p.Position.String(), Key: p.Path, Level: LevelProblem, What: p.Problem, Do: p.Hint}
		if p.Path != "" {
			f.What = p.Path + ": " + p.Problem
		}
		if p.Severity == config.Warning {
			f.Level = LevelWarning
		}
		found = append(found, f)
	}
	return found
}

// tells is whether something wrong was found about a key, or about all that is
// below one of those above it.
func tells(found []Finding, key string) bool {
	return slices.ContainsFunc(found, func(f Finding) bool {
		return f.Level != LevelOK && f.Key != "" && (f.Key == key || strings.HasPrefix(key, f.Key+"."))
	})
}

// diagnose is what the driver finds, or what its operations tell of one that
// has no diagnosis of its own.
func (d Driver) diagnose(ctx context.Context, doc *config.Document, o DiagnoseOptions) []Finding {
	if d.Diagnose != nil {
		return d.Diagnose(ctx, doc, o)
	}
	if doc == nil {
		return nil // it cannot be opened without
	}
	wrong := func(err error) Finding {
		return Finding{Area: AreaHypervisor, Subject: d.Name, Level: LevelProblem, What: err.Error()}
	}
	if d.CheckDependencies != nil {
		if err := d.CheckDependencies(ctx, doc); err != nil {
			return []Finding{wrong(err)}
		}
	}
	m, err := d.Open(ctx, doc, o.Options)
	if err != nil {
		return []Finding{wrong(err)}
	}
	defer m.Close()
	var found []Finding
	if version, err := Version(ctx, m); err == nil {
		found = append(found, Finding{Area: AreaHypervisor, Subject: d.Name, Level: LevelOK, What: "version " + version})
	}
	if err := CheckDependencies(ctx, m); err != nil && !errors.Is(err, ErrUnsupported) {
		found = append(found, wrong(err))
	}
	for _, name := range Names(m.Machines()) {
		f := Finding{Area: AreaMachines, Subject: name, Level: LevelOK}
		status, err := m.State(ctx, name)
		switch {
		case err != nil:
			f.Level, f.What = LevelProblem, err.Error()
		case status.State == StateError:
			f.Level, f.What = LevelProblem, status.String()
			if status.Detail != "" {
				f.What += ": " + status.Detail
			}
		default:
			f.What = status.String()
		}
		found = append(found, f)
	}
	return append(found, leftovers(ctx, m)...)
}

// leftovers is what an [Accountant] tells of runs that are over.
func leftovers(ctx context.Context, m Machinery) []Finding {
	runs, err := Account(ctx, m)
	switch {
	case errors.Is(err, ErrUnsupported):
		return nil
	case err != nil:
		return []Finding{{Area: AreaLeftovers, Subject: "runs", Level: LevelProblem, What: err.Error()}}
	}
	return LeftoverFindings(runs)
}

// LeftoverFindings are the findings about what [Account] has listed, for
// drivers that have a diagnosis of their own.
func LeftoverFindings(runs []Run) []Finding {
	var found []Finding
	for _, run := range runs {
		f := Finding{Area: AreaLeftovers, Subject: cmp.Or(run.Machine, run.ID), Level: LevelWarning}
		switch {
		case run.Problem != "":
			f.What = cmp.Or(run.Left, "there is a run of it that cannot be told about") + ", and it cannot be cleared up: " + run.Problem
		case run.Left != "":
			f.What = "left over: " + run.Left
			f.Do = "clear it up with \"machinery vm sweep\""
		case !run.Configured && !run.Held:
			f.What = fmt.Sprintf("it is %s, it is none of this configuration's machines, and nobody holds it", run.Status)
			f.Do = "if it is none of another configuration's, end it with \"machinery vm sweep --running\""
		default:
			continue
		}
		if len(run.Files) > 0 {
			f.What += " (" + strings.Join(run.Files, ", ") + ")"
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return []Finding{{Area: AreaLeftovers, Subject: "runs", Level: LevelOK, What: "nothing is left over of any"}}
	}
	return found
}
