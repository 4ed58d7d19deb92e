package machinery_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// named is a driver that can be registered. Open gives an empty scripted machinery.
func named(name string) machinery.Driver {
	return machinery.Driver{
		Name: name,
		Schema: &config.Schema{Name: name, Fields: []config.Field{
			{Key: "port", Type: config.Between(1, 9), Optional: true},
			{Key: "machines", Optional: true, Type: config.Machines{Fields: []config.Field{{Key: "ip", Type: config.IPAddress{}}}}},
		}},
		Template: "port: {{ port }}\n",
		Open: func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) {
			return &scripted{}, nil
		},
	}
}

func registry(t *testing.T, drivers ...machinery.Driver) *machinery.Registry {
	t.Helper()
	r := new(machinery.Registry)
	for _, d := range drivers {
		if err := r.Register(d); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func write(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// want fails the test unless err is an *Error of the kind whose text has all the parts.
func want(t *testing.T, err, kind error, parts ...string) {
	t.Helper()
	if _, is := errors.AsType[*machinery.Error](err); !is || machinery.KindOf(err) != kind {
		t.Fatalf("the error is %v, want a *machinery.Error of kind %q", err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error reads\n%v\nwithout %q", err, part)
		}
	}
}

func TestADriverThatCouldNotBeLoadedIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		wrong func(*machinery.Driver)
		want  string
	}{
		{"no name", func(d *machinery.Driver) { d.Name = "" }, `driver "" cannot be registered: it has no name`},
		{"the name of Cuckoo3's documentation", func(d *machinery.Driver) { d.Name = "Machinery_Name" },
			`driver "Machinery_Name" cannot be registered: the name is used as the stem of file names (Machinery_Name.yaml); ` +
				`use lower case letters, digits and underscores, such as "machinery_name"`},
		{"a digit first", func(d *machinery.Driver) { d.Name = "9p" }, `such as "m9p"`},
		{"an underscore first", func(d *machinery.Driver) { d.Name = "_kvm" }, `such as "m_kvm"`},
		{"a dash", func(d *machinery.Driver) { d.Name = "my-vm" }, `such as "my_vm"`},
		{"a path", func(d *machinery.Driver) { d.Name = "../etc/passwd" }, `such as "m___etc_passwd"`},
		{"other letters", func(d *machinery.Driver) { d.Name = "Öl" }, `such as "m_l"`},
		{"a line end", func(d *machinery.Driver) { d.Name = "kvm\n" }, `such as "kvm_"`},
		{"no schema", func(d *machinery.Driver) { d.Schema = nil }, `driver "box" cannot be registered: it has no schema`},
		{"the schema of another driver", func(d *machinery.Driver) { d.Schema = named("kvm").Schema }, `its schema is named "kvm"; both names must be the same`},
		{"no template", func(d *machinery.Driver) { d.Template = "" }, "it has no template; write one and set Driver.Template"},
		{"a blank template", func(d *machinery.Driver) { d.Template = " \n\t" }, "it has no template"},
		{"no Open", func(d *machinery.Driver) { d.Open = nil }, "it has no Open function"},
		{"a schema with a mistake", func(d *machinery.Driver) { d.Schema.Fields[0].Key = "machines" }, "its schema is wrong: config: schema box: machines: the key is declared twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := named("box")
			tt.wrong(&d)
			var r machinery.Registry
			want(t, r.Register(d), machinery.ErrConfig, tt.want)
			if got := r.Drivers(); len(got) != 0 {
				t.Errorf("it was registered all the same: %v", got)
			}
		})
	}
}

func TestASuggestedNameCanBeRegistered(t *testing.T) {
	for _, name := range []string{"Machinery_Name", "9p", "_", "my-vm", "Öl", "日本", "a b.c"} {
		err := new(machinery.Registry).Register(named(name))
		_, after, found := strings.Cut(fmt.Sprint(err), "such as ")
		var suggested string
		if _, scanErr := fmt.Sscanf(after, "%q", &suggested); !found || scanErr != nil {
			t.Fatalf("%q: no suggestion in %v", name, err)
		}
		if err := new(machinery.Registry).Register(named(suggested)); err != nil {
			t.Errorf("%q was suggested for %q, and is refused: %v", suggested, name, err)
		}
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	first := named("box")
	first.Doc = "the first"
	r := registry(t, first, named("crate"), named("a2_b"))
	want(t, r.Register(named("box")), machinery.ErrConfig, `driver "box" cannot be registered: another driver has this name already`)
	d, err := r.Lookup("box")
	if err != nil || d.Doc != "the first" {
		t.Errorf("after the refusal, box is %q, %v", d.Doc, err)
	}
	var names []string
	for _, d := range r.Drivers() {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"a2_b", "box", "crate"}, names); diff != "" {
		t.Errorf("the drivers are not all there, by name:\n%s", diff)
	}
}

func TestOneOfManyRegistrationsOfANameWins(t *testing.T) {
	var r machinery.Registry
	var group sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		group.Go(func() {
			errs[i] = r.Register(named("box"))
			_, _ = r.Lookup("box")
			_ = r.Drivers()
		})
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 registrations of one name succeeded", won)
	}
}

func TestAnUnknownDriverIsAnErrorThatListsTheKnownOnes(t *testing.T) {
	_, err := new(machinery.Registry).Lookup("qemu")
	want(t, err, machinery.ErrNotFound, `there is no driver "qemu"; none is registered`)
	_, err = registry(t, named("kvm"), named("box")).Lookup("qemu")
	want(t, err, machinery.ErrNotFound, `there is no driver "qemu"; the known ones are "box", "kvm"`)
}

func TestThePackageFunctionsUseTheDefaultRegistry(t *testing.T) {
	before := machinery.DefaultRegistry
	machinery.DefaultRegistry = new(machinery.Registry)
	defer func() { machinery.DefaultRegistry = before }()

	machinery.MustRegister(named("box"))
	if err := machinery.Register(named("box")); err == nil {
		t.Error("Register took a name twice")
	}
	func() {
		defer func() {
			if err, _ := recover().(error); machinery.KindOf(err) != machinery.ErrConfig {
				t.Errorf("MustRegister of a taken name panicked with %v, want the error of Register", err)
			}
		}()
		machinery.MustRegister(named("box"))
	}()
	if d, err := machinery.Lookup("box"); err != nil || d.Name != "box" {
		t.Errorf("Lookup: %q, %v", d.Name, err)
	}
	if got := machinery.Drivers(); len(got) != 1 {
		t.Errorf("Drivers lists %d", len(got))
	}
	if m, err := machinery.Open(t.Context(), write(t, "box.yaml", "port: 1\n"), machinery.Options{}); err != nil || m == nil {
		t.Errorf("Open: %v, %v", m, err)
	}
}

func TestOpenTakesTheDriverFromTheStemOfTheFile(t *testing.T) {
	box, kvm := named("box"), named("kvm")
	var opened []string
	for _, d := range []*machinery.Driver{&box, &kvm} {
		d.Open = func(_ context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			opened = append(opened, fmt.Sprintf("%s %d %s", d.Name, doc.Int("port"), o.RuntimeDir))
			return &scripted{}, nil
		}
	}
	r := registry(t, box, kvm)
	for _, name := range []string{"kvm.yaml", "box.yml", "box"} {
		if _, err := r.Open(t.Context(), write(t, name, "port: 3\n"), machinery.Options{RuntimeDir: "/run/x"}); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.OpenAs(t.Context(), "box", write(t, "kvm.yaml", "port: 4\n"), machinery.Options{}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"kvm 3 /run/x", "box 3 /run/x", "box 3 /run/x", "box 4 "}, opened); diff != "" {
		t.Errorf("not what was to be opened:\n%s", diff)
	}
	_, err := r.Open(t.Context(), write(t, "qemu.yaml", ""), machinery.Options{})
	want(t, err, machinery.ErrNotFound, `there is no driver "qemu"; the known ones are "box", "kvm"`)
}

func TestAFileThatCannotBeUsedIsAnErrorOfTheConfigurationWithItsPlaces(t *testing.T) {
	box := named("box")
	box.CheckDependencies = func(context.Context, *config.Document) error {
		t.Error("the dependencies were checked")
		return nil
	}
	box.Open = func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) {
		t.Error("the driver was opened")
		return nil, nil
	}
	r := registry(t, box)
	for _, tt := range []struct{ name, content, want string }{
		{"a value at the top", "port: 10\n", "box.yaml:1:7: port:"},
		{"no YAML", "machines: [\n", "box.yaml:"},
		{"empty", "", "box.yaml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := r.Open(t.Context(), write(t, "box.yaml", tt.content), machinery.Options{})
			want(t, err, machinery.ErrConfig, `open: the configuration of driver "box" cannot be used: `, tt.want)
			if _, is := errors.AsType[config.Problems](err); !is {
				t.Errorf("the problems are not to be had from the error: %#v", err)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "box.yaml")
	_, err := r.Open(t.Context(), missing, machinery.Options{})
	want(t, err, machinery.ErrConfig, missing)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not match fs.ErrNotExist", err)
	}
}

func TestAMachineWithAMistakeIsTheDriversToListAndTheCallersToHearOf(t *testing.T) {
	box := named("box")
	usable := map[string]bool{}
	box.Open = func(_ context.Context, doc *config.Document, _ machinery.Options) (machinery.Machinery, error) {
		for _, e := range doc.Machines() {
			usable[e.Name] = e.Err() == nil
		}
		return &scripted{}, nil
	}
	var heard []string
	path := write(t, "box.yaml", "prot: 1\nmachines:\n  good: {ip: 10.0.0.1}\n  bad: {ip: 10.0.0}\n")
	o := machinery.Options{Warn: func(d config.Diagnostic) { heard = append(heard, d.Severity.String()+" "+d.Path) }}
	if _, err := registry(t, box).Open(t.Context(), path, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"good": true, "bad": false}, usable); diff != "" {
		t.Errorf("the driver saw:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"warning prot", "error machines.bad.ip"}, heard); diff != "" {
		t.Errorf("the caller heard:\n%s", diff)
	}
}

func TestStrictMakesAnUnknownKeyAnError(t *testing.T) {
	r := registry(t, named("box"))
	path := write(t, "box.yaml", "prot: 1\n")
	if _, err := r.Open(t.Context(), path, machinery.Options{}); err != nil {
		t.Errorf("not strict, and nobody to warn: %v", err)
	}
	_, err := r.Open(t.Context(), path, machinery.Options{Strict: true, Warn: func(d config.Diagnostic) { t.Errorf("warned of %v", d) }})
	want(t, err, machinery.ErrConfig, "box.yaml:1:1: prot: ", `did you mean "port"?`)
}

func TestADegradedDriverOpensWithoutWhatIsGoneFromTheHost(t *testing.T) {
	d := looking(nil)
	d.CheckDependencies = func(context.Context, *config.Document) error { return machinery.ErrDependency }
	r := registry(t, d)
	path := write(t, "box.yaml", "program: /nowhere/x\nmachines:\n  a: {disk: /nowhere/a}\n")
	_, err := r.Open(t.Context(), path, machinery.Options{})
	want(t, err, machinery.ErrConfig, "box.yaml:1:10: program: ")
	var told []string
	m, err := r.Open(t.Context(), path, machinery.Options{Degraded: true, Warn: func(d config.Diagnostic) { told = append(told, d.Path+" "+d.Severity.String()) }})
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if diff := cmp.Diff([]string{"program warning", "machines.a.disk warning"}, told); diff != "" {
		t.Error(diff)
	}
	if _, err := r.Open(t.Context(), path, machinery.Options{Degraded: true}); err != nil {
		t.Errorf("with nobody to warn: %v", err)
	}
	// What is wrong with the file itself is wrong on every host.
	path = write(t, "box.yaml", "program: []\n")
	_, err = r.Open(t.Context(), path, machinery.Options{Degraded: true})
	want(t, err, machinery.ErrConfig, "box.yaml:1:10: program: ")
}

func TestWhatTheDriverSaysOfOpeningReachesTheCallerWithAKind(t *testing.T) {
	own := &machinery.Error{Op: machinery.OpOpen, Kind: machinery.ErrBusy, Reason: "held by process 7"}
	plain := errors.New("qemu-img is missing")
	dead, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name           string
		ctx            context.Context
		deps, open     error
		depsRun, opens bool
		kind, is       error
		text           string
	}{
		{name: "all is well", depsRun: true, opens: true},
		{name: "a plain error of the dependencies", deps: plain, depsRun: true, kind: machinery.ErrDependency, is: plain, text: "open: missing dependency: qemu-img is missing"},
		{name: "the driver's own kind for the dependencies", deps: own, depsRun: true, kind: machinery.ErrBusy, is: own, text: "held by process 7"},
		{name: "a plain error of Open", open: plain, depsRun: true, opens: true, kind: machinery.ErrHypervisor, is: plain, text: "open: the hypervisor failed: qemu-img is missing"},
		{name: "a bare kind of Open", open: fmt.Errorf("%w: no libvirtd", machinery.ErrConnection), depsRun: true, opens: true, kind: machinery.ErrConnection, text: "no libvirtd"},
		{name: "the driver's own error of Open", open: own, depsRun: true, opens: true, kind: machinery.ErrBusy, is: own, text: "open: held by process 7"},
		{name: "a context that ended meanwhile", open: context.DeadlineExceeded, depsRun: true, opens: true, kind: machinery.ErrInterrupted, is: context.DeadlineExceeded},
		{name: "a context that had ended", ctx: dead, kind: machinery.ErrInterrupted, is: context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			box := named("box")
			var deps, opened bool
			box.CheckDependencies = func(_ context.Context, doc *config.Document) error {
				deps = true
				if opened {
					t.Error("the dependencies were checked after the driver was opened")
				}
				if doc.Int("port") != 2 {
					t.Error("the dependencies were checked without the document")
				}
				return tt.deps
			}
			box.Open = func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) {
				opened = true
				return &scripted{}, tt.open
			}
			ctx := t.Context()
			if tt.ctx != nil {
				ctx = tt.ctx
			}
			m, err := registry(t, box).Open(ctx, write(t, "box.yaml", "port: 2\n"), machinery.Options{})
			if deps != tt.depsRun || opened != tt.opens {
				t.Errorf("dependencies checked: %v, opened: %v; want %v, %v", deps, opened, tt.depsRun, tt.opens)
			}
			if tt.kind == nil {
				if err != nil || m == nil {
					t.Errorf("got %v, %v", m, err)
				}
				return
			}
			want(t, err, tt.kind, tt.text)
			if m != nil {
				t.Error("a machinery came with the error")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v does not match %v", err, tt.is)
			}
		})
	}
}

func TestADriverThatOpensNothingIsAnError(t *testing.T) {
	box := named("box")
	box.Open = func(context.Context, *config.Document, machinery.Options) (machinery.Machinery, error) {
		return nil, nil
	}
	_, err := registry(t, box).Open(t.Context(), write(t, "box.yaml", "port: 2\n"), machinery.Options{})
	want(t, err, machinery.ErrHypervisor, `driver "box" returned neither machines nor an error`)
}
