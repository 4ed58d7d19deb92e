package conftemplates

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	controlStructures "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// operation does something to a value, at a site.
type operation func(r *renderer, s site, value any, args []any) (any, error)

// operations are all that is done to values, by the names that the parser gives them. Those of gonja differ from Python's in
// many small ways: None is empty, not 1 is 0, True is not 1, dicts are sorted.
var operations = map[string]operation{
	"write":     write,
	"truth":     func(_ *renderer, _ site, v any, _ []any) (any, error) { return truth(v), nil },
	"not":       func(_ *renderer, _ site, v any, _ []any) (any, error) { return !truth(v), nil },
	"equal":     func(r *renderer, s site, v any, args []any) (any, error) { return equal(r, s, v, args[0]) },
	"unequal":   unequal,
	"part":      part,
	"each":      each,
	"eachPair":  eachPair,
	"items":     items,
	"keys":      keys,
	"values":    itemValues,
	"default":   defaultTo,
	"join":      join,
	"length":    length,
	"lower":     lower,
	"trim":      trim,
	"tojson":    toJSON,
	"defined":   func(_ *renderer, _ site, v any, _ []any) (any, error) { return !isUndefined(v), nil },
	"undefined": func(_ *renderer, _ site, v any, _ []any) (any, error) { return isUndefined(v), nil },
	"none":      func(_ *renderer, _ site, v any, _ []any) (any, error) { return v == nil, nil },
}

// filters are the operations as gonja's filters. The first argument of each is the number of its site.
func (r *renderer) filters() map[string]exec.FilterFunction {
	set := make(map[string]exec.FilterFunction, len(operations))
	for name, op := range operations {
		set[name] = func(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
			if in.IsError() {
				return in
			}
			args := make([]any, len(params.Args)-1)
			for i := range args {
				args[i] = params.Args[i+1].Interface()
			}
			value := in.Interface()
			if instead, lenient := ofUndefined[name]; lenient && !r.strict && isUndefined(value) {
				return exec.AsValue(instead)
			}
			value, err := op(r, r.sites[params.Args[0].Integer()], value, args)
			if err != nil {
				return exec.AsValue(err)
			}
			return exec.AsValue(value)
		}
	}
	return set
}

// ofUndefined is what Python makes of what there is not, where it makes something of it.
var ofUndefined = map[string]any{"write": "", "each": list{}, "eachPair": list{}, "join": joined{}, "length": 0, "lower": "", "trim": ""}

func isUndefined(value any) bool {
	_, is := value.(undefined)
	return is
}

// plainText is a value as Python writes it, for all that are one text.
func plainText(value any) (string, bool) {
	switch value := value.(type) {
	case nil:
		return "None", true
	case bool:
		if value {
			return "True", true
		}
		return "False", true
	case int:
		return strconv.Itoa(value), true
	case string:
		return value, true
	case text:
		return string(value), true
	case written:
		return string(value), true
	}
	return "", false
}

// kindOf names what a value is, for a message.
func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "none"
	case bool:
		return "true or false"
	case int:
		return "a number"
	case string, text, written:
		return "a text"
	case list:
		return "a list"
	case mapping:
		return "a section"
	case joined:
		return "a joined list"
	case undefined:
		return "not there"
	case *controlStructures.LoopInfos:
		return "the loop"
	}
	return fmt.Sprintf("a %T", value)
}

// wrong is the error of a value that cannot be used so. What is not there is the likeliest mistake, a name that is mistyped.
func wrong(r *renderer, s site, value any, hint, format string, args ...any) error {
	if isUndefined(value) {
		return r.fail(s.place, "check its spelling, or write | default(...) for a value that need not be there", "there is no value for %s", s.words)
	}
	return r.fail(s.place, hint, format, args...)
}

// joined is what the filter join gives: values, with written text between them.
type joined []any

// write adds a value to what is written.
func write(r *renderer, s site, value any, _ []any) (any, error) {
	parts := []any{value}
	if j, is := value.(joined); is {
		parts = j
	}
	for _, part := range parts {
		plain, is := plainText(part)
		if !is {
			return nil, wrong(r, s, part, "write it with {% for %}, or with | tojson", "%s is %s, which cannot be written as a text", s.words, kindOf(part))
		}
		switch part.(type) {
		case nil, text:
			r.out = append(r.out, segment{value: part, isValue: true, site: s})
		default:
			r.out = append(r.out, segment{literal: plain})
		}
	}
	return "", nil
}

// truth is whether Python takes a value for true.
func truth(value any) bool {
	switch value := value.(type) {
	case nil, undefined:
		return false
	case bool:
		return value
	case int:
		return value != 0
	case list:
		return len(value) > 0
	case mapping:
		return len(value) > 0
	case joined:
		return slices.ContainsFunc(value, truthOfText)
	}
	plain, is := plainText(value)
	return !is || plain != ""
}

func truthOfText(value any) bool {
	plain, _ := plainText(value)
	return plain != ""
}

// equal compares as Python does: True is 1, and None is nothing but None.
func equal(r *renderer, s site, a, b any) (any, error) {
	if !r.strict && (isUndefined(a) || isUndefined(b)) {
		return isUndefined(a) && isUndefined(b), nil
	}
	if aMany, bMany := isMany(a), isMany(b); aMany != bMany {
		_, aOne := plainText(a)
		if _, bOne := plainText(b); aOne || bOne {
			return false, nil
		}
	}
	for _, value := range []any{a, b} {
		if _, is := plainText(value); !is {
			return nil, wrong(r, s, value, "compare texts, numbers, true and false", "%s compares %s", s.words, kindOf(value))
		}
	}
	an, aIs := number(a)
	bn, bIs := number(b)
	if a == nil || b == nil || aIs || bIs {
		return a == nil && b == nil || aIs && bIs && an == bn, nil
	}
	at, _ := plainText(a)
	bt, _ := plainText(b)
	return at == bt, nil
}

// isMany tells lists and sections.
func isMany(value any) bool {
	switch value.(type) {
	case list, mapping:
		return true
	}
	return false
}

func number(value any) (int, bool) {
	switch value := value.(type) {
	case int:
		return value, true
	case bool:
		if value {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func unequal(r *renderer, s site, value any, args []any) (any, error) {
	is, err := equal(r, s, value, args[0])
	if err != nil {
		return nil, err
	}
	return !is.(bool), nil
}

// loopParts are the parts of loop.
var loopParts = []string{"first", "index", "index0", "last", "length", "revindex", "revindex0"}

// part is value.name, value["name"] or value[0].
func part(r *renderer, s site, value any, args []any) (any, error) {
	switch of := value.(type) {
	case *controlStructures.LoopInfos:
		name, _ := args[0].(string)
		if !slices.Contains(loopParts, name) {
			return nil, r.fail(s.place, "loop has "+strings.Join(loopParts, ", "), "%s is not supported", s.words)
		}
		value, _ := of.GetAttribute(name)
		return value.Interface(), nil
	case mapping:
		key, is := args[0].(string)
		if key, isText := args[0].(text); isText {
			return lookUp(r, s, of, string(key))
		}
		if is {
			return lookUp(r, s, of, key)
		}
	case list:
		if i, is := args[0].(int); is {
			if i < len(of) {
				return of[i], nil
			}
			return undefined{}, nil
		}
	}
	return nil, wrong(r, s, value, "", "%s asks for a part of %s that it cannot have", s.words, kindOf(value))
}

func lookUp(r *renderer, s site, m mapping, key string) (any, error) {
	if value, have := m.get(key); have {
		return value, nil
	}
	if slices.Contains(methods, key) {
		return nil, r.fail(s.place, "", "there is no key %s, and Python takes it for the method of its dictionaries", key)
	}
	return undefined{}, nil
}

// each is what a for with one name walks through.
func each(r *renderer, s site, value any, _ []any) (any, error) {
	switch value := value.(type) {
	case list:
		return value, nil
	case mapping:
		return keys(r, s, value, nil)
	}
	return nil, wrong(r, s, value, "for wants a list or a section", "%s is %s, which {%% for %%} cannot walk through", s.words, kindOf(value))
}

// eachPair is what a for with two names walks through.
func eachPair(r *renderer, s site, value any, _ []any) (any, error) {
	of, is := value.(list)
	if !is {
		return nil, wrong(r, s, value, "write .items() after a section", "%s is %s, which {%% for %%} with two names cannot walk through", s.words, kindOf(value))
	}
	for _, item := range of {
		if two, is := item.(list); !is || len(two) != 2 {
			return nil, r.fail(s.place, "write {% for item in list %}", "%s is a list, but not one of pairs", s.words)
		}
	}
	return of, nil
}

func items(r *renderer, s site, value any, _ []any) (any, error) {
	return walk(r, s, value, func(p pair) any { return list{text(p.key), p.value} })
}

func keys(r *renderer, s site, value any, _ []any) (any, error) {
	return walk(r, s, value, func(p pair) any { return text(p.key) })
}

func itemValues(r *renderer, s site, value any, _ []any) (any, error) {
	return walk(r, s, value, func(p pair) any { return p.value })
}

func walk(r *renderer, s site, value any, of func(pair) any) (any, error) {
	m, is := value.(mapping)
	if !is {
		return nil, wrong(r, s, value, "only a section has items(), keys() and values()", "%s is asked of %s", s.words, kindOf(value))
	}
	out := make(list, len(m))
	for i, p := range m {
		out[i] = of(p)
	}
	return out, nil
}

// defaultTo is the filter default.
func defaultTo(_ *renderer, _ site, value any, args []any) (any, error) {
	if isUndefined(value) || truth(args[1]) && !truth(value) {
		return args[0], nil
	}
	return value, nil
}

func join(r *renderer, s site, value any, args []any) (any, error) {
	of, is := value.(list)
	between, isText := plainText(args[0])
	if !is || !isText {
		return nil, wrong(r, s, value, "", "%s joins %s", s.words, kindOf(value))
	}
	var out joined
	for i, item := range of {
		if _, is := plainText(item); !is {
			return nil, wrong(r, s, item, "join texts and numbers", "%s has %s in it", s.words, kindOf(item))
		}
		if i > 0 {
			out = append(out, written(between))
		}
		out = append(out, item)
	}
	return out, nil
}

func length(r *renderer, s site, value any, _ []any) (any, error) {
	switch value := value.(type) {
	case list:
		return len(value), nil
	case mapping:
		return len(value), nil
	case string, text, written:
		plain, _ := plainText(value)
		return utf8.RuneCountInString(plain), nil
	}
	return nil, wrong(r, s, value, "", "%s asks %s for its length", s.words, kindOf(value))
}

// lower is Python's str.lower. The letters that become something else there than in Go are refused.
func lower(r *renderer, s site, value any, _ []any) (any, error) {
	plain, is := plainText(value)
	if !is {
		return nil, wrong(r, s, value, "", "%s is asked of %s", s.words, kindOf(value))
	}
	if strings.ContainsAny(plain, "İΣ") {
		return nil, r.fail(s.place, "write it in lower case", "%s: the value has letters whose lower case depends on language or place", s.words)
	}
	return like(value, strings.ToLower(plain)), nil
}

func trim(r *renderer, s site, value any, _ []any) (any, error) {
	plain, is := plainText(value)
	if !is {
		return nil, wrong(r, s, value, "", "%s is asked of %s", s.words, kindOf(value))
	}
	return like(value, strings.TrimFunc(plain, isSpace)), nil
}

// like is a new text in the place of a value: still one of the configuration if that was one.
func like(value any, plain string) any {
	if _, is := value.(text); is {
		return text(plain)
	}
	return plain
}
