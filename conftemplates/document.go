package conftemplates

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery/config"
)

// FromDocument is a file that was loaded as the values of its template. Each key of the schema is among them: texts, numbers,
// truth values and lists as they are, a length of time as 1m30s, a section as *[Values], machines by their names. A key that the
// file leaves empty is nil, as is an optional one that it lacks and that has no default. Keys that the schema does not know, and
// values that are errors, are not there: see [RenderDocument], which refuses such files.
func FromDocument(doc *config.Document) *Values { return fromValues(doc.Schema().Fields, doc.Values) }

func fromValues(fields []config.Field, from *config.Values) *Values {
	out := new(Values)
	for _, f := range fields {
		out.Set(f.Key, fromValue(f, from))
	}
	return out
}

func fromValue(f config.Field, from *config.Values) any {
	switch t := f.Type.(type) {
	case config.Section:
		if !from.IsSet(f.Key) && f.Optional && needsKeys(t.Fields) {
			return nil
		}
		return fromValues(t.Fields, from.Section(f.Key))
	case config.Machines:
		machines := new(Values)
		for _, m := range from.Entries(f.Key) {
			machines.Set(m.Name, fromValues(t.Fields, m.Values))
		}
		return machines
	case config.DictList:
		sections := []any{}
		for _, section := range from.Sections(f.Key) {
			sections = append(sections, fromValues(t.Fields, section))
		}
		return sections
	case config.Dict:
		names := new(Values)
		for _, pair := range from.Dict(f.Key) {
			names.Set(pair.Key, fromText(t.Of, pair.Value))
		}
		return names
	case config.List:
		items := []any{}
		for _, item := range from.Strings(f.Key) {
			items = append(items, fromText(t.Of, item))
		}
		return items
	case config.Int:
		return known(f, from, from.Int(f.Key), zeroFits(t.Min, t.Max))
	case config.Bool:
		return known(f, from, from.Bool(f.Key), true)
	case config.Duration:
		if d := from.Duration(f.Key); known(f, from, d, zeroFits(t.Min, t.Max)) != nil {
			return lengthOfTime(d)
		}
		return nil
	}
	return known(f, from, from.String(f.Key), false)
}

// known is a value, or nil where the zero value stands for none: the key is empty in the file, or absent there and the zero
// value is not one that a file may have.
func known[T comparable](f config.Field, from *config.Values, value T, zeroFits bool) any {
	var zero T
	if value == zero && !from.IsSet(f.Key) && (f.AllowEmpty || !zeroFits) {
		return nil
	}
	return value
}

// zeroFits tells whether 0 is within bounds, of which nil is none.
func zeroFits[T int64 | time.Duration](min, max *T) bool {
	return (min == nil || *min <= 0) && (max == nil || *max >= 0)
}

// lengthOfTime is 3m rather than 3m0s.
func lengthOfTime(d time.Duration) string {
	s := d.String()
	for _, nothing := range []string{"m0s", "h0m"} {
		if short := strings.TrimSuffix(s, nothing); short != s {
			s = short + nothing[:1]
		}
	}
	return s
}

// fromText is an element of a list or of a dict, which the document has as text.
func fromText(of config.Type, value string) any {
	switch of.(type) {
	case config.Int:
		if n, err := strconv.Atoi(value); err == nil {
			return n
		}
	case config.Bool:
		return value == "true"
	}
	return value
}

func needsKeys(fields []config.Field) bool {
	for _, f := range fields {
		if !f.Optional {
			return true
		}
	}
	return false
}

// RenderDocument is a file that was loaded as its template has it: with all comments, and with a line for each key. The result is
// loaded again, and is only returned if it says the same. Comments and anything else that the user added to the file are not
// in it.
//
// A document with errors or warnings is refused: what is wrong with it would get lost.
func RenderDocument(template string, doc *config.Document) ([]byte, error) {
	if problems := doc.Problems(); len(problems) > 0 {
		return nil, fmt.Errorf("%s cannot be rendered before this is put right: %w", doc.Name(), problems)
	}
	values := FromDocument(doc)
	out, err := RenderYAML(template, values)
	if err != nil {
		return nil, inTemplate(doc.Schema(), err)
	}
	again, err := config.Options{Strict: true, Static: true}.Parse(doc.Name(), out, doc.Schema())
	if err != nil {
		return nil, fmt.Errorf("%s is wrong: what it makes of %s does not load: %w", templateName(doc.Schema()), doc.Name(), err)
	}
	// The values may be secret.
	if path, _, _ := difference("", values, FromDocument(again)); path != "" {
		return nil, fmt.Errorf("%s is wrong: it makes of %s a file in which %s is another than it was", templateName(doc.Schema()), doc.Name(), path)
	}
	return out, nil
}

// templateName is the file name of a schema's template.
func templateName(s *config.Schema) string { return s.Name + ".yaml.jinja2" }

// inTemplate names the template in an error. The place in it follows the name as in a compiler's messages.
func inTemplate(s *config.Schema, err error) error {
	if _, placed := errors.AsType[*Error](err); placed {
		return fmt.Errorf("%s:%w", templateName(s), err)
	}
	return fmt.Errorf("%s: %w", templateName(s), err)
}

// difference is the first place at which two values differ, "" for none, with what is there in each.
func difference(path string, a, b any) (at, inA, inB string) {
	below := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	switch a := a.(type) {
	case *Values:
		b, is := b.(*Values)
		if !is {
			break
		}
		for i, key := range a.keys {
			if i >= len(b.keys) || b.keys[i] != key {
				return below(key), "there", "not there, or at another place"
			}
			if at, inA, inB := difference(below(key), a.values[key], b.values[key]); at != "" {
				return at, inA, inB
			}
		}
		if len(b.keys) > len(a.keys) {
			return below(b.keys[len(a.keys)]), "not there", "there"
		}
		return "", "", ""
	case []any:
		b, is := b.([]any)
		if !is || len(a) != len(b) {
			break
		}
		for i := range a {
			if at, inA, inB := difference(path+"["+strconv.Itoa(i)+"]", a[i], b[i]); at != "" {
				return at, inA, inB
			}
		}
		return "", "", ""
	}
	if reflect.DeepEqual(a, b) {
		return "", "", ""
	}
	return path, shown(a), shown(b)
}

// shown is a value in a message.
func shown(value any) string {
	switch value := value.(type) {
	case nil:
		return "nothing"
	case string:
		return strconv.Quote(value)
	case *Values:
		return "a section"
	}
	return fmt.Sprint(value)
}
