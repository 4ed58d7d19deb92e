package conftemplates

import (
	"maps"
	"slices"
	"strings"

	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// filters are what can follow a value after |, with the parameters that each takes.
var filters = map[string]struct {
	params []string
	as     string // the name of the same filter, if it has two
}{
	"default": {params: []string{"default_value", "boolean"}},
	"d":       {params: []string{"default_value", "boolean"}, as: "default"},
	"join":    {params: []string{"d"}},
	"length":  {},
	"count":   {as: "length"},
	"lower":   {},
	"tojson":  {},
	"trim":    {},
}

// tests are what can follow "is".
var tests = []string{"defined", "none", "undefined"}

// filter reads what follows a |.
func (e *expression) filter(value nodes.Expression, from int) (nodes.Expression, error) {
	name := e.next()
	f, known := filters[name.text]
	if name.kind != "name" || !known {
		shown := name.source
		if name.kind == "end" {
			shown = "nothing"
		}
		return nil, name.place.errorf("the filters are "+strings.Join(slices.Sorted(maps.Keys(filters)), ", "), "the filter %s is not supported", shown)
	}
	args := make([]nodes.Expression, len(f.params))
	if e.take("(") {
		if err := e.arguments(f.params, args); err != nil {
			return nil, err
		}
	}
	for i := range args {
		if args[i] == nil {
			args[i] = &nodes.String{Location: mark(name.place)}
		}
	}
	filter := name.text
	if f.as != "" {
		filter = f.as
	}
	if t := e.peek(); filter == "join" && !(t.kind == "end" || t.kind == "name" && (t.text == "if" || t.text == "else")) {
		return nil, t.place.errorf("write another {{ }}", "nothing can be done with what join gives but to write it")
	}
	return e.apply(value, filter, e.since(from), args...), nil
}

// arguments reads the arguments of a filter up to the closing bracket.
func (e *expression) arguments(params []string, args []nodes.Expression) error {
	for i, named := 0, false; !e.take(")"); i++ {
		if i > 0 && !e.take(",") {
			return e.peek().place.errorf(`write "," between arguments, and ")" after the last`, "%s is not expected here", e.words())
		}
		at := e.peek()
		if at.kind == ")" && i > 0 {
			e.next()
			return nil
		}
		to := i
		if at.kind == "name" && e.at+1 < len(e.tokens) && e.tokens[e.at+1].kind == "=" {
			named, to = true, slices.Index(params, at.text)
			e.at += 2
			if to < 0 {
				return at.place.errorf("", "there is no parameter %s", at.text)
			}
		} else if named {
			return at.place.errorf("", "an argument without a name cannot follow one with a name")
		}
		if to >= len(args) || args[to] != nil {
			return at.place.errorf("", "there is an argument too many here")
		}
		var err error
		if args[to], err = e.or(); err != nil {
			return err
		}
	}
	return nil
}

// words are what stands next, for a message.
func (e *expression) words() string {
	if t := e.peek(); t.kind != "end" {
		return t.source
	}
	return "the end"
}

// test reads what follows "is".
func (e *expression) test(value nodes.Expression, from int) (nodes.Expression, error) {
	negated := e.takeName("not")
	name := e.next()
	if name.kind != "name" || !slices.Contains(tests, name.text) {
		return nil, name.place.errorf("the tests are "+strings.Join(tests, ", ")+", each also after not", "this test is not supported")
	}
	switch t := e.peek(); {
	case t.kind == "end", t.kind == ")", t.kind == "]", t.kind == ",":
	case t.kind == "name" && slices.Contains([]string{"and", "or", "else"}, t.text):
	default:
		// Python takes what follows for an argument of the test.
		return nil, t.place.errorf("put the test in brackets", "%s is not expected after a test", t.source)
	}
	value = e.apply(value, name.text, e.since(from))
	if negated {
		value = e.apply(value, "not", e.since(from))
	}
	return value, nil
}

// binary is one of Python's lazy operators, "and" and "or".
func binary(word string, left, right nodes.Expression) nodes.Expression {
	kind := tokens.And
	if word == "or" {
		kind = tokens.Or
	}
	return &nodes.BinaryExpression{Left: left, Right: right,
		Operator: &nodes.BinOperator{Token: &tokens.Token{Type: kind, Val: word}}}
}

func nameToken(t token) *tokens.Token {
	return &tokens.Token{Type: tokens.Name, Val: t.text, Line: t.place.line, Col: t.place.column}
}
