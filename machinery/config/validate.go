package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	schemaName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)
	fieldKey   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
)

// Validate finds the schema author's own mistakes: keys that are declared twice or cannot be keys, types that are missing or
// nested in a way that no file can be, bounds that exclude everything, and defaults, examples and unique keys that
// break the schema's own rules. All come in one error. It asks nothing of the host. Load and Parse call it.
func (s *Schema) Validate() error {
	if s == nil {
		return errors.New("config: there is no schema")
	}
	v := validator{schema: s.Name}
	if !schemaName.MatchString(s.Name) {
		v.add("", "the name %q is not the stem of a file name in lower case", s.Name)
	}
	if len(s.Fields) == 0 {
		v.add("", "it has no fields")
	}
	v.fields(s.Fields, "", 0)
	return errors.Join(v.errs...)
}

type validator struct {
	schema string
	errs   []error
}

func (v *validator) add(path, format string, args ...any) {
	where := "schema " + v.schema
	if path != "" {
		where += ": " + path
	}
	v.errs = append(v.errs, fmt.Errorf("config: %s: %s", where, fmt.Sprintf(format, args...)))
}

func (v *validator) fields(fields []Field, above string, depth int) {
	const deepest = 16 // a slice can hold itself; real schemas have three levels
	if depth > deepest {
		v.add(above, "sections are nested more than %d deep", deepest)
		return
	}
	seen := map[string]bool{}
	for _, f := range fields {
		path := joinPath(above, f.Key)
		if !fieldKey.MatchString(f.Key) {
			v.add(path, "a key has letters, digits, dashes and underscores, and begins with a letter")
		}
		if seen[f.Key] {
			v.add(path, "the key is declared twice")
		}
		seen[f.Key] = true
		if f.Type == nil {
			v.add(path, "it has no Type")
			continue
		}
		v.typ(f.Type, path, depth)
		v.values(f, path)
		if f.Sensitive && fieldsOf(f.Type) != nil {
			v.add(path, "Sensitive is for values; set it for the keys below that hold them")
		}
	}
}

// typ finds what is wrong with a type by itself.
func (v *validator) typ(t Type, path string, depth int) {
	switch t := t.(type) {
	case String:
		switch {
		case t.OneOf != nil && len(t.OneOf) < 2:
			v.add(path, "OneOf leaves no choice")
		case t.ToLower && slices.ContainsFunc(t.OneOf, func(s string) bool { return s != strings.ToLower(s) }):
			v.add(path, "OneOf has capital letters, which ToLower makes small")
		}
	case Int:
		if t.Min != nil && t.Max != nil && *t.Min > *t.Max {
			v.add(path, "Min %d is more than Max %d", *t.Min, *t.Max)
		}
	case Duration:
		if t.Min != nil && t.Max != nil && *t.Min > *t.Max || t.Max != nil && *t.Max < 0 {
			v.add(path, "the bounds exclude everything")
		}
	case IPAddress:
		if !slices.Contains([]int{0, 4, 6}, t.Version) {
			v.add(path, "Version is %d, but must be 0, 4 or 6", t.Version)
		}
	case List:
		v.element(t.of(), path, depth)
	case Dict:
		v.element(t.of(), path, depth)
	case Section:
		v.nested(t.Fields, nil, path, depth)
	case DictList:
		v.nested(t.Fields, t.Unique, path, depth)
	case Machines:
		if depth > 0 {
			v.add(path, "Machines can only stand at the top of a file")
		}
		v.nested(t.Fields, t.Unique, path, depth)
	}
}

func (v *validator) element(of Type, path string, depth int) {
	if _, is := of.(scalar); !is {
		v.add(path, "Of is %s, but must be a plain value", of.Describe())
		return
	}
	v.typ(of, path, depth)
}

func (v *validator) nested(fields []Field, unique []string, path string, depth int) {
	if len(fields) == 0 {
		v.add(path, "it has no fields")
	}
	v.fields(fields, path, depth+1)
	for _, key := range unique {
		i := slices.Index(keysOf(fields), key)
		if i < 0 {
			v.add(path, "Unique names %q, which is not one of its keys", key)
		} else if _, is := fields[i].Type.(scalar); !is {
			v.add(path, "Unique names %q, which is not a plain value", key)
		}
	}
}

// values holds Default and Example against the type.
func (v *validator) values(f Field, path string) {
	if f.Default != nil && !f.Optional {
		v.add(path, "a required key has a Default, which would never be used: make it Optional, or the Default an Example")
	}
	for _, given := range []struct {
		name  string
		value any
	}{{"Default", f.Default}, {"Example", f.Example}} {
		if given.value == nil {
			continue
		}
		if _, err := literalValue(f, given.value, newHost(true)); err != nil {
			v.add(path, "the %s breaks the type's own rule: %v", given.name, err)
		}
	}
}

// defaultValue is the Default as the value that accessors return. A fault means that it does not hold on this host.
func (c *checker) defaultValue(f Field) (any, *fault) {
	data, err := literalValue(f, f.Default, c.host)
	if err != nil {
		var flt *faultError
		if errors.As(err, &flt) {
			return nil, &flt.fault
		}
		return nil, &fault{problem: err.Error()}
	}
	return data, nil
}

// faultError is a fault as an error.
type faultError struct{ fault }

func (e *faultError) Error() string { return e.problem }

// literalValue turns the Go value of a Default or an Example into what the file's text would have become.
func literalValue(f Field, given any, h *host) (any, error) {
	read := func(t Type, given any) (any, error) {
		s, is := t.(scalar)
		if !is {
			return nil, fmt.Errorf("%s cannot have one", t.Describe())
		}
		want := map[kind]any{kindText: "", kindInt: 0, kindBool: false, kindDuration: time.Duration(0)}[t.kind()]
		if have := fmt.Sprintf("%T", given); have != fmt.Sprintf("%T", want) {
			return nil, fmt.Errorf("%v is a Go %s, but this type wants %T", given, have, want)
		}
		if given == "" {
			if !f.AllowEmpty && !f.Optional {
				return nil, errors.New("it is the empty text, and AllowEmpty is not set")
			}
			return "", nil
		}
		data, flt := s.read(fmt.Sprint(given), h)
		if flt != nil && !flt.warning {
			return nil, &faultError{*flt}
		}
		return data, nil
	}
	l, is := f.Type.(List)
	if !is {
		return read(f.Type, given)
	}
	texts, is := given.([]string)
	if !is {
		return nil, fmt.Errorf("%v is a Go %T, but this type wants []string", given, given)
	}
	items := []any{}
	for _, text := range texts {
		s, is := l.of().(scalar)
		if !is {
			return nil, errors.New("its elements are not plain values")
		}
		data, flt := s.read(text, h)
		if flt != nil && !flt.warning {
			return nil, &faultError{*flt}
		}
		items = append(items, data)
	}
	return items, nil
}
