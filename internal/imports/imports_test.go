package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// goCommand runs the go command at the module's root and returns its standard output.
func goCommand(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s go %s: %v\n%s", strings.Join(env, " "), strings.Join(args, " "), err, words.Bytes())
	}
	return out.Bytes()
}

func TestImportsPointOneWay(t *testing.T) {
	for _, system := range []string{"linux", "darwin"} {
		t.Run(system, func(t *testing.T) {
			// -e: a package that has no file for this system is no reason to fail here.
			out := goCommand(t, []string{"GOOS=" + system, "CGO_ENABLED=0"}, "list", "-e", "-deps", "-json=ImportPath,Imports", "./...")
			var all []pkg
			for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
				var p pkg
				if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				all = append(all, p)
			}
			for _, broken := range check(rules, all) {
				t.Error(broken)
			}
		})
	}
}

func TestTheContractAndTheSuiteCompileForMacOS(t *testing.T) {
	darwin := []string{"GOOS=darwin", "CGO_ENABLED=0"}
	goCommand(t, darwin, "vet", "./machinery/...")
	// Without the tests of the suite, which run it on labs that are for Linux alone.
	goCommand(t, darwin, "build", "./conformance/", "./conformance/report/", "./conformance/guest/")
}

// The made-up packages below break every rule, so that it is known that the test above can fail.
func TestABrokenImportIsFoundWithItsWay(t *testing.T) {
	p := func(path string, imports ...string) pkg {
		for i, s := range imports {
			if rest, is := strings.CutPrefix(s, "./"); is {
				imports[i] = module + "/" + rest
			}
		}
		return pkg{ImportPath: module + "/" + path, Imports: imports}
	}
	library := func(path string, imports ...string) pkg { return pkg{ImportPath: path, Imports: imports} }
	right := []pkg{
		p("machinery/config", "fmt", "go.yaml.in/yaml/v4"),
		p("machinery/config/sub", "./machinery/config"),
		p("machinery", "context", "./machinery/config"),
		p("drivers/qemu", "./machinery", "./drivers/qemu/monitor", "./internal/qcow2"),
		p("drivers/qemu/monitor", "net", "testingground", "flags"),
		p("conftemplates", "./machinery", "./machinery/config", "github.com/nikolalohinski/gonja/v2/exec"),
		p("fakes/guest", "net"),
		p("fakes/qemu", "./fakes/guest", "./internal/qcow2"),
		p("conformance", "testing", "github.com/onsi/ginkgo/v2", "./machinery"),
		p("conformance/qemulab", "./conformance", "./fakes/qemu", "./drivers/qemu"),
		p("internal/qcow2", "os", "./internal/bits"),
		p("internal/bits"),
		p("cmd/machinery", "flag", "./conformance", "./drivers/qemu"),
	}
	for _, tt := range []struct {
		name   string
		change []pkg // in the place of those with the same path
		want   []string
	}{
		{"nothing", nil, nil},
		{"the contract imports testing", []pkg{p("machinery", "testing")}, []string{
			"machinery must not import testing: ", "it does by " + module + "/machinery → testing",
			"drivers/qemu must not import testing: ", "it does by " + module + "/drivers/qemu → " + module + "/machinery → testing"}},
		{"a part of testing counts", []pkg{p("machinery", "testing/fstest")}, []string{"machinery must not import testing/fstest: "}},
		{"a library between does not hide it", []pkg{p("drivers/qemu/monitor", "example.com/log"), library("example.com/log", "fmt", "flag")}, []string{
			"drivers/qemu/monitor must not import flag: ", "/drivers/qemu/monitor → example.com/log → flag"}},
		{"a driver imports ginkgo, in any version", []pkg{p("drivers/qemu", "github.com/onsi/ginkgo/v3/types")}, []string{"must not import github.com/onsi/ginkgo/v3/types"}},
		{"a driver imports gomega", []pkg{p("drivers/qemu", "github.com/onsi/gomega")}, []string{"must not import github.com/onsi/gomega"}},
		{"a driver imports a fake", []pkg{p("drivers/qemu", "./fakes/qemu")}, []string{"drivers/qemu must not import " + module + "/fakes/qemu"}},
		{"a driver imports the suite", []pkg{p("drivers/qemu", "./conformance")}, []string{"drivers/qemu must not import " + module + "/conformance"}},
		{"a driver imports the template engine", []pkg{p("drivers/qemu", "./conftemplates")}, []string{"drivers/qemu must not import " + module + "/conftemplates"}},
		{"the templates import a driver", []pkg{p("conftemplates", "./drivers/qemu")}, []string{"conftemplates must not import " + module + "/drivers/qemu"}},
		{"the contract imports a driver", []pkg{p("machinery", "./drivers/qemu")}, []string{"machinery must not import " + module + "/drivers/qemu"}},
		{"the configuration imports the contract", []pkg{p("machinery/config", "./machinery")}, []string{"machinery/config must not import " + module + "/machinery: "}},
		{"the configuration imports a leaf", []pkg{p("machinery/config/sub", "./internal/bits")}, []string{"machinery/config/sub must not import " + module + "/internal/bits"}},
		{"a fake imports a driver", []pkg{p("fakes/qemu", "./drivers/qemu/monitor")}, []string{"fakes/qemu must not import " + module + "/drivers/qemu/monitor"}},
		{"a fake imports the contract", []pkg{p("fakes/guest", "./machinery")}, []string{"fakes/guest must not import " + module + "/machinery"}},
		{"a fake imports the suite", []pkg{p("fakes/guest", "./conformance")}, []string{"fakes/guest must not import " + module + "/conformance"}},
		{"the suite imports a command", []pkg{p("conformance/qemulab", "./cmd/machinery")}, []string{"conformance/qemulab must not import " + module + "/cmd/machinery"}},
		{"a leaf imports the contract", []pkg{p("internal/bits", "./machinery")}, []string{"internal/bits must not import " + module + "/machinery"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := append([]pkg(nil), tt.change...)
			for _, p := range right {
				if !changes(tt.change, p.ImportPath) {
					all = append(all, p)
				}
			}
			broken := strings.Join(check(rules, all), "\n")
			if tt.want == nil && broken != "" {
				t.Errorf("right imports are refused:\n%s", broken)
			}
			for _, want := range tt.want {
				if !strings.Contains(broken, want) {
					t.Errorf("not found: %s\nfound:\n%s", want, broken)
				}
			}
		})
	}
}

func changes(change []pkg, path string) bool {
	for _, p := range change {
		if p.ImportPath == path {
			return true
		}
	}
	return false
}

func TestARuleForNoPackageIsNotKeptInSilence(t *testing.T) {
	got := check([]rule{{of: []string{"drivres/..."}, forbidden: []string{"flag"}}}, []pkg{{ImportPath: module + "/drivers/qemu"}})
	if diff := cmp.Diff([]string{"a rule is for drivres/..., and there is no such package"}, got); diff != "" {
		t.Error(diff)
	}
}
