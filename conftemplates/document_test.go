package conftemplates

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// small is a schema with few keys.
var small = &config.Schema{Name: "small", Fields: []config.Field{
	{Key: "dsn", Type: config.HypervisorURI{}, Example: "test:///default"},
	{Key: "wait", Type: config.Duration{}, Optional: true, Default: 3 * time.Minute},
	{Key: "pin", Type: config.String{}, Optional: true, AllowEmpty: true, Sensitive: true},
	{Key: "machines", Type: config.Machines{Example: "win10_1", Fields: []config.Field{
		{Key: "ip", Type: config.IPAddress{}},
		{Key: "tags", Type: config.List{}, AllowEmpty: true, Example: []string{"a", "b"}},
	}}},
}}

const smallTemplate = `# Where libvirt is.
dsn: {{ dsn }}
# How long to wait.
wait: {{ wait }}
# May be empty.
pin: {{ pin }}
# By name.
machines:
  {% for name, machine in machines.items() %}
  {{ name }}:
    # Its address.
    ip: {{ machine.ip }}
    # Words.
    tags:
      {% for tag in machine.tags %}
      - {{ tag }}
      {% endfor %}
  {% endfor %}
`

func parseSmall(t *testing.T, source string) *config.Document {
	t.Helper()
	doc, err := config.Parse("small.yaml", []byte(source), small)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestAnExampleHasTheExamplesAndDefaultsOfTheSchema(t *testing.T) {
	got, err := Example(machinery.Driver{Name: "small", Schema: small, Template: smallTemplate})
	if err != nil {
		t.Fatal(err)
	}
	want := `# Where libvirt is.
dsn: test:///default
# How long to wait.
wait: 3m
# May be empty.
pin: ` + `
# By name.
machines:
  win10_1:
    # Its address.
    ip: 192.168.0.1
    # Words.
    tags:
      - a
      - b
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestARenderedFileSaysWhatTheFileSaid(t *testing.T) {
	doc := parseSmall(t, `
machines:
  "no": {ip: 10.0.0.1, tags: ["a: b", 1.10]}
  b: {ip: '::0001', tags: }
dsn: 'qemu:///system'
wait: 90
pin: 0017
`)
	got, err := RenderDocument(smallTemplate, doc)
	if err != nil {
		t.Fatal(err)
	}
	want := `# Where libvirt is.
dsn: qemu:///system
# How long to wait.
wait: 1m30s
# May be empty.
pin: "0017"
# By name.
machines:
  "no":
    # Its address.
    ip: 10.0.0.1
    # Words.
    tags:
      - "a: b"
      - "1.10"
  b:
    # Its address.
    ip: "::1"
    # Words.
    tags:
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestAFileWithAProblemIsNotRendered(t *testing.T) {
	for _, source := range []string{
		"dsn: test:///default\ncolour: red\nmachines: {a: {ip: 10.0.0.1, tags: []}}",
		"dsn: test:///default\nmachines: {a: {ip: 10.0.0.1, tags: []}, b: {ip: x, tags: []}}",
		"dsn: test:///default\nmachines: {a: {ip: 10.0.0.1, tags: [a, '']}}",
	} {
		doc, _ := config.Parse("small.yaml", []byte(source), small)
		out, err := RenderDocument(smallTemplate, doc)
		if err == nil || out != nil || !strings.HasPrefix(err.Error(), "small.yaml cannot be rendered before this is put right: small.yaml:") {
			t.Errorf("%s\ngot %s, %v", source, out, err)
		}
	}
}

func TestATemplateThatLosesAValueIsToldOfAndRendersNothing(t *testing.T) {
	doc := parseSmall(t, "dsn: test:///default\nwait: 1s\npin: secret7\nmachines: {a: {ip: 10.0.0.1, tags: []}}")
	for _, tt := range []struct{ old, new, want string }{
		{"wait: {{ wait }}\n", "", "small.yaml.jinja2 is wrong: it makes of small.yaml a file in which wait is another than it was"},
		{"{{ pin }}", "", "in which pin is another than it was"},
		{"{{ dsn }}", "{{ dsn", "small.yaml.jinja2:2:6: what begins here is not ended"},
		{"{{ dsn }}", "", "does not load"},
	} {
		out, err := RenderDocument(strings.Replace(smallTemplate, tt.old, tt.new, 1), doc)
		if err == nil || out != nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret7") {
			t.Errorf("%q: got %s, %v", tt.old, out, err)
		}
	}
}

func TestValuesKeepTheirOrder(t *testing.T) {
	v := new(Values).Set("b", 1).Set("a", 2).Set("b", 3)
	var keys []string
	for key := range v.All() {
		keys = append(keys, key)
	}
	if diff := cmp.Diff([]string{"b", "a"}, keys); diff != "" || v.Len() != 2 {
		t.Error(diff, v.Len())
	}
	if value, have := v.Get("b"); value != 3 || !have {
		t.Error(value, have)
	}
	if value, have := v.Get("c"); value != nil || have {
		t.Error(value, have)
	}
}

func TestAValueThatNoTemplateCanHaveIsAnError(t *testing.T) {
	round := []any{nil}
	round[0] = round
	for _, bad := range []any{1.5, int64(1), map[string]string{}, "a\xffb", []string{"\xff"}, new(Values).Set("\xff", 1), round} {
		if _, err := Render("", new(Values).Set("x", bad)); err == nil || len(err.Error()) > 300 {
			t.Errorf("%T: %v", bad, err)
		}
	}
	if _, err := Render("", nil); err != nil {
		t.Error(err)
	}
}
