package conftemplates

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Any text is a template or an error with a place in it, and a template gives the same each time.
func FuzzATemplateIsRenderedOrRefusedWithAPlace(f *testing.F) {
	f.Add(smallTemplate)
	for _, seed := range []string{"", "{{ a }}", "{{- m.k | default('x', true) -}}", "{% for k, v in m.items() %}{{ loop.index }}{% else %}{% endfor +%}",
		"{% if a == 'x' and not b or l[0] is none %}{% elif (c) %}{% else %}{% endif %}", "{#- c -#}", "{{ l | join(', ') if l else \"-\" }}", "{% raw %}", "{{ 'a\\n' }}",
		"# {{ a }}\na: {{ a }}\nb: \"{{ a }}\"\nc: '{{ a }}'\nd: [{{ a }}, {{ b }}]\ne: |\n  {{ a }}\n"} {
		f.Add(seed)
	}
	values := new(Values).Set("a", "x: #").Set("b", nil).Set("c", 1).Set("l", []string{"p", "q"}).
		Set("m", new(Values).Set("k", true).Set("n", new(Values))).Set("dsn", "d").Set("wait", "1s").Set("pin", "").Set("machines", new(Values))
	f.Fuzz(func(t *testing.T, template string) {
		for _, render := range []func(string, *Values) ([]byte, error){Render, RenderYAML} {
			out, err := render(template, values)
			again, errAgain := render(template, values)
			if !bytes.Equal(out, again) || (err == nil) != (errAgain == nil) {
				t.Fatalf("rendered twice: %q, %v and %q, %v", out, err, again, errAgain)
			}
			if err == nil {
				continue
			}
			at, is := errors.AsType[*Error](err)
			lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(template), "\n")
			if !is || out != nil || at.Line < 1 || at.Line > len(lines) || at.Column < 1 || at.Column > utf8.RuneCountInString(lines[at.Line-1])+1 {
				t.Fatalf("%q, %v", out, err)
			}
		}
	})
}

// Any text reads back from each place of a template, or is refused.
func FuzzAValueReadsBackFromAnyPlace(f *testing.F) {
	for _, seed := range nasty {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if !utf8.ValidString(value) || len(value) > 500 {
			return
		}
		for _, template := range []string{"k: {{ x }}", "k: {{ x }} # {{ x }}\nl: 1\n", "k: \"{{ x }}\"", "k: '{{ x }}'", "k: |-\n  {{ x }}\nl: m\n", "- {{ x }}\n- l\n",
			"[{{ x }}, \"{{ x }}\", l]", "{{ x }}:\n  l: m\n", "k: a{{ x }}", "k: \"a{{ x }}\\\"\"", "k: &a {{ x }}\nl: *a\n", "# {{ x }}\nk: {{ x }}\n", "k: [{l: {{ x }}}]"} {
			out, err := RenderYAML(template, new(Values).Set("x", value))
			if err != nil {
				if at, is := errors.AsType[*Error](err); !is || at.Hint == "" {
					t.Fatalf("%q: %v", template, err)
				}
				continue
			}
			var root yaml.Node
			if err := yaml.Unmarshal(out, &root); err != nil {
				t.Fatalf("%q: %q: %v", template, out, err)
			}
			want := value
			if i := strings.Index(template, "a{{"); i > 0 {
				want = "a" + value + strings.TrimSuffix(strings.TrimPrefix(template[i:], "a{{ x }}"), `\""`)
				if strings.HasSuffix(template, `\""`) {
					want += `"`
				}
			}
			if found, _ := findText(&root, want); !found {
				t.Fatalf("%q: %q does not hold %q", template, out, want)
			}
		}
	})
}
