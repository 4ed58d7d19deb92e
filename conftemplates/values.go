package conftemplates

import (
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"
)

// Values are names with values, in the order in which they were set: a dict of Python. The zero value is empty and ready.
//
// A value is nil, which is Python's None; a string, an int or a bool; a []string or a []any of values; or a *Values.
type Values struct {
	keys   []string
	values map[string]any
}

// Set gives a name its value. A name that is there already keeps its place. It returns v, so that calls can follow each other.
func (v *Values) Set(name string, value any) *Values {
	if v.values == nil {
		v.values = map[string]any{}
	}
	if _, have := v.values[name]; !have {
		v.keys = append(v.keys, name)
	}
	v.values[name] = value
	return v
}

// Get is the value of a name, and whether there is one.
func (v *Values) Get(name string) (any, bool) {
	value, have := v.values[name]
	return value, have
}

// Len is the number of names.
func (v *Values) Len() int { return len(v.keys) }

// All are the names with their values, in their order.
func (v *Values) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, key := range v.keys {
			if !yield(key, v.values[key]) {
				return
			}
		}
	}
}

// The values that a template works with while it is rendered. Go's nil, int and bool are Python's None, int and bool; a Go
// string is a text that the template itself holds.
type (
	// text is a text of the configuration.
	text string
	// list is a list. Its length is its truth for gonja, as it is for Python; that holds for mapping and undefined too.
	list []any
	// mapping is a dict, in its order. Templates look up a few keys of small ones, and walk through large ones.
	mapping []pair
	// undefined is what there is not.
	undefined []struct{}
	// written is text that is YAML already.
	written string
)

type pair struct {
	key   string
	value any
}

func (m mapping) get(key string) (any, bool) {
	for _, p := range m {
		if p.key == key {
			return p.value, true
		}
	}
	return nil, false
}

// maxDepth is how deep values, and the blocks and brackets of a template, may be nested. Configurations need five levels.
const maxDepth = 100

// internal is a value as templates work with it. The path is the names that lead to it, for the message.
func internal(value any, path []string) (any, error) {
	if len(path) > maxDepth {
		return nil, fmt.Errorf("the values are nested more than %d levels deep", maxDepth)
	}
	switch value := value.(type) {
	case nil, int, bool:
		return value, nil
	case string:
		if !utf8.ValidString(value) {
			return nil, fmt.Errorf("the value %s is not UTF-8 text", strings.Join(path, "."))
		}
		return text(value), nil
	case []string:
		items := make([]any, len(value))
		for i, item := range value {
			items[i] = item
		}
		return internal(items, path)
	case []any:
		items := make(list, len(value))
		for i, item := range value {
			var err error
			if items[i], err = internal(item, append(path, fmt.Sprint(i))); err != nil {
				return nil, err
			}
		}
		return items, nil
	case *Values:
		m := mapping{}
		if value == nil {
			return m, nil
		}
		for key, below := range value.All() {
			if !utf8.ValidString(key) {
				return nil, fmt.Errorf("the name %q below %q is not UTF-8 text", key, strings.Join(path, "."))
			}
			below, err := internal(below, append(path, key))
			if err != nil {
				return nil, err
			}
			m = append(m, pair{key, below})
		}
		return m, nil
	}
	return nil, fmt.Errorf("the value %s is a %T, which a template cannot have: it is nil, string, int, bool, []string, []any or *Values",
		strings.Join(path, "."), value)
}
