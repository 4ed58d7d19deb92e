package conftemplates

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

func TestAScalarReadsBackAsItsText(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range trials / 2 {
		plain := randomText(r)
		for _, frame := range []string{"k: %", "[%, b]", "{%: b}", "- %", "%: b", "- - %\n"} {
			source := strings.Replace(frame, "%", scalar(plain, strings.ContainsAny(frame, "[{")), 1)
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(source), &n); err != nil {
				t.Fatalf("case %d: %q: %v", i, source, err)
			}
			if found, tag := findText(&n, plain); !found || tag != "!!str" {
				t.Fatalf("case %d: %q does not hold the text %q (%s)", i, source, plain, tag)
			}
		}
	}
}

// randomText is a text of what YAML and jinja2 make something of.
func randomText(r *rand.Rand) string {
	var s strings.Builder
	for range r.IntN(5) {
		if r.IntN(2) == 0 {
			s.WriteString(pick(r, nasty...))
		} else {
			s.WriteString(pick(r, "a", "1", "0", ":", " ", "-", "#", "é", ".", "_", "x", "e", "=", "<", "T", "5", "\n", "+", "{", "]", ",", "?"))
		}
	}
	return s.String()
}

func findText(n *yaml.Node, plain string) (bool, string) {
	if n.Kind == yaml.ScalarNode && n.Value == plain {
		return true, n.Tag
	}
	for _, below := range n.Content {
		if found, tag := findText(below, plain); found {
			return found, tag
		}
	}
	return false, ""
}

func TestAValueIsWrittenAsItsPlaceNeeds(t *testing.T) {
	for _, tt := range []struct{ name, template, value, want string }{
		{"a harmless text stays", "a: {{ x }}", "win10", "a: win10"},
		{"an address stays", "a: {{ x }} # c", "192.168.30.101", "a: 192.168.30.101 # c"},
		{"a URI stays", "a: {{ x }}", "qemu+ssh://root@host/system", "a: qemu+ssh://root@host/system"},
		{"a path with blanks stays", "a: {{ x }}", "/srv/my disks/a.qcow2", "a: /srv/my disks/a.qcow2"},
		{"a number that is a text gets quotes", "a: {{ x }}", "1.10", `a: "1.10"`},
		{"a word that is none gets quotes", "a: {{ x }}", "no", `a: "no"`},
		{"a MAC address that reads as a number gets quotes", "a: {{ x }}", "52:54:00:12:34:56", `a: "52:54:00:12:34:56"`},
		{"a MAC address that does not stays", "a: {{ x }}", "52:54:00:ab:34:56", "a: 52:54:00:ab:34:56"},
		{"the quotes of the template are enough", `a: "{{ x }}"`, "1.10", `a: "1.10"`},
		{"quotes within them are escaped", `a: "{{ x }}\\"`, `C:\"x"`, `a: "C:\\\"x\"\\"`},
		{"single quotes are doubled", `a: '{{ x }}'`, "it's", "a: 'it''s'"},
		{"a line end becomes an escape", "a: {{ x }}", "a\nb", `a: "a\nb"`},
		{"the empty text has quotes", "a: {{ x }}", "", `a: ""`},
		{"a key is quoted like a value", "{{ x }}: 1", "a: b", `"a: b": 1`},
		{"an element is quoted", "- {{ x }}", "- a", `- "- a"`},
		{"an element within brackets", "a: [{{ x }}, b]", "a, b", `a: ["a, b", b]`},
		{"a comment cannot be left", "# {{ x }}\na: 1", "c\na: 2", "# c a: 2\na: 1"},
		{"other text may be beside it", "a: http://{{ x }}:8000/", "host", "a: http://host:8000/"},
		{"blanks after it stay", "a: {{ x }}  \nb: 1", "no", "a: \"no\"  \nb: 1"},
		{"a block of text", "a: |\n  {{ x }}\nb: {{ x }}", "no", "a: |\n  no\nb: \"no\""},
		{"a folded key", "- a: >-\n    {{ x }}\n\n    b\n  c: {{ x }}", "#", "- a: >-\n    #\n\n    b\n  c: \"#\""},
		{"an anchor before it", "a: &b {{ x }}\nc: *b", "yes", "a: &b \"yes\"\nc: *b"},
		{"a hash beside letters is no comment", "a: b#{{ x }}", "c", "a: b#c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := RenderYAML(tt.template, new(Values).Set("x", tt.value))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAValueThatCannotStandInItsPlaceIsAnError(t *testing.T) {
	for _, tt := range []struct{ template, value string }{
		{"a: http://{{ x }}/", "h: b"},
		{"a: {{ x }}{{ x }}", "b #"},
		{"a: -{{ x }}", " a"},
		{"a: '{{ x }}'", "a\nb"},
		{"a: |\n  {{ x }}", "a\nb: c"},
		{"a: |\n  {{ x }}", " a"},
	} {
		out, err := RenderYAML(tt.template, new(Values).Set("x", tt.value))
		if at, is := errors.AsType[*Error](err); !is || at.Line == 0 || at.Column == 0 || at.Hint == "" {
			t.Errorf("%q with %q: got %q, %v", tt.template, tt.value, out, err)
		}
	}
}

func TestNoneIsEmptyInAYAMLFile(t *testing.T) {
	out, err := RenderYAML("a: {{ x }}\nb: \"{{ x }}\"\nc: [{{ x }}]\nd: e{{ x }}", new(Values).Set("x", nil))
	if want := "a: \nb: \"\"\nc: []\nd: e"; err != nil || string(out) != want {
		t.Errorf("got %q, %v", out, err)
	}
}
