package conftemplates

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// Check tells a driver's author all that is wrong with a template, as one error that wraps one for each problem; nil if it is
// right. A template is right if
//
//   - it is within the supported part of jinja2;
//   - every key of the schema is in it, at its place, with a comment on the line above, and no key that the schema does not have;
//   - the example that is made of it loads;
//   - a file that is rendered with it has every value that it was given, whatever its characters, and nothing where nothing was given.
//
// It asks nothing of the host.
func Check(template string, s *config.Schema) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if _, err := parse(template); err != nil {
		return inTemplate(s, err)
	}
	c := &check{template: template, schema: s}
	c.variant("the example", ExampleValues(s), c.complete)
	c.variant("a file without optional values", probe{}.section(s.Fields), nil)
	for n := range 2 {
		c.variant("a file with all values", probe{full: true, n: n}.section(s.Fields), c.complete)
	}
	return errors.Join(c.problems...)
}

// check collects what is wrong with a template.
type check struct {
	template string
	schema   *config.Schema
	problems []error
	said     []string
}

// problem adds a problem, once.
func (c *check) problem(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	if slices.Contains(c.said, said) {
		return
	}
	c.said = append(c.said, said)
	c.problems = append(c.problems, errors.New(templateName(c.schema)+": "+said))
}

// variant renders the template with values and holds the result against them.
func (c *check) variant(name string, values *Values, more func(values *Values, rendered []byte)) {
	rendered, err := RenderYAML(c.template, values)
	if at, is := errors.AsType[*Error](err); is {
		if said := at.Error(); !slices.Contains(c.said, said) {
			c.said = append(c.said, said)
			c.problems = append(c.problems, inTemplate(c.schema, at))
		}
		return
	}
	if err != nil {
		c.problem("%v", err)
		return
	}
	if more != nil {
		more(values, rendered)
	}
	doc, err := config.Options{Strict: true, Static: true}.Parse(c.schema.Name+".yaml", rendered, c.schema)
	if problems, is := errors.AsType[config.Problems](err); is {
		for _, p := range problems {
			if at := p.Path + ": " + p.Problem; !slices.Contains(c.said, at) {
				c.said = append(c.said, at)
				c.problem("%s that is made of it does not load: %s%s", name, at, quoted(p.Text))
			}
		}
		return
	}
	if err != nil {
		c.problem("%s that is made of it does not load: %v", name, err)
		return
	}
	if path, was, is := difference("", values, FromDocument(doc)); path != "" {
		c.problem("in %s that is made of it, %s is %s where it should be %s", name, path, is, was)
	}
}

func quoted(line string) string {
	if line = strings.TrimSpace(line); line == "" {
		return ""
	}
	return " (the line is: " + line + ")"
}

// complete wants each key of the schema at its place, with a comment above.
func (c *check) complete(values *Values, rendered []byte) {
	var root yaml.Node
	// A file that is no YAML is told of by the loader.
	if yaml.Unmarshal(rendered, &root) != nil || len(root.Content) == 0 {
		return
	}
	lines := strings.Split(string(rendered), "\n")
	c.section(c.schema.Fields, values, root.Content[0], "", lines)
}

// section wants the keys of one section. The values tell which can be there at all.
func (c *check) section(fields []config.Field, values *Values, node *yaml.Node, path string, lines []string) {
	if node.Kind != yaml.MappingNode {
		node = &yaml.Node{Kind: yaml.MappingNode}
	}
	for _, f := range fields {
		value, _ := values.Get(f.Key)
		at := f.Key
		if path != "" {
			at = path + "." + f.Key
		}
		key, below := lookUpNode(node, f.Key)
		if key == nil {
			if f.AllowEmpty || !isEmpty(value) {
				c.problem("the key %s is not in it", at)
			}
			continue
		}
		if line := key.Line - 2; line < 0 || line >= len(lines) || !strings.HasPrefix(strings.TrimSpace(lines[line]), "#") {
			c.problem("the key %s has no comment on the line above it", at)
		}
		switch t := f.Type.(type) {
		case config.Section:
			if value, is := value.(*Values); is {
				c.section(t.Fields, value, below, at, lines)
			}
		case config.Machines:
			// The comments may be at the first machine alone.
			if value, is := value.(*Values); is && value.Len() > 0 && below.Kind == yaml.MappingNode && len(below.Content) > 0 {
				first, _ := value.Get(value.keys[0])
				c.section(t.Fields, first.(*Values), below.Content[1], at+".<name>", lines)
			}
		case config.DictList:
			if value, is := value.([]any); is && len(value) > 0 && below.Kind == yaml.SequenceNode && len(below.Content) > 0 {
				c.section(t.Fields, value[0].(*Values), below.Content[0], at+"[]", lines)
			}
		}
	}
}

// isEmpty tells the values that cannot be written where a key may not be empty.
func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case []any:
		return len(value) == 0
	case *Values:
		return value.Len() == 0
	}
	return false
}

// lookUpNode finds a key of a mapping, with its value.
func lookUpNode(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}
