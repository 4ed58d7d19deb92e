package conftemplates

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestATemplateRendersAsPythonsJinja2Does(t *testing.T) {
	values := new(Values).Set("interface", "br0").Set("none", nil).Set("yes", true).Set("port", 8000).
		Set("tags", []string{"b", "a", `q"'`}).Set("empty", []string{}).
		Set("machines", new(Values).Set("win", new(Values).Set("ip", "1.2.3.4").Set("tags", []string{"x"})).
			Set("b", new(Values).Set("ip", "").Set("tags", []string{})))
	for name, tt := range map[string]struct{ template, want string }{
		"values are written plain":        {"a: {{ interface }} {{ yes }} {{ port }} {{ machines.win.ip }}", "a: br0 True 8000 1.2.3.4"},
		"none is None":                    {"{{ none_ | default(none) }}{{ machines[\"win\"]['ip'] }}", "None1.2.3.4"},
		"a dict keeps its order":          {"{% for n, m in machines.items() %}\n{{ n }}: {{ m.ip }}\n{% endfor %}\n", "win: 1.2.3.4\nb: \n"},
		"a tag takes its line":            {"x:\n  {% for t in tags %}\n  - {{ t }}\n  {% endfor %}\ny:\n", "x:\n  - b\n  - a\n  - q\"'\ny:"},
		"white space after a value stays": {"{{ port }} {% if yes %}a{% endif %}", "8000 a"},
		"the loop counts":                 {"{% for t in tags %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}", "1/3,2/3,3/3"},
		"else of an empty loop":           {"{% for t in empty %}{{ t }}{% else %}-{% endfor %}", "-"},
		"a dash takes white space":        {"a  \n {%- if yes -%}  \n b {%- endif %} \nc", "ab \nc"},
		"True is 1":                       {"{{ yes == 1 }} {{ not port }} {{ port or 'x' }}", "True False 8000"},
		"bools can be made lower":         {"{{ yes | lower }}", "true"},
		"join and tojson":                 {"[{{ tags | join(', ') }}] {{ tags | tojson }}", `[b, a, q"'] ["b", "a", "q\"\u0027"]`},
		"what there is not":               {"a: {{ nothing }}{% for x in nothing %}b{% endfor %} {{ nothing == interface }} {{ machines.nothing | length }}", "a:  False 0"},
		"elif":                            {"{% if port == 1 %}1{% elif port == 8000 %}2{% else %}3{% endif %}", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Render(tt.template, values)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWhatIsNotSupportedIsAnErrorWithItsPlace(t *testing.T) {
	values := new(Values).Set("interface", "br0").Set("tags", []string{"a"}).Set("machine", new(Values).Set("ip", "1"))
	for _, tt := range []struct {
		template     string
		line, column int
	}{
		{"a\n{% set x = 1 %}", 2, 4},
		{"{{ interface", 1, 1},
		{"é {{ interface + 1 }}", 1, 16},
		{"{{ interface | upper }}", 1, 16},
		{"{{ dirty_copy_dir }}", 1, 4},
		{"\n\n  {{ machine.ipp }}", 3, 6},
		{"{{ tags }}", 1, 4},
		{"{{ machine.items }}", 1, 12},
		{"{% for a in tags %}", 1, 1},
		{"{% if tags %}{% endfor %}", 1, 14},
		{"{% endif %}", 1, 1},
		{"{% for a, b in machine %}{% endfor %}", 1, 16},
		{"{# never", 1, 1},
		{"{{ range(3) }}", 1, 4},
		{"{{ loop.index }}", 1, 4},
		{"{{ interface }", 1, 14},
		{"{{ }}", 1, 1},
		{"{{ 'a\\x41' }}", 1, 4},
		{"{{ machine.ip.x }}", 1, 4},
		{"{{ interface = 'a' }}", 1, 14},
		{"{{ interface interface }}", 1, 14},
		{"{% for a in tags recursive %}{% endfor %}", 1, 18},
		{"{% for a in tags if a %}{% endfor %}", 1, 18},
		{"{% for a b in tags %}{% endfor %}", 1, 10},
		{"{% for loop in tags %}{% endfor %}", 1, 8},
		{"{{ 'a'.b }}", 1, 7},
		{"{{ (tags)[0] }}", 1, 10},
		{"{{ tags[0, 1] }}", 1, 10},
		{"{{ tags[0 }}", 1, 11},
		{"{{ interface) }}", 1, 13},
		{"{{ (interface, 1) }}", 1, 14},
		{"{{ machine.get('ip') }}", 1, 12},
		{"{{ machine.__class__ }}", 1, 12},
		{"{{ machine['items'] }}", 1, 4},
		{"{{ interface() }}", 1, 13},
		{"{{ tags.x }}", 1, 4},
		{"{{ interface | join }}", 1, 4},
		{"{{ tags | join | lower }}", 1, 16},
		{"{{ interface | default('a', false, 1) }}", 1, 36},
		{"{{ interface | default(value='a') }}", 1, 24},
		{"{{ interface | default(boolean=true, 'a') }}", 1, 38},
		{"{{ interface | default('a' 'b') }}", 1, 28},
		{"{{ interface | default('a' }}", 1, 28},
		{"{{ interface | }}", 1, 15},
		{"{{ interface is none or }}", 1, 24},
		{"{{ interface is number }}", 1, 17},
		{"{{ interface is none 'a' }}", 1, 22},
		{"{{ interface == 1 == 1 }}", 1, 19},
		{"{{ interface in tags }}", 1, 14},
		{"{{ interface not in tags }}", 1, 14},
		{"{{ tags == tags }}", 1, 4},
		{"{{ not }}", 1, 7},
		{"{{ 007 }}", 1, 4},
		{"{{ 1.5 }}", 1, 4},
		{"{{ 'a }}", 1, 4},
		{"{{ größe }}", 1, 4},
		{"{{ interface }} {{ a", 1, 17},
		{"{%%}", 1, 1},
		{"{% if interface %}{% else %}{% else %}{% endif %}", 1, 29},
		{"{% if interface %}{% else x %}{% endif %}", 1, 27},
		{"{% if interface %}{% endif x %}", 1, 28},
		{"{{ 'İ' | lower }}", 1, 4},
		{"{{ machine | tojson | length }}{{ machine | trim }}", 1, 35},
		{"a\xff", 1, 2},
	} {
		_, err := RenderYAML(tt.template, values)
		at, is := errors.AsType[*Error](err)
		if !is {
			t.Errorf("%q: got %v", tt.template, err)
			continue
		}
		if at.Line != tt.line || at.Column != tt.column {
			t.Errorf("%q: want %d:%d, got %v", tt.template, tt.line, tt.column, err)
		}
	}
}

func TestRenderingsAtOnceDoNotMeet(t *testing.T) {
	values := new(Values).Set("tags", []string{"a", "b"})
	done := make(chan string)
	for range 4 {
		go func() {
			out, err := Render("{% for t in tags %}{{ loop.index }}{{ t }}{% endfor %}", values)
			done <- fmt.Sprint(string(out), err)
		}()
	}
	for range 4 {
		if got := <-done; got != "1a2b<nil>" {
			t.Error(got)
		}
	}
}

func TestATemplateThatWritesTooMuchOrIsNestedTooDeepIsAnError(t *testing.T) {
	many := make([]any, 1000)
	values := new(Values).Set("many", many)
	for template, want := range map[string]string{
		strings.Repeat("{% for x in many %}", 4) + strings.Repeat("0123456789", 1000) + strings.Repeat("{% endfor %}", 4): "1:1: the template writes more than 16777216 bytes",
		strings.Repeat("{% if many %}", 200) + strings.Repeat("{% endif %}", 200):                                         "tags are nested more than 100 levels deep",
		"{{ " + strings.Repeat("(", 200) + "many" + strings.Repeat(")", 200) + " }}":                                      "brackets are nested more than 50 levels deep",
	} {
		if out, err := Render(template, values); err == nil || out != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s…: %d bytes, %v", template, len(out), err)
		}
	}
}
