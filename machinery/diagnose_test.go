package machinery_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// looking is a driver whose configuration names a file that has to be there.
func looking(diagnose func(ctx context.Context, doc *config.Document, o machinery.DiagnoseOptions) []machinery.Finding) machinery.Driver {
	d := named("box")
	d.Schema = &config.Schema{Name: "box", Fields: []config.Field{
		{Key: "program", Type: config.FilePath{MustExist: true}},
		{Key: "machines", Optional: true, Type: config.Machines{Fields: []config.Field{{Key: "disk", Type: config.FilePath{MustExist: true}}}}},
	}}
	d.Diagnose = diagnose
	return d
}

// briefly is findings as lines.
func briefly(found []machinery.Finding) []string {
	var lines []string
	for _, f := range found {
		lines = append(lines, strings.Join([]string{f.Area, f.Subject, string(f.Level), f.What, f.Do}, "|"))
	}
	return lines
}

func TestADriverIsAskedForADiagnosisThoughWhatItsConfigurationNamesIsNotThere(t *testing.T) {
	path := write(t, "box.yaml", "program: /nowhere/x\ncolour: red\nmachines:\n  a: {disk: /nowhere/a}\n  b: {disk: /nowhere/b}\n")
	own := []machinery.Finding{
		{Area: machinery.AreaHypervisor, Subject: "/nowhere/x", Key: "program", Level: machinery.LevelProblem, What: "not installed", Do: "install it"},
		{Area: machinery.AreaMachines, Subject: "a", Key: "machines.a", Level: machinery.LevelProblem, What: "its disk is gone"},
	}
	r := registry(t, looking(func(_ context.Context, doc *config.Document, o machinery.DiagnoseOptions) []machinery.Finding {
		if got := doc.String("program"); got != "/nowhere/x" || !o.Deep {
			t.Errorf("the driver was given %q, deep %v", got, o.Deep)
		}
		for _, m := range doc.Machines() {
			if m.Err() != nil {
				t.Errorf("a file that is not there was told as a mistake: %v", m.Err())
			}
		}
		return own
	}))
	found, err := r.Diagnose(t.Context(), "box", path, machinery.DiagnoseOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	// What the driver says better is not said twice; of the machine "b" it said nothing.
	lines := briefly(found)
	if len(lines) != 4 ||
		!strings.Contains(lines[0], path+":2:1|warning|colour: this key is unknown") ||
		!strings.Contains(lines[1], path+":5:13|problem|machines.b.disk: ") {
		t.Errorf("found:\n%s", strings.Join(lines, "\n"))
	}
	if diff := cmp.Diff(own, found[2:]); diff != "" {
		t.Error(diff)
	}
}

func TestWhatAFileCannotBeUsedWithIsAProblemThoughTheDriverOnlyWarns(t *testing.T) {
	path := write(t, "box.yaml", "program: /nowhere/x\n")
	r := registry(t, looking(func(context.Context, *config.Document, machinery.DiagnoseOptions) []machinery.Finding {
		return []machinery.Finding{
			{Area: machinery.AreaHypervisor, Subject: "/nowhere/x", Key: "program", Level: machinery.LevelWarning, What: "not installed", Do: "install it"},
			{Area: machinery.AreaHypervisor, Subject: "y", Key: "other", Level: machinery.LevelWarning, What: "old"},
		}
	}))
	found, err := r.Diagnose(t.Context(), "box", path, machinery.DiagnoseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"hypervisor|/nowhere/x|problem|not installed|install it", "hypervisor|y|warning|old|"}, briefly(found)); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatNoDriverCanUseIsDiagnosedAlone(t *testing.T) {
	r := registry(t, looking(func(context.Context, *config.Document, machinery.DiagnoseOptions) []machinery.Finding {
		t.Error("the driver was asked")
		return nil
	}))
	missing := t.TempDir() + "/box.yaml"
	for path, want := range map[string]string{
		write(t, "box.yaml", "program: [\n"):  "problem",
		write(t, "box.yaml", "prgram: /x\n"):  "program: this key is missing",
		write(t, "box.yaml", "program: 1\n1"): "problem",
		missing:                               "|problem|there is no such file|name the right one",
	} {
		found, err := r.Diagnose(t.Context(), "box", path, machinery.DiagnoseOptions{})
		if lines := strings.Join(briefly(found), "\n"); err != nil || !strings.Contains(lines, want) || !strings.HasPrefix(lines, "configuration|"+path) ||
			!strings.HasSuffix(lines, "|warning|nothing else was looked at|put this right first, and look again") {
			t.Errorf("%v, want %q:\n%s", err, want, lines)
		}
	}
	if os.Geteuid() == 0 {
		return // nothing is closed to root
	}
	closed := write(t, "box.yaml", "program: /x\n")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	found, err := r.Diagnose(t.Context(), "box", closed, machinery.DiagnoseOptions{})
	if err != nil || len(found) != 2 || found[0].What != "this user may not read it" {
		t.Errorf("%v: %+v", err, found)
	}
}

func TestWithoutAConfigurationADriverIsAskedForWhatItNeedsInAnyCase(t *testing.T) {
	own := []machinery.Finding{{Area: machinery.AreaHypervisor, Subject: "x", Level: machinery.LevelOK, What: "there"}}
	r := registry(t, looking(func(_ context.Context, doc *config.Document, _ machinery.DiagnoseOptions) []machinery.Finding {
		if doc != nil {
			t.Error("there is a document")
		}
		return own
	}), named("plain"))
	found, err := r.Diagnose(t.Context(), "box", "", machinery.DiagnoseOptions{})
	if diff := cmp.Diff(own, found); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if found, err := r.Diagnose(t.Context(), "plain", "", machinery.DiagnoseOptions{}); found != nil || err != nil {
		t.Errorf("of a driver without a diagnosis: %+v, %v", found, err)
	}
	_, err = r.Diagnose(t.Context(), "none", "", machinery.DiagnoseOptions{})
	want(t, err, machinery.ErrNotFound, `"none"`)
}

func TestADiagnosisThatIsCutShortSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := registry(t, looking(func(context.Context, *config.Document, machinery.DiagnoseOptions) []machinery.Finding {
		cancel(errors.New("the user is tired"))
		return []machinery.Finding{{Subject: "seen"}}
	}))
	found, err := r.Diagnose(ctx, "box", "", machinery.DiagnoseOptions{})
	want(t, err, machinery.ErrInterrupted, "not everything was looked at", "the user is tired")
	if len(found) != 1 {
		t.Errorf("what was found until then is not there: %+v", found)
	}
}

// accounting is a scripted machinery that can account for what is left.
type accounting struct {
	scripted
	runs []machinery.Run
}

func (a *accounting) Account(context.Context) ([]machinery.Run, error) { return a.runs, nil }
func (a *accounting) Sweep(context.Context, string, bool) error        { return nil }
func (a *accounting) Version(context.Context) (string, error)          { return "1.2", nil }
func (a *accounting) CheckDependencies(context.Context) error          { return errors.New("no disk drive") }

func TestADriverWithoutADiagnosisIsDiagnosedByItsOperations(t *testing.T) {
	m := &accounting{runs: []machinery.Run{{Machine: "a", Configured: true, Left: "its process has ended", Files: []string{"/x"}}, {ID: "7", Left: "odd", Problem: "not ours"}}}
	m.state = func(context.Context) (machinery.Status, error) {
		return machinery.Status{State: machinery.StateError, Reason: "no disk", Detail: "it is gone"}, nil
	}
	d := named("box")
	d.Open = func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) { return m, nil }
	found, err := registry(t, d).Diagnose(t.Context(), "box", write(t, "box.yaml", "port: 1\n"), machinery.DiagnoseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"hypervisor|box|ok|version 1.2|",
		"hypervisor|box|problem|no disk drive|",
		"machines|a|problem|error (no disk): it is gone|",
		`left-overs|a|warning|left over: its process has ended (/x)|clear it up with "machinery vm sweep"`,
		"left-overs|7|warning|odd, and it cannot be cleared up: not ours|",
	}, briefly(found)[1:]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !slices.Contains(m.called(), machinery.OpClose) {
		t.Error("the driver was not closed")
	}
	d.Open = func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) {
		return nil, errors.New("nobody home")
	}
	found, err = registry(t, d).Diagnose(t.Context(), "box", write(t, "box.yaml", "port: 1\n"), machinery.DiagnoseOptions{})
	if lines := briefly(found); err != nil || len(lines) != 2 || lines[1] != "hypervisor|box|problem|nobody home|" {
		t.Errorf("%v: %q", err, lines)
	}
}
