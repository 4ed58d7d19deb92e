package conftemplates

import (
	"strings"

	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Render renders a template as Python's jinja2 does with trim_blocks and lstrip_blocks, byte for byte: None is written as None,
// texts are written as they are, and what is not among the values is written as nothing. The file that comes of it is right only if
// the values fit where the template puts them; see [RenderYAML].
//
// Nothing is rendered of a template that is not wholly supported: the error is an *[Error] then, with the place in the template.
func Render(template string, values *Values) ([]byte, error) {
	r, err := run(template, values, false)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, s := range r.out {
		out.WriteString(s.python())
	}
	return []byte(out.String()), nil
}

// segment is a part of what is written.
type segment struct {
	// literal is text of the template, or text that is YAML already. It is empty for a value.
	literal string
	// value is nil or text.
	value   any
	isValue bool
	site    site
}

// python is the segment as Python writes it.
func (s segment) python() string {
	if !s.isValue {
		return s.literal
	}
	plain, _ := plainText(s.value)
	return plain
}

// renderer renders one template once.
type renderer struct {
	*program
	// strict makes what there is not an error where Python writes nothing.
	strict bool
	out    []segment
	// failed is the first error. gonja hands errors on as well, in words of its own.
	failed error
}

// maxOutput is how many bytes a template may write: a file that is longer is not loaded again. Loops in loops write much.
const maxOutput = 16 << 20

// run renders a template into segments. Strict makes what is not there an error where it is written or walked through.
func run(template string, values *Values, strict bool) (*renderer, error) {
	p, err := parse(template)
	if err != nil {
		return nil, err
	}
	converted, err := internal(values, nil)
	if err != nil {
		return nil, err
	}
	known := map[string]any{}
	for _, name := range p.names {
		known[name] = undefined{}
	}
	for _, pair := range converted.(mapping) {
		known[pair.key] = pair.value
	}
	r := &renderer{program: p, strict: strict}
	empty, err := exec.NewTemplate("/", config.New(), loaders.MustNewMemoryLoader(map[string]string{"/": ""}), &exec.Environment{
		Context: exec.EmptyContext(), Filters: exec.NewFilterSet(r.filters())})
	if err != nil {
		return nil, err
	}
	empty.Root().Nodes = p.root
	err = empty.Execute(&literals{renderer: r}, exec.NewContext(known))
	if r.failed != nil {
		err = r.failed
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// literals takes what gonja writes: the text of the template. Values are added by the filter write, which gives gonja nothing.
type literals struct {
	*renderer
	size int
}

func (l *literals) Write(data []byte) (int, error) {
	if l.size += len(data); l.size > maxOutput {
		return 0, l.fail(place{1, 1}, "make its loops smaller", "the template writes more than %d bytes", maxOutput)
	}
	if len(data) > 0 {
		l.out = append(l.out, segment{literal: string(data)})
	}
	return len(data), nil
}

func (r *renderer) fail(at place, hint, format string, args ...any) error {
	if r.failed == nil {
		r.failed = at.errorf(hint, format, args...)
	}
	return r.failed
}

// conditional is {% if %}. gonja's own puts what its branches set into the scope around it, and cannot name its place.
type conditional struct {
	branches  []branch
	otherwise *nodes.Wrapper
}

type branch struct {
	condition nodes.Expression
	body      *nodes.Wrapper
}

// Position implements nodes.Node.
func (c *conditional) Position() *tokens.Token { return c.branches[0].body.Location }

// String implements nodes.Node.
func (c *conditional) String() string { return "if" }

// Execute implements gonja's exec.ControlStructure.
func (c *conditional) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	for _, b := range c.branches {
		switch condition := r.Eval(b.condition); {
		case condition.IsError():
			return condition
		case condition.Bool():
			return r.ExecuteWrapper(b.body)
		}
	}
	if c.otherwise != nil {
		return r.ExecuteWrapper(c.otherwise)
	}
	return nil
}
