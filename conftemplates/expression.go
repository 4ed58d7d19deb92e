package conftemplates

import (
	"slices"
	"strings"

	"github.com/nikolalohinski/gonja/v2/nodes"
)

// expression reads what is inside {{ }}, or follows a tag's name, into gonja's tree. The binding of the operators is Python's.
type expression struct {
	*parser
	tokens []token
	at     int
	after  token // stands for the end
	depth  int
}

// expression reads the tokens of a piece from one of them on.
func (p *parser) expression(pc *piece, from int) *expression {
	after := token{kind: "end", place: pc.place}
	if n := len(pc.tokens); n > 0 {
		last := pc.tokens[n-1]
		after.place = place{last.place.line, last.place.column + len([]rune(last.source))}
	}
	return &expression{parser: p, tokens: pc.tokens, at: min(from, len(pc.tokens)), after: after}
}

func (e *expression) peek() token {
	if e.at == len(e.tokens) {
		return e.after
	}
	return e.tokens[e.at]
}

func (e *expression) next() token {
	t := e.peek()
	e.at = min(e.at+1, len(e.tokens))
	return t
}

func (e *expression) take(kind string) bool {
	if e.peek().kind != kind {
		return false
	}
	e.next()
	return true
}

func (e *expression) takeName(name string) bool {
	if t := e.peek(); t.kind != "name" || t.text != name {
		return false
	}
	e.next()
	return true
}

// since is the site of what was read from a token on.
func (e *expression) since(from int) site {
	var words strings.Builder
	for i, t := range e.tokens[from:e.at] {
		if i > 0 && t.kind == "name" && e.tokens[from+i-1].kind == "name" {
			words.WriteByte(' ')
		}
		words.WriteString(t.source)
	}
	at := e.after.place
	if from < len(e.tokens) {
		at = e.tokens[from].place
	}
	return site{at, words.String()}
}

// end wants that nothing is left.
func (e *expression) end() error {
	t := e.peek()
	switch {
	case t.kind == "end":
		return nil
	case t.kind == "=":
		return t.place.errorf("write == to compare", `a single "=" is not supported here`)
	case t.kind == "name" && (t.text == "recursive" || t.text == "in"):
		return t.place.errorf("", "%s is not supported here", t.text)
	}
	return t.place.errorf("remove it, or what is before it", "%s is not expected here", t.source)
}

// or reads values with "or" between them.
func (e *expression) or() (nodes.Expression, error) {
	return e.chain("or", func() (nodes.Expression, error) { return e.chain("and", e.not) })
}

// chain reads values with a word between them. The value of the whole is the one that decides, as in Python.
func (e *expression) chain(word string, operand func() (nodes.Expression, error)) (nodes.Expression, error) {
	if e.depth++; e.depth > maxDepth {
		return nil, e.peek().place.errorf("", "brackets are nested more than %d levels deep here", maxDepth/2)
	}
	defer func() { e.depth-- }()
	left, err := operand()
	for err == nil && e.takeName(word) {
		var right nodes.Expression
		if right, err = operand(); err == nil {
			left = binary(word, left, right)
		}
	}
	return left, err
}

func (e *expression) not() (nodes.Expression, error) {
	from := e.at
	negated, nots := false, 0
	for e.takeName("not") {
		negated, nots = !negated, nots+1
	}
	value, err := e.compare()
	if err != nil || nots == 0 {
		return value, err
	}
	value = e.apply(value, "not", e.since(from))
	if !negated {
		value = e.apply(value, "not", e.since(from))
	}
	return value, nil
}

// comparisons are the operators between two values, with the filter that decides them.
var comparisons = map[string]string{"==": "equal", "!=": "unequal"}

func (e *expression) compare() (nodes.Expression, error) {
	from := e.at
	left, err := e.operand()
	if err != nil {
		return nil, err
	}
	filter, is := comparisons[e.peek().kind]
	if t := e.peek(); t.kind == "name" && (t.text == "in" || t.text == "not") {
		return nil, t.place.errorf("compare with == or !=, or use {% for %}", "%s is not supported here", t.text)
	}
	if !is {
		return left, nil
	}
	e.next()
	right, err := e.operand()
	if err != nil {
		return nil, err
	}
	if t := e.peek(); comparisons[t.kind] != "" {
		return nil, t.place.errorf(`write "a == b and b == c"`, "a second comparison is not supported here")
	}
	return e.apply(left, filter, e.since(from), right), nil
}

// operand reads a value with its filters and its test.
func (e *expression) operand() (nodes.Expression, error) {
	from := e.at
	value, err := e.primary()
	if err != nil {
		return nil, err
	}
	for e.take("|") {
		if value, err = e.filter(value, from); err != nil {
			return nil, err
		}
	}
	if e.takeName("is") {
		return e.test(value, from)
	}
	return value, nil
}

func (e *expression) primary() (nodes.Expression, error) {
	from := e.at
	switch t := e.next(); t.kind {
	case "string":
		return &nodes.String{Location: mark(t.place), Val: t.text}, e.single()
	case "int":
		return &nodes.Integer{Location: mark(t.place), Val: t.number}, e.single()
	case "(":
		value, err := e.or()
		if err != nil {
			return nil, err
		}
		if !e.take(")") {
			return nil, e.peek().place.errorf(`close the bracket with ")"`, "only one value is supported in brackets")
		}
		return value, e.single()
	case "name":
		switch t.text {
		case "true", "True", "false", "False":
			return &nodes.Bool{Location: mark(t.place), Val: t.text == "true" || t.text == "True"}, e.single()
		case "none", "None":
			return &nodes.None{Location: mark(t.place)}, e.single()
		}
		if reserved(t.text) {
			return nil, t.place.errorf("write a value", "the word %s cannot stand here", t.text)
		}
		return e.path(t, from)
	case "end":
		return nil, t.place.errorf("write a value, such as {{ interface }}", "a value is missing here")
	default:
		return nil, t.place.errorf("write a name, a text in quotes or a whole number", "%s cannot stand here", t.source)
	}
}

// single wants no access to parts of a value that has none.
func (e *expression) single() error {
	if t := e.peek(); t.kind == "." || t.kind == "[" || t.kind == "(" {
		return t.place.errorf("only names have parts", "%s is not supported here", t.source)
	}
	return nil
}

// path reads a name with the parts that are asked of it: machine.tags, machines["a"], machines.items().
func (e *expression) path(root token, from int) (nodes.Expression, error) {
	if err := e.known(root); err != nil {
		return nil, err
	}
	var value nodes.Expression = &nodes.Name{Name: nameToken(root)}
	for {
		switch t := e.peek(); t.kind {
		case ".":
			e.next()
			name := e.next()
			if name.kind != "name" || strings.HasPrefix(name.text, "__") {
				return nil, name.place.errorf(`write it as ["name"]`, "the name of a part is wanted after the dot")
			}
			if e.take("(") {
				if !e.take(")") || !slices.Contains(calls, name.text) {
					return nil, name.place.errorf("only "+strings.Join(calls, "(), ")+"() can be called", "this call is not supported")
				}
				value = e.apply(value, name.text, e.since(from))
				continue
			}
			if slices.Contains(methods, name.text) {
				return nil, name.place.errorf(`write it as ["`+name.text+`"] if a key is meant`, "%s is a method of Python's dictionaries", name.text)
			}
			value = e.apply(value, "part", e.since(from), &nodes.String{Location: mark(name.place), Val: name.text})
		case "[":
			e.next()
			index, err := e.or()
			if err != nil {
				return nil, err
			}
			if !e.take("]") {
				return nil, e.peek().place.errorf(`close the bracket with "]"`, "only one value is supported in square brackets")
			}
			value = e.apply(value, "part", e.since(from), index)
		case "(":
			return nil, t.place.errorf("only "+strings.Join(calls, "(), ")+"() can be called", "this call is not supported")
		default:
			return value, nil
		}
	}
}

// calls are the methods of a dictionary that can be called; methods are all, which Python finds before the keys.
var (
	calls   = []string{"items", "keys", "values"}
	methods = []string{"clear", "copy", "fromkeys", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}
)

// globals are the names that jinja2 has without being given them.
var globals = []string{"range", "dict", "lipsum", "cycler", "joiner", "namespace", "self", "super"}

// known notes a name that is to be among the values.
func (e *expression) known(t token) error {
	for _, scope := range e.scopes {
		if slices.Contains(scope, t.text) {
			return nil
		}
	}
	switch {
	case t.text == "loop":
		return t.place.errorf("", "loop is known inside {%% for %%} alone")
	case slices.Contains(globals, t.text):
		return t.place.errorf("", "%s is a function of jinja2, which is not supported", t.text)
	case !slices.Contains(e.names, t.text):
		e.names = append(e.names, t.text)
	}
	return nil
}

// reserved tells the words that cannot be names.
func reserved(name string) bool {
	return slices.Contains([]string{"and", "or", "not", "in", "is", "if", "else", "elif", "for", "endfor", "endif",
		"true", "false", "none", "True", "False", "None"}, name)
}
