package edit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// Setting is one key of a machine and its value. The Go type of the value is one of those that the type in the schema has:
//
//	String, paths, addresses, …   string
//	Int, Bool, Duration           int, bool, time.Duration, or a string as the file would have it
//	List                          []string or []int; a single value is a list of one
//	Dict                          []config.Pair
//	Section, DictList             []Setting, [][]Setting
//
// nil is the key with nothing behind its colon, for all of them.
type Setting struct {
	Key   string
	Value any
}

// tags of the nodes that a Setting becomes. A bare value is written without quotes, and YAML may make of it what it wants.
const (
	textTag = "!!str"
	bareTag = "!!bare"
	nullTag = "!!null"
)

func nullNode() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: nullTag} }

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: textTag, Value: s}
}

// maker makes nodes of settings, and collects what is wrong with them.
type maker struct{ problems config.Problems }

func (m *maker) report(path, hint, format string, args ...any) {
	m.problems = append(m.problems, config.Diagnostic{Path: path, Problem: fmt.Sprintf(format, args...), Hint: hint})
}

// section is the settings as a mapping, in the order of the fields.
func (m *maker) section(fields []config.Field, settings []Setting, path string) *yaml.Node {
	sorted := slices.Clone(settings)
	at := func(s Setting) int {
		return slices.IndexFunc(fields, func(f config.Field) bool { return f.Key == s.Key })
	}
	slices.SortStableFunc(sorted, func(a, b Setting) int { return at(a) - at(b) })
	out := &yaml.Node{Kind: yaml.MappingNode}
	for i, s := range sorted {
		full := joinPath(path, s.Key)
		switch f := at(s); {
		case f < 0:
			m.report(full, "the keys are "+list(keysOf(fields)), "there is no such key")
		case i > 0 && sorted[i-1].Key == s.Key:
			m.report(full, "", "this key is given twice")
		default:
			out.Content = append(out.Content, textNode(s.Key), m.value(fields[f].Type, s.Value, full))
		}
	}
	return out
}

// value is one value as a node.
func (m *maker) value(t config.Type, given any, path string) *yaml.Node {
	if given == nil {
		return nullNode()
	}
	out := &yaml.Node{Kind: yaml.SequenceNode}
	switch t := t.(type) {
	case config.List:
		for i, item := range elements(given) {
			n := m.scalar(t.Of, item, itemPath(path, i))
			if strings.TrimSpace(n.Value) == "" {
				m.report(itemPath(path, i), "leave it out, or give it a value", "an element of a list cannot be empty")
			}
			out.Content = append(out.Content, n)
		}
		return out
	case config.Dict:
		if pairs, is := given.([]config.Pair); is {
			out.Kind = yaml.MappingNode
			for _, p := range pairs {
				m.text(p.Key, path)
				out.Content = append(out.Content, textNode(p.Key), m.scalar(t.Of, p.Value, joinPath(path, p.Key)))
			}
			return out
		}
	case config.Section:
		if settings, is := given.([]Setting); is {
			return m.section(t.Fields, settings, path)
		}
	case config.DictList:
		if sections, is := given.([][]Setting); is {
			for i, settings := range sections {
				out.Content = append(out.Content, m.section(t.Fields, settings, itemPath(path, i)))
			}
			return out
		}
	default:
		return m.scalar(t, given, path)
	}
	m.report(path, "", "a Go %T cannot be %s", given, t.Describe())
	return nullNode()
}

// elements are those of a list; a value alone is a list of one.
func elements(given any) (items []any) {
	switch given := given.(type) {
	case []string:
		for _, s := range given {
			items = append(items, s)
		}
	case []int:
		for _, n := range given {
			items = append(items, n)
		}
	default:
		items = []any{given}
	}
	return items
}

// scalar is a plain value as a node; no type is String.
func (m *maker) scalar(t config.Type, given any, path string) *yaml.Node {
	if t == nil {
		t = config.String{}
	}
	out := textNode("")
	switch t.(type) {
	case config.Int, config.Bool, config.Duration:
		if given != "" { // which would be null without quotes
			out.Tag = bareTag
		}
	}
	switch given := given.(type) {
	case string:
		out.Value = given
	case int:
		out.Value = strconv.Itoa(given)
	case bool:
		out.Value = strconv.FormatBool(given)
	case time.Duration:
		out.Value = given.String()
	default:
		m.report(path, "", "a Go %T cannot be %s", given, t.Describe())
		out.Value = "?" // so that no other problem is reported
	}
	m.text(out.Value, path)
	return out
}

// text reports what is not UTF-8.
func (m *maker) text(s, path string) {
	if !utf8.ValidString(s) {
		m.report(path, "a configuration can hold nothing else", "this is not UTF-8 text") // nor is it shown: it may be sensitive
	}
}

// joinPath is a key path with one more key; a key that would not read as one is in quotes.
func joinPath(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool {
		return strings.ContainsRune(".[]: \"'", r) || !unicode.IsPrint(r) || r == utf8.RuneError
	}) {
		key = strconv.Quote(key)
	}
	return path + "." + key
}

// itemPath is the path of a list's element.
func itemPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func keysOf(fields []config.Field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
	}
	return keys
}

// list is words as a sentence has them: "a, b and c".
func list(words []string) string {
	const most = 20
	if len(words) > most {
		return strings.Join(words[:most], ", ") + " and " + strconv.Itoa(len(words)-most) + " more"
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
