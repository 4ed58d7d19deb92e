package edit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"

	"github.com/machineries/machineries/machinery/config"
)

// nasty are texts that a YAML file holds only with care.
var nasty = []string{
	"a: b", "# x", "a #b", "a# b", "it's", `"x"`, `\`, `C:\new`, "no", "Yes", "y", "on", "null", "~", "Null", "true", "1.10", "18.10", "10", "0",
	"007", "0x1F", "0o7", "1_000", "1e3", "1.5e+3", ".5", "-1", "+1", "12:30", "52:54:00:12:34:56", "2024-01-01", "2024-01-01 10:00", ".inf", ".NaN",
	"*a", "&a", "!x", "!!int 1", "%a", "@a", "`a`", "|", ">", "|-", "- a", "-", "--- a", "---", "...", "... a", "? a", "?", ": a", ":a", "a:", "a:b",
	"<<", "=", "[a]", "a]", "{a: b}", "a}", "a, b", ",", "ü", "日本語", "😀", "e\u0301", "a\nb", "a\n\n b\n", "\ta", "a\tb", "\u0001", "\u00a0x", "x\u2028y",
	"\ufeffx", "\u0085", "\x7f", "\ufffe", "\U0001f468\u200d\U0001f469", "/home/müller/disk.qcow2", "192.168.30.101", "qemu:///system", "a  b", "a=b", "$HOME", "~/x",
	strings.Repeat("long ", 300) + "x", "%DISPOSABLE_DISK_PATH%", "-netdev tap", "{{ x }}", "{% x %}",
}

// random makes configurations: valid ones, in many styles.
type random struct {
	*rand.Rand
	b strings.Builder
	// the style of this file
	eol        string
	step, item int
	level      bool // there are comments
	apart      bool // machines are set apart by empty lines
	names      []string
	n          int  // a number for comments
	ends       bool // a text that keeps its line break at its end may be the last
}

func newRandom(seed uint64) *random {
	r := &random{Rand: rand.New(rand.NewPCG(seed, 0))}
	r.eol = pick(r, "\n", "\n", "\n", "\r\n", "\r")
	r.step = pick(r, 2, 2, 2, 4, 1, 3, 8)
	r.item = pick(r, 0, r.step, 2)
	r.level, r.apart = r.chance(50), r.chance(50)
	return r
}

func pick[T any](r *random, from ...T) T { return from[r.IntN(len(from))] }

func (r *random) chance(percent int) bool { return r.IntN(100) < percent }

// value is a text that is not blank, since most fields may not be empty.
func (r *random) value() string {
	for {
		s := r.anything()
		if strings.TrimSpace(s) != "" && !strings.Contains(s, "\x00") {
			return s
		}
	}
}

func (r *random) anything() string {
	switch r.IntN(4) {
	case 0:
		return pick(r, nasty...)
	case 1:
		return pick(r, nasty...) + pick(r, " ", ": ", " #", "\n", "", "'", "\"") + pick(r, nasty...)
	case 2:
		alphabet := []rune("ab1 :#-'\"\\,[]{}&*!|>%@`?=~.\n\tü")
		out := make([]rune, r.IntN(8))
		for i := range out {
			out[i] = pick(r, alphabet...)
		}
		return string(out)
	}
	return pick(r, "windows", "10", "br0", "/a/b/c.qcow2", "some words here")
}

// name is a new name for a machine.
func (r *random) name() string {
	for {
		name := pick(r, "win10_"+fmt.Sprint(r.IntN(100)), "ubuntu", "1", "null", "a b", "x: y", "no", r.value())
		bad := func(c rune) bool { return !unicode.IsPrint(c) }
		if len(name) > 200 || strings.TrimSpace(name) == "" || strings.ContainsFunc(name, bad) || slices.Contains(r.names, name) || slices.Contains(r.names, strings.TrimSpace(name)) {
			continue
		}
		r.names = append(r.names, name)
		return name
	}
}

// settings are those of one machine, whose ip no other has.
func (r *random) settings() []Setting {
	r.n++
	out := []Setting{{"ip", fmt.Sprintf("%s%d", pick(r, "10.0.0.", "x ", "*", ""), r.n)}}
	if r.chance(30) {
		out[0].Value = r.value() + fmt.Sprint("-", r.n)
	}
	optional := []struct {
		key   string
		value func() any
	}{
		{"mac", func() any { return pick[any](r, "52:54:00:12:34:56", "0A:bc:00:00:00:01", nil, "") }},
		{"version", func() any { return pick[any](r, r.anything(), "10", nil) }},
		{"port", func() any { return pick[any](r, 1, 8000, "8_001", "0x10") }},
		{"tags", func() any { return pick[any](r, r.texts(), []string{}, "one", nil) }},
		{"extra", func() any { return []Setting{{"a", r.value()}} }},
		{"env", func() any {
			var pairs []config.Pair
			for i := range r.IntN(3) {
				pairs = append(pairs, config.Pair{Key: fmt.Sprint(pick(r, "", "x: ", "no", "# ", "* "), i), Value: r.anything()})
			}
			return pairs
		}},
		{"disks", func() any {
			sections := [][]Setting{}
			for range r.IntN(3) {
				sections = append(sections, []Setting{{"path", r.value()}})
				if i := len(sections) - 1; r.chance(50) {
					sections[i] = append(sections[i], Setting{"bus", r.value()})
				}
			}
			return sections
		}},
	}
	for _, o := range optional {
		if r.chance(40) {
			out = append(out, Setting{o.key, o.value()})
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func (r *random) texts() []string {
	out := []string{}
	for range r.IntN(4) {
		out = append(out, r.value())
	}
	return out
}

// config is a whole file.
func (r *random) config() string {
	if r.chance(10) {
		r.b.WriteString(byteOrderMark)
	}
	r.comment(0, "header")
	if r.chance(20) {
		r.line("---" + pick(r, "", " # begins"))
	}
	if r.chance(10) {
		r.line(r.inBraces())
	} else {
		sections := []func(){
			func() { r.textLine("interface:", r.value(), r.step) },
			r.machines,
		}
		if r.chance(50) {
			sections = append(sections, func() {
				r.line("binaries:" + r.remark())
				r.textLine(spaces(r.step)+"qemu:", r.value(), 2*r.step)
			})
		}
		if r.chance(30) {
			sections = append(sections, func() { r.line("unknown: [a, {b: c}]" + r.remark()) })
		}
		r.Shuffle(len(sections), func(i, j int) { sections[i], sections[j] = sections[j], sections[i] })
		for _, s := range sections {
			r.blanks(30)
			r.comment(0, "top")
			s()
		}
		r.blanks(30)
		r.comment(0, "end")
	}
	if r.chance(10) {
		r.line("...")
	}
	text := r.b.String()
	if r.chance(30) && !r.ends {
		text = strings.TrimRight(text, "\r\n")
	}
	return text
}

func (r *random) line(s string) { r.b.WriteString(s + r.eol) }

func (r *random) sep() string { return pick(r, " ", " ", "  ", "\t") }

// remark is a comment at the end of a line, or nothing.
func (r *random) remark() string {
	if r.chance(15) {
		return pick(r, " ", "   ", "\t") + "# remark ü"
	}
	return pick(r, "", "", "", " ")
}

func (r *random) blanks(percent int) {
	for r.chance(percent) {
		r.line(pick(r, "", "", "   "))
	}
}

// comment is some comments of a kind on lines of their own.
func (r *random) comment(indent int, kind string) {
	for r.level && r.chance(25) {
		r.n++
		r.line(spaces(indent) + fmt.Sprintf("# %s %d", kind, r.n))
	}
}

// machines is the section with lines, or with braces.
func (r *random) machines() {
	braces := r.chance(15)
	anchor := pick(r, "", "", "", " &machines", " !!map")
	if braces {
		r.line("machines:" + anchor + " " + r.machinesInBraces() + r.remark())
		return
	}
	r.line("machines:" + anchor + r.remark())
	r.comment(r.step, "section")
	r.blanks(20)
	anchors := []string{}
	for i := range 1 + r.IntN(5) {
		if i > 0 && (r.apart || r.chance(10)) {
			r.blanks(90)
		}
		if r.chance(10) {
			r.comment(r.step, "free")
			r.line("")
		}
		r.comment(r.step, "machine")
		name := spaces(r.step) + r.key(r.name()) + ":"
		switch {
		case r.chance(15):
			r.line(name + " " + r.flowSection(r.settings()) + r.remark())
		case len(anchors) > 0 && r.chance(20):
			r.line(name)
			r.n++
			r.line(spaces(2*r.step) + "<<: *" + pick(r, anchors...))
			r.line(spaces(2*r.step) + fmt.Sprintf("ip: merged-%d", r.n))
		case r.chance(15):
			anchor := fmt.Sprintf("a%d", i)
			anchors = append(anchors, anchor)
			r.line(name + " &" + anchor + r.remark())
			r.section(r.settings(), 2*r.step)
		default:
			r.line(name + r.remark())
			r.section(r.settings(), 2*r.step)
		}
		if r.chance(20) {
			r.comment(2*r.step, "deep")
		}
	}
}

func (r *random) machinesInBraces() string {
	var parts []string
	newline := r.chance(50)
	for range 1 + r.IntN(4) {
		parts = append(parts, r.key(r.name())+": "+r.flowSection(r.settings()))
	}
	if newline {
		indent := r.eol + spaces(r.step)
		return "{" + indent + strings.Join(parts, ","+indent) + pick(r, "", ",") + pick(r, "", r.eol+spaces(r.step)) + "}"
	}
	return "{" + strings.Join(parts, pick(r, ", ", ",")) + pick(r, "", ",", " ") + "}"
}

// inBraces is the whole file in braces.
func (r *random) inBraces() string {
	return "{" + pick(r, "", " ", r.eol+"  ") + "interface: " + r.scalar(r.value(), 0, true) + "," + pick(r, " ", r.eol) + "machines: " + r.machinesInBraces() + pick(r, "", ",", r.eol) + "}"
}

func (r *random) flowSection(settings []Setting) string {
	var parts []string
	for _, s := range settings {
		parts = append(parts, s.Key+": "+r.inline(s.Value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (r *random) inline(v any) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return pick(r, "null", "~", "")
	case string:
		return r.scalar(v, 0, true)
	case []string:
		for _, s := range v {
			parts = append(parts, r.scalar(s, 0, true))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case []config.Pair:
		for _, p := range v {
			parts = append(parts, r.key(p.Key)+": "+r.scalar(p.Value, 0, true))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []Setting:
		return r.flowSection(v)
	case [][]Setting:
		for _, s := range v {
			parts = append(parts, r.flowSection(s))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// section are settings on lines.
func (r *random) section(settings []Setting, indent int) {
	for _, s := range settings {
		r.comment(indent, "setting")
		start := spaces(indent) + s.Key + ":"
		lines := r.chance(70)
		switch v := s.Value.(type) {
		case nil:
			r.line(start + pick(r, "", " null", " ~", " ") + r.remark())
			continue
		case string:
			r.textLine(start, v, indent+r.step)
			continue
		case []string:
			if len(v) > 0 && lines {
				r.line(start + r.remark())
				for _, item := range v {
					r.comment(indent+r.item, "item")
					r.line(spaces(indent+r.item) + "- " + r.scalar(item, indent+r.item+2, false))
				}
				continue
			}
		case []Setting:
			if lines {
				r.line(start)
				r.section(v, indent+r.step)
				continue
			}
		}
		r.line(start + " " + r.inline(s.Value) + r.remark())
	}
}

// textLine is a key with its text, which may go on below.
func (r *random) textLine(start, v string, indent int) {
	text := r.scalar(v, indent, false)
	if !strings.HasPrefix(text, "|") {
		text += r.remark()
	}
	r.line(start + r.sep() + text)
}

// key is a name as a key.
func (r *random) key(s string) string {
	if plain(s) && r.chance(80) {
		return s
	}
	return r.inQuotes(s)
}

func (r *random) inQuotes(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) || r.chance(50) {
		return quoting{always: true}.text(s)
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// scalar is a text in one of the ways to write it.
func (r *random) scalar(s string, indent int, braces bool) string {
	words := strings.Split(s, " ")
	switch safe := plain(s); {
	case safe && len(words) > 1 && !braces && !strings.Contains(s, "  ") && r.chance(30) && plain(words[0]) && strings.IndexFunc(words[1], unicode.IsLetter) == 0:
		// Over two lines, which YAML makes one of.
		return words[0] + r.eol + spaces(indent) + strings.Join(words[1:], " ")
	case safe && r.chance(70):
		return s
	case r.chance(15) && s != "" && !braces && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
		mark, end := pick(r, "|", "|-", "|+"), ""
		r.ends = r.ends || mark != "|-"
		if mark == "|+" {
			end = strings.Repeat(r.eol, r.IntN(3))
		}
		if s[0] == ' ' || indent == 0 {
			break
		}
		return mark + r.remark() + r.eol + spaces(indent) + s + end
	}
	return r.inQuotes(s)
}
