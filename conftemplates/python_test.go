//go:build linux

package conftemplates

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/internal/require"
)

// job is one rendering that Python is asked for.
type job struct {
	Template int             `json:"template"`
	Values   json.RawMessage `json:"values"`
}

// result is what Python gave: the file, or the kind of its error.
type result struct {
	Out   string `json:"out"`
	Error string `json:"error"`
}

const pythonProgram = `
import json, sys, jinja2
env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
work = json.load(sys.stdin)
templates = []
for source in work["templates"]:
    try:
        templates.append(env.from_string(source))
    except Exception as e:
        templates.append(e)
results = []
for job in work["jobs"]:
    template = templates[job["template"]]
    try:
        if isinstance(template, Exception):
            raise template
        results.append({"out": template.render(job["values"])})
    except Exception as e:
        results.append({"error": type(e).__name__ + ": " + str(e)})
json.dump(results, sys.stdout)
`

// inPython runs a program with JSON as its input, and its output as JSON.
func inPython(t *testing.T, program string, input, output any) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), require.Python(t, "jinja2", "jinja2, yaml"), "-c", program)
	data, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v\n%s", err, complaint.Bytes())
	}
	if err := json.Unmarshal(out, output); err != nil {
		t.Fatal(err)
	}
}

// renderInPython renders all jobs in one run of Python.
func renderInPython(t *testing.T, templates []string, jobs []job) []result {
	t.Helper()
	var results []result
	inPython(t, pythonProgram, map[string]any{"templates": templates, "jobs": jobs}, &results)
	if len(results) != len(jobs) {
		t.Fatalf("%d results for %d jobs", len(results), len(jobs))
	}
	return results
}

// asJSON is a value as JSON, with its order.
func asJSON(t *testing.T, value any) json.RawMessage {
	var out bytes.Buffer
	switch value := value.(type) {
	case *Values:
		out.WriteByte('{')
		for key, below := range value.All() {
			if out.Len() > 1 {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, "%s:%s", asJSON(t, key), asJSON(t, below))
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for i, below := range value {
			if i > 0 {
				out.WriteByte(',')
			}
			out.Write(asJSON(t, below))
		}
		out.WriteByte(']')
	default:
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return out.Bytes()
}

func orNone(r *rand.Rand, value any) any {
	if r.IntN(3) == 0 {
		return nil
	}
	return value
}

func texts(r *rand.Rand, wild bool) []any {
	items := make([]any, r.IntN(4))
	for i := range items {
		items[i] = anyText(r, wild)
	}
	return items
}

// anyValues are values that all templates of the test can be rendered with.
func anyValues(r *rand.Rand, wild bool) *Values {
	text := func() string { return anyText(r, wild) }
	values := new(Values)
	for _, key := range []string{"interface", "dsn", "user", "pw", "runtime_dir", "load_timeout", "quit_timeout", "stop_timeout", "call_timeout", "capture", "tcpdump"} {
		values.Set(key, text())
	}
	values.Set("disposable_copy_dir", orNone(r, text())).Set("verify", r.IntN(2) == 0).Set("sandbox", r.IntN(2) == 0).Set("file_quota", r.IntN(1<<30)).
		Set("allow_arguments", texts(r, wild)).
		Set("binaries", new(Values).Set("qemu_img", text()).Set("qemu_system_x86_64", text()).Set("tcpdump", orNone(r, text())))
	nodes := make([]any, r.IntN(3))
	for i := range nodes {
		nodes[i] = new(Values).Set("name", text()).Set("storages", texts(r, wild))
	}
	values.Set("nodes", nodes)
	machines := new(Values)
	for range r.IntN(6) {
		m := new(Values).Set("vmid", r.IntN(1000)-500)
		for _, key := range []string{"label", "qcow2_path", "snapshot_path", "machineinfo_path", "ip", "platform", "os_version", "architecture"} {
			m.Set(key, text())
		}
		for _, key := range []string{"mac_address", "snapshot", "memory_path", "interface"} {
			m.Set(key, orNone(r, text()))
		}
		m.Set("agent_port", pick[any](r, 0, 8000, 65535)).Set("allow_arguments", texts(r, wild)).Set("tags", texts(r, wild))
		machines.Set(text(), m)
	}
	return values.Set("machines", machines)
}

// theTemplates are those of the drivers, and such as are written for Cuckoo3.
func theTemplates(t *testing.T) map[string]string {
	templates := map[string]string{"driver qemu": qemu.Template, "driver kvm": kvm.Template}
	files, err := filepath.Glob("testdata/*.jinja2")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		templates[file] = string(source)
	}
	return templates
}

func TestFiveHundredConfigurationsRenderByteForByteAsInPython(t *testing.T) {
	var names, sources []string
	for name, source := range theTemplates(t) {
		names, sources = append(names, name), append(sources, source)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var jobs []job
	var values []*Values
	for i := range 500 {
		v := anyValues(r, i%2 == 0)
		for template := range sources {
			jobs, values = append(jobs, job{template, asJSON(t, v)}), append(values, v)
		}
	}
	for i, want := range renderInPython(t, sources, jobs) {
		got, err := Render(sources[jobs[i].Template], values[i])
		if err != nil || want.Error != "" {
			t.Fatalf("%s with %s\ngot error %v, Python %s", names[jobs[i].Template], jobs[i].Values, err, want.Error)
		}
		if diff := cmp.Diff(want.Out, string(got)); diff != "" {
			t.Fatalf("%s with %s\nPython -, here +:\n%s", names[jobs[i].Template], jobs[i].Values, diff)
		}
	}
}

func TestPythonReadsEachScalarAsItsText(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	cases := [][2]string{}
	for range 10_000 {
		plain := randomText(r)
		// The keys and the elements of a list in brackets are scalars too.
		cases = append(cases, [2]string{plain, "{k: " + scalar(plain, true) + ", l: x}"}, [2]string{plain, "k: " + scalar(plain, false)})
	}
	var wrong []string
	inPython(t, `
import json, sys, yaml
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
wrong = []
for text, source in json.load(sys.stdin):
    try:
        got = yaml.load(source, loader)["k"]
    except Exception as e:
        got = e
    if type(got) is not str or got != text:
        wrong.append(repr(source) + " is " + repr(got))
json.dump(wrong[:10], sys.stdout)
`, cases, &wrong)
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestWhatPythonWritesRightIsWrittenByteForByte(t *testing.T) {
	var names, sources []string
	for name, source := range theTemplates(t) {
		names, sources = append(names, name), append(sources, source)
	}
	r := rand.New(rand.NewPCG(11, 12))
	for i := range 200 {
		values := filled(anyValues(r, false))
		for n, source := range sources {
			python, err := Render(source, values)
			if err != nil {
				t.Fatal(err)
			}
			got, err := RenderYAML(source, values)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(python), string(got)); diff != "" {
				t.Fatalf("%s, configuration %d: Python -, here +:\n%s", names[n], i, diff)
			}
		}
	}
}

// filled has a text in the place of each nil.
func filled(values *Values) *Values {
	out := new(Values)
	for key, value := range values.All() {
		switch below := value.(type) {
		case nil:
			value = "text"
		case *Values:
			value = filled(below)
		}
		out.Set(key, value)
	}
	return out
}
