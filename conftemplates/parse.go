package conftemplates

import (
	"slices"
	"strings"

	controlStructures "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// program is a template that is wholly within what is supported, as gonja's tree. What the tree asks of values is in the
// filters of [renderer], each of which is given the number of its site.
type program struct {
	root  []nodes.Node
	sites []site
	// names are those that are looked for in the values.
	names []string
}

// site is a place in the template at which something is done to a value, with the words of the template for the value.
type site struct {
	place place
	words string
}

// parser makes a program of the pieces of a template.
//
// gonja's own parser is not used: it reads templates in which Python sees a mistake (a filter without its comma, a tag with
// words left over), and reads others otherwise.
type parser struct {
	pieces []piece
	at     int
	program
	// scopes are the names that the loops around bind, inside out last.
	scopes [][]string
	depth  int
}

// parse reads a template, and finds all that is not supported.
func parse(template string) (*program, error) {
	pieces, err := scan(template)
	if err != nil {
		return nil, err
	}
	p := &parser{pieces: pieces}
	body, end, err := p.block()
	if err != nil {
		return nil, err
	}
	if end != nil {
		return nil, end.place.errorf("remove it, or write the tag that it belongs to", "there is nothing that {%% %s %%} could belong to", end.tokens[0].text)
	}
	p.root = body
	return &p.program, nil
}

// tags are the tags that begin something; enders those that end or divide it.
var (
	tags   = []string{"for", "if"}
	enders = []string{"elif", "else", "endif", "endfor"}
)

// block reads pieces up to a tag that ends or divides a block, which it returns: nil at the end of the template.
func (p *parser) block() ([]nodes.Node, *piece, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, nil, p.pieces[p.at-1].place.errorf("", "tags are nested more than %d levels deep here", maxDepth)
	}
	defer func() { p.depth-- }()
	var body []nodes.Node
	for p.at < len(p.pieces) {
		pc := &p.pieces[p.at]
		p.at++
		var node nodes.Node
		var err error
		switch pc.kind {
		case textPiece:
			node = &nodes.Data{Data: &tokens.Token{Type: tokens.Data, Val: pc.text, Line: pc.place.line, Col: pc.place.column}}
		case outputPiece:
			node, err = p.output(pc)
		case tagPiece:
			name := ""
			if len(pc.tokens) > 0 && pc.tokens[0].kind == "name" {
				name = pc.tokens[0].text
			}
			switch {
			case name == "for":
				node, err = p.loop(pc)
			case name == "if":
				node, err = p.condition(pc)
			case slices.Contains(enders, name):
				return body, pc, nil
			default:
				err = unknownTag(pc, name)
			}
		}
		if err != nil {
			return nil, nil, err
		}
		body = append(body, node)
	}
	return body, nil, nil
}

func unknownTag(pc *piece, name string) error {
	hint := "the tags are " + strings.Join(tags, ", ") + " and those that belong to them: " + strings.Join(enders, ", ")
	if name == "" {
		return pc.place.errorf(hint, "there is no name of a tag after {%%")
	}
	return pc.tokens[0].place.errorf(hint, "the tag %s is not supported", name)
}

// output reads {{ value }}, {{ value if condition }} or {{ value if condition else value }}.
func (p *parser) output(pc *piece) (nodes.Node, error) {
	e := p.expression(pc, 0)
	out := &nodes.Output{Start: mark(pc.place)}
	value, err := e.or()
	if err != nil {
		return nil, err
	}
	out.Expression = p.apply(value, "write", e.since(0))
	if e.takeName("if") {
		from := e.at
		condition, err := e.or()
		if err != nil {
			return nil, err
		}
		out.Condition = p.apply(condition, "truth", e.since(from))
		if e.takeName("else") {
			from := e.at
			alternative, err := e.or()
			if err != nil {
				return nil, err
			}
			out.Alternative = p.apply(alternative, "write", e.since(from))
		}
	}
	return out, e.end()
}

// loop reads {% for %} with all that belongs to it.
func (p *parser) loop(pc *piece) (nodes.Node, error) {
	e := p.expression(pc, 1)
	var targets []string
	for {
		t := e.next()
		if t.kind != "name" || reserved(t.text) || t.text == "loop" || slices.Contains(targets, t.text) {
			return nil, t.place.errorf("write {% for item in list %} or {% for key, value in mapping.items() %}", "for wants a name of your own here")
		}
		targets = append(targets, t.text)
		if len(targets) == 2 || !e.take(",") {
			break
		}
	}
	if !e.takeName("in") {
		return nil, e.next().place.errorf("write {% for item in list %} or {% for key, value in mapping.items() %}", `for wants the word "in" here`)
	}
	from := e.at
	over, err := e.or()
	if err != nil {
		return nil, err
	}
	kind := "each"
	if len(targets) == 2 {
		kind = "eachPair"
	}
	over = p.apply(over, kind, e.since(from))
	if t := e.peek(); t.kind == "name" && t.text == "if" {
		return nil, t.place.errorf("write {% if %} inside the loop", "a condition in a for is not supported")
	}
	if err := e.end(); err != nil {
		return nil, err
	}
	node := &controlStructures.ForControlStructure{Key: targets[0], ObjectEvaluator: over}
	if len(targets) == 2 {
		node.Value = targets[1]
	}
	p.scopes = append(p.scopes, append(targets, "loop"))
	body, end, err := p.block()
	p.scopes = p.scopes[:len(p.scopes)-1]
	if err != nil {
		return nil, err
	}
	node.BodyWrapper = wrap(pc, body)
	if isTag(end, "else") {
		if err := p.bare(end); err != nil {
			return nil, err
		}
		if body, end, err = p.block(); err != nil {
			return nil, err
		}
		node.EmptyWrapper = wrap(pc, body)
	}
	return p.ended(pc, end, "endfor", node)
}

// condition reads {% if %} with all that belongs to it.
func (p *parser) condition(pc *piece) (nodes.Node, error) {
	node := &conditional{}
	opening := pc
	for {
		e := p.expression(pc, 1)
		value, err := e.or()
		if err != nil {
			return nil, err
		}
		value = p.apply(value, "truth", e.since(1))
		if err := e.end(); err != nil {
			return nil, err
		}
		body, end, err := p.block()
		if err != nil {
			return nil, err
		}
		node.branches = append(node.branches, branch{value, wrap(pc, body)})
		if isTag(end, "elif") {
			pc = end
			continue
		}
		if isTag(end, "else") {
			if err := p.bare(end); err != nil {
				return nil, err
			}
			if body, end, err = p.block(); err != nil {
				return nil, err
			}
			node.otherwise = wrap(pc, body)
		}
		return p.ended(opening, end, "endif", node)
	}
}

// ended wants the tag that ends what opening began.
func (p *parser) ended(opening, end *piece, want string, node nodes.ControlStructure) (nodes.Node, error) {
	if !isTag(end, want) {
		hint := "write {% " + want + " %} where it ends"
		if end != nil {
			return nil, end.place.errorf(hint, "{%% %s %%} stands here before the end of the {%% %s %%} of line %d",
				end.tokens[0].text, opening.tokens[0].text, opening.place.line)
		}
		return nil, opening.place.errorf(hint, "this {%% %s %%} is never ended", opening.tokens[0].text)
	}
	return &nodes.ControlStructureBlock{Location: mark(opening.place), Name: opening.tokens[0].text, ControlStructure: node}, p.bare(end)
}

// bare wants nothing after a tag's name.
func (p *parser) bare(pc *piece) error { return p.expression(pc, 1).end() }

func isTag(pc *piece, name string) bool { return pc != nil && pc.tokens[0].text == name }

// apply is a gonja filter applied to a value, at a site of its own.
func (p *parser) apply(value nodes.Expression, filter string, s site, args ...nodes.Expression) nodes.Expression {
	p.sites = append(p.sites, s)
	args = append([]nodes.Expression{&nodes.Integer{Location: mark(s.place), Val: len(p.sites) - 1}}, args...)
	return &nodes.FilteredExpression{Expression: value, Filters: []*nodes.FilterCall{{Token: mark(s.place), Name: filter, Args: args}}}
}

func wrap(pc *piece, body []nodes.Node) *nodes.Wrapper {
	return &nodes.Wrapper{Location: mark(pc.place), Nodes: body}
}

// mark is a token that gonja's messages take a line from.
func mark(at place) *tokens.Token { return &tokens.Token{Line: at.line, Col: at.column} }
