package edit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
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

// section is the settings as a mapping, in the order of the fields.
func section(fields []config.Field, settings []Setting, path string) (*yaml.Node, error) {
	at := map[string]int{}
	for i, f := range fields {
		at[f.Key] = i
	}
	for i, s := range settings {
		if _, known := at[s.Key]; !known {
			return nil, fmt.Errorf("%s: there is no key %q here; the keys are %s", path, s.Key, list(keysOf(fields)))
		}
		if slices.ContainsFunc(settings[:i], func(o Setting) bool { return o.Key == s.Key }) {
			return nil, fmt.Errorf("%s.%s: the key is given twice", path, s.Key)
		}
	}
	sorted := slices.Clone(settings)
	slices.SortStableFunc(sorted, func(a, b Setting) int { return at[a.Key] - at[b.Key] })
	out := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range sorted {
		n, err := value(fields[at[s.Key]].Type, s.Value, path+"."+s.Key)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, textNode(s.Key), n)
	}
	return out, nil
}

// value is one value as a node.
func value(t config.Type, given any, path string) (*yaml.Node, error) {
	if given == nil {
		return nullNode(), nil
	}
	switch t := t.(type) {
	case config.List:
		return listNode(t, given, path)
	case config.Dict:
		pairs, is := given.([]config.Pair)
		if !is {
			break
		}
		out := &yaml.Node{Kind: yaml.MappingNode}
		for _, p := range pairs {
			n, err := scalar(t.Of, p.Value, path+"."+p.Key)
			if err != nil {
				return nil, err
			}
			if err := wellFormed(p.Key, path); err != nil {
				return nil, err
			}
			out.Content = append(out.Content, textNode(p.Key), n)
		}
		return out, nil
	case config.Section:
		if settings, is := given.([]Setting); is {
			return section(t.Fields, settings, path)
		}
	case config.DictList:
		sections, is := given.([][]Setting)
		if !is {
			break
		}
		out := &yaml.Node{Kind: yaml.SequenceNode}
		for i, settings := range sections {
			n, err := section(t.Fields, settings, path+"["+strconv.Itoa(i)+"]")
			if err != nil {
				return nil, err
			}
			out.Content = append(out.Content, n)
		}
		return out, nil
	default:
		return scalar(t, given, path)
	}
	return nil, fmt.Errorf("%s: a Go %T cannot be %s", path, given, t.Describe())
}

func listNode(t config.List, given any, path string) (*yaml.Node, error) {
	var items []any
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
	out := &yaml.Node{Kind: yaml.SequenceNode}
	for i, item := range items {
		at := path + "[" + strconv.Itoa(i) + "]"
		n, err := scalar(t.Of, item, at)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(n.Value) == "" {
			return nil, fmt.Errorf("%s: an element of a list cannot be empty", at)
		}
		out.Content = append(out.Content, n)
	}
	return out, nil
}

// scalar is a plain value as a node; no type is String.
func scalar(t config.Type, given any, path string) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.ScalarNode, Tag: textTag}
	switch t.(type) {
	case config.Int, config.Bool, config.Duration:
		out.Tag = bareTag
	}
	switch given := given.(type) {
	case string:
		out.Value = given
		if given == "" {
			out.Tag = textTag // nothing at all would be null
		}
	case int:
		out.Value = strconv.Itoa(given)
	case bool:
		out.Value = strconv.FormatBool(given)
	case time.Duration:
		out.Value = given.String()
	default:
		if t == nil {
			t = config.String{}
		}
		return nil, fmt.Errorf("%s: a Go %T cannot be %s", path, given, t.Describe())
	}
	return out, wellFormed(out.Value, path)
}

func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: textTag, Value: s}
}

func wellFormed(s, path string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s: %q is not UTF-8 text, which is all that a configuration can hold", path, s)
	}
	return nil
}

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
