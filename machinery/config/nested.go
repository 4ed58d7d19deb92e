package config

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

func (t List) of() Type {
	if t.Of == nil {
		return String{}
	}
	return t.Of
}

func (t Dict) of() Type {
	if t.Of == nil {
		return String{}
	}
	return t.Of
}

// Describe implements Type.
func (t List) Describe() string {
	if _, is := t.of().(String); is {
		return "a list"
	}
	return "a list whose elements are each " + t.of().Describe()
}

// Describe implements Type.
func (t Dict) Describe() string {
	if _, is := t.of().(String); is {
		return "a section of names with texts"
	}
	return "a section of names with values that are each " + t.of().Describe()
}

// Describe implements Type.
func (DictList) Describe() string { return "a list of sections" }

// Describe implements Type.
func (Section) Describe() string { return "a section with keys of its own" }

// Describe implements Type.
func (Machines) Describe() string { return "a section with a name and keys for each machine" }

// machines reads the machines of a file.
func (c *checker) machines(t Machines, p place) []Entry {
	var entries []Entry
	for _, pr := range c.pairs(p, machineName) {
		if strings.TrimSpace(pr.key) == "" {
			c.report(pr.keyNode, p.path, *faultf("give the machine a name", "a machine name is empty"))
			continue
		}
		if strings.ContainsFunc(pr.key, func(r rune) bool { return !printable(r) }) {
			c.report(pr.keyNode, p.path, *faultf("use letters, digits, dots, dashes and underscores",
				"the machine name %s holds a character that cannot be printed", show(pr.key)))
			continue
		}
		c.machine = pr.key
		entries = append(entries, Entry{Name: pr.key, Values: c.element(t.Fields, pr, joinPath(p.path, pr.key))})
	}
	c.machine = ""
	sections := make([]*Values, len(entries))
	for i, e := range entries {
		sections[i] = e.Values
	}
	c.unique(t.Unique, sections, func(i int) { c.machine = entries[i].Name })
	c.machine = ""
	return entries
}

// element reads one machine, or one element of a DictList.
func (c *checker) element(fields []Field, pr pair, path string) *Values {
	node := deref(pr.node)
	p := place{path: path, keyNode: pr.keyNode, node: node}
	switch {
	case !c.spend(pr.node):
		p.node, p.optional = nil, true
	case isNull(node) || node.Kind == mappingKind && len(node.Content) == 0:
		if requires(Section{Fields: fields}) && pr.keyNode == pr.node {
			c.report(pr.keyNode, path, *faultf(needs(fields), "this element is empty"))
		} else if requires(Section{Fields: fields}) {
			c.report(pr.keyNode, path, *faultf("each machine needs "+list(requiredKeys(fields)), "there is nothing below this name"))
		}
		p.optional = true
	default:
		p.optional = !c.want(mappingKind, pr.node, path, Field{Type: Section{Fields: fields}})
	}
	return c.section(fields, p)
}

func (c *checker) dictList(t DictList, node *yaml.Node, path string) []*Values {
	var sections []*Values
	for i, item := range node.Content {
		sections = append(sections, c.element(t.Fields, pair{keyNode: item, node: item}, itemPath(path, i)))
	}
	c.unique(t.Unique, sections, func(int) {})
	return sections
}

func (c *checker) dict(t Dict, f Field, p place) (any, bool) {
	var out []Pair
	of, good := t.of().(scalar), true
	item := Field{Key: f.Key, Type: t.of(), Sensitive: f.Sensitive}
	for _, pr := range c.pairs(p, "name") {
		path := joinPath(p.path, pr.key)
		if node := deref(pr.node); isEmpty(node, of) && node.Kind == scalarKind {
			if isNull(node) && !f.AllowEmpty || of.kind() != kindText {
				c.report(pr.node, path, emptyFault(item, node))
				good = false
				continue
			}
			out = append(out, Pair{pr.key, ""})
			continue
		}
		data, ok := c.scalar(of, item, pr.node, path)
		if good = good && ok; ok {
			out = append(out, Pair{pr.key, fmt.Sprint(data)})
		}
	}
	if !good {
		return nil, false
	}
	return out, true
}

func (c *checker) list(t List, f Field, node *yaml.Node, path string, val *value) {
	of, items, good := t.of().(scalar), []any{}, true
	item := Field{Key: f.Key, Type: t.of(), Sensitive: f.Sensitive}
	for i, n := range node.Content {
		at := itemPath(path, i)
		if target := deref(n); target.Kind == scalarKind && isEmpty(target, of) {
			c.report(n, at, fault{problem: "this element is empty, and left out", hint: "remove it, or write a value", warning: true})
			continue
		}
		data, ok := c.scalar(of, item, n, at)
		if good = good && ok; ok {
			items, val.items = append(items, data), append(val.items, n)
		}
	}
	switch {
	case !good:
		val.items = nil
		return
	case len(items) == 0 && !f.AllowEmpty:
		c.report(node, path, emptyFault(f, node))
		return
	}
	val.data, val.set = items, true
}

// emptyFault is the problem of a value that is empty and may not be.
func emptyFault(f Field, node *yaml.Node) fault {
	out := fault{problem: "there is no value after the colon"}
	switch {
	case node.Kind == sequenceKind:
		out.problem = "this list is empty"
	case node.Kind == mappingKind, f.Type.kind() == kindSection || f.Type.kind() == kindMachines:
		out.problem = "there is nothing in this section"
	case isNull(node) && node.Value != "":
		out.problem = fmt.Sprintf("%s is no value: it means nothing at all", node.Value)
	case !isNull(node):
		out.problem = "the text is empty"
	}
	below := fieldsOf(f.Type)
	switch ex := example([]Field{f}); {
	case f.Type.kind() == kindMachines:
		out.hint = "each machine has a name with a colon and, indented below it, " + list(requiredKeys(below))
	case below != nil:
		out.hint = needs(below)
	case f.Optional && f.Default != nil && !f.Sensitive:
		out.hint = fmt.Sprintf("remove the line to have the default, %s", literal(f.Default))
	case f.Optional:
		out.hint = "write " + f.Type.Describe() + ", or remove the line"
	case isNull(node) && node.Value != "" && f.Type.kind() == kindText:
		out.hint = fmt.Sprintf(`if the text %s is meant, put it in quotes`, node.Value)
	case ex != "":
		out.hint = "write, for example: " + ex
	default:
		out.hint = "write " + f.Type.Describe()
	}
	return out
}

// requires tells whether a section has keys that must be there.
func requires(t Type) bool { return len(requiredKeys(fieldsOf(t))) > 0 }

func requiredKeys(fields []Field) []string {
	var keys []string
	for _, f := range fields {
		if !f.Optional {
			keys = append(keys, f.Key)
		}
	}
	return keys
}

// needs is the hint of what must be in a section.
func needs(fields []Field) string {
	keys := requiredKeys(fields)
	if len(keys) == 0 {
		return "this section can have " + list(keysOf(fields))
	}
	return "this section needs " + list(keys)
}

// example is the first of fields that has an example, as a line of a file; "" for none.
func example(fields []Field) string {
	for _, f := range fields {
		shown := f.Example
		if shown == nil {
			shown = f.Default
		}
		if shown != nil && !f.Sensitive {
			return f.Key + ": " + literal(shown)
		}
	}
	return ""
}

// literal is a Default or Example as a file has it.
func literal(v any) string {
	switch v := v.(type) {
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case time.Duration:
		return v.String()
	case string:
		if v == "" || v != strings.TrimSpace(v) {
			return show(v)
		}
	}
	return fmt.Sprint(v)
}

// sentence ends a text with a full stop, unless it is empty or has one.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// upper begins a text with a capital letter.
func upper(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:n]) + s[n:]
}
