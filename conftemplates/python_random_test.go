//go:build linux

package conftemplates

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// randomTemplate is a template of many small parts. Most are supported; some are not, or ask for what there is not.
type randomTemplate struct {
	*rand.Rand
	out   strings.Builder
	depth int
	names []string
	plain []string
}

func (r *randomTemplate) sign() string { return pick(r.Rand, "", "", "", "-", "+") }

func (r *randomTemplate) tag(words string) {
	blank := pick(r.Rand, " ", " ", "", "\n", "\t")
	if blank == "" {
		// A sign would be taken for a part of the word otherwise, or a word for a part of the sign.
		blank = " "
	}
	fmt.Fprintf(&r.out, "{%%%s%s%s%s%s%%}", r.sign(), blank, words, blank, r.sign())
}

func (r *randomTemplate) text() {
	r.out.WriteString(pick(r.Rand, "", "a", " ", "  ", "\n", "\n  ", "  \n", "x: ", "\n\n", "\r\n ", "\t", "{", "}", "%", "#}", "\u00a0", "\n\u00a0 ", "\x0c", "é", "-"))
}

func (r *randomTemplate) parts() {
	for range r.IntN(5) {
		r.text()
		switch r.IntN(5) {
		case 0, 1:
			if r.IntN(3) > 0 {
				fmt.Fprintf(&r.out, "{{ %s }}", pick(r.Rand, append([]string{"name", "odd", "one", "machines.win.ip"}, r.plain...)...))
				continue
			}
			cond := ""
			if r.IntN(5) == 0 {
				cond = " if " + r.value(2)
				if r.IntN(2) == 0 {
					cond += " else " + r.value(2)
				}
			}
			fmt.Fprintf(&r.out, "{{%s %s%s %s}}", r.sign(), r.value(3), cond, pick(r.Rand, "", "", "", "-"))
		case 2:
			fmt.Fprintf(&r.out, "{#%s%s%s#}", r.sign(), pick(r.Rand, "", " c ", "\n", "-", "+ "), r.sign())
		case 3:
			r.loop()
		case 4:
			r.condition()
		}
	}
	r.text()
}

func (r *randomTemplate) loop() {
	if r.depth == 4 {
		return
	}
	r.depth++
	had, hadPlain := len(r.names), len(r.plain)
	switch r.IntN(4) {
	case 0, 1:
		r.tag("for x in " + pick(r.Rand, "tags", "none_", "numbers", "machines", "machines.keys()", "empty", "machines['a b'].tags", r.value(1)))
		r.plain = append(r.plain, "x | tojson", "loop.index", "loop.first", "loop.revindex")
		r.names = append(r.names, "x", "loop.index", "loop.first", "loop.last", "loop.length", "loop.revindex", "loop.revindex0", "loop.index0")
	case 2:
		r.tag("for k , v in " + pick(r.Rand, "machines.items()", "machines.win.items()", "empty.items()"))
		r.plain = append(r.plain, "k", "v | tojson")
		r.names = append(r.names, "k", "v", "v.ip", "v.tags", "loop.index")
	case 3:
		r.tag("for m in machines.values()")
		r.plain = append(r.plain, "m.ip", "m.tags | join", "loop.last")
		r.names = append(r.names, "m.ip", "m['tags'][0]", "m.tags", "m.nothing", "m", "loop.last")
	}
	r.parts()
	r.names, r.plain = r.names[:had], r.plain[:hadPlain]
	if r.IntN(3) == 0 {
		r.tag("else")
		r.parts()
	}
	r.tag("endfor")
	r.depth--
}

func (r *randomTemplate) condition() {
	if r.depth == 4 {
		return
	}
	r.depth++
	r.tag("if " + r.value(3))
	r.parts()
	if r.IntN(3) == 0 {
		r.tag("elif " + r.value(2))
		r.parts()
	}
	if r.IntN(3) == 0 {
		r.tag("else")
		r.parts()
	}
	r.tag("endif")
	r.depth--
}

func (r *randomTemplate) value(depth int) string {
	if depth == 0 || r.IntN(3) == 0 {
		names := append([]string{"name", "none_", "yes", "no", "zero", "one", "tags", "numbers", "empty", "blank", "machines", "machines.win.ip", `machines["a b"].ip`,
			"machines.win.tags", "tags[0]", "tags[7]", "nothing", "machines.nothing", "machines.win.items", "odd", "12", "0", `'a"\\\n'`, `"b'"`, "true", "False", "none", "None", `""`}, r.names...)
		return names[r.IntN(len(names))]
	}
	below := func() string { return r.value(depth - 1) }
	switch r.IntN(12) {
	case 0:
		return below() + " and " + below()
	case 1:
		return below() + " or " + below()
	case 2:
		return "not " + below()
	case 3:
		return "(" + below() + ")"
	case 4:
		return below() + pick(r.Rand, " == ", "!=", "==") + below()
	case 5:
		return below() + " is " + pick(r.Rand, "", "not ") + pick(r.Rand, "defined", "none", "undefined")
	case 6:
		return below() + "|default" + pick(r.Rand, "", "("+below()+")", "("+below()+", true)", "("+below()+", boolean=true)", "()")
	case 7:
		return below() + " | " + pick(r.Rand, "length", "count", "d('x')")
	case 8, 9:
		return below() + "|" + pick(r.Rand, "lower", "trim", "tojson")
	case 10:
		return below() + "|join" + pick(r.Rand, "", "(', ')", "('')", "("+below()+")")
	}
	return below()
}

func TestRandomTemplatesThatAreSupportedRenderAsInPython(t *testing.T) {
	values := new(Values).Set("name", "Win10").Set("none_", nil).Set("yes", true).Set("no", false).Set("zero", 0).Set("one", 1).
		Set("tags", []any{"b", "a", nil, 7, true}).Set("numbers", []any{3, 1, 2}).Set("empty", new(Values)).Set("blank", "").
		Set("odd", " \u00a0É<\u001c\"\\'🙂\u007f\t\n").
		Set("machines", new(Values).Set("win", new(Values).Set("ip", "1.2").Set("tags", []any{"X"})).
			Set("a b", new(Values).Set("ip", nil).Set("tags", []any{})).Set("7", new(Values).Set("ip", 5).Set("tags", []any{"u", "v"})))
	context := asJSON(t, values)
	r := rand.New(rand.NewPCG(3, 4))
	var templates, outs []string
	var jobs []job
	tags := 0
	for made := 0; len(templates) < 1000; made++ {
		if made == 100_000 {
			t.Fatalf("only %d of %d templates are supported", len(templates), made)
		}
		g := &randomTemplate{Rand: r}
		g.parts()
		out, err := Render(g.out.String(), values)
		n := strings.Count(g.out.String(), "{{") + strings.Count(g.out.String(), "{%")
		if err != nil || n < 3 {
			continue
		}
		tags += n
		templates, outs, jobs = append(templates, g.out.String()), append(outs, string(out)), append(jobs, job{len(jobs), context})
	}
	t.Logf("%d templates with %d tags", len(templates), tags)
	for i, want := range renderInPython(t, templates, jobs) {
		if want.Error != "" || want.Out != outs[i] {
			t.Errorf("template %q\nhere   %q\nPython %q %s", templates[i], outs[i], want.Out, want.Error)
		}
	}
}
