package edit

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// layout is how a file is written: what is added is written alike.
type layout struct {
	quoting
	// step is how many columns the keys of a section are indented below its name, and item the dashes of a list below
	// its key, which may be 0.
	step, item int
	// flowLists writes lists as [a, b].
	flowLists bool
	// flowMachines writes machines as {key: value, …}, although the machines themselves are lines.
	flowMachines bool
}

// layoutOf looks at the tree of a file, at the last machine first. Where it says nothing, it is the layout of the templates.
func layoutOf(root, machines *yaml.Node) layout {
	s := survey{step: -1, item: -1}
	s.look(machines)
	if machines != nil && machines.Kind == yaml.MappingNode && machines.Style&yaml.FlowStyle == 0 {
		for i := 1; i < len(machines.Content); i += 2 {
			if m := machines.Content[i]; m.Kind == yaml.MappingNode && len(m.Content) > 0 {
				if s.flowMachines = m.Style&yaml.FlowStyle != 0; !s.flowMachines {
					break
				}
			}
		}
	}
	s.look(root)
	l := layout{step: s.step, item: s.item, flowLists: s.lists == flowStyle, flowMachines: s.flowMachines}
	if l.step < 0 {
		l.step = 2
	}
	if l.item < 0 {
		l.item = l.step
	}
	l.single = s.quotes == yaml.SingleQuotedStyle
	if flow := firstFlow(root, machines); flow != nil && len(flow.Content) > 0 {
		l.always = flow.Content[0].Style&yaml.DoubleQuotedStyle != 0
	}
	return l
}

// firstFlow is the outermost mapping in braces that a machine would be in, if any.
func firstFlow(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n != nil && n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 {
			return n
		}
	}
	return nil
}

type listStyle int

const (
	noStyle listStyle = iota
	blockStyle
	flowStyle
)

// survey collects what a tree shows of its layout. The first that is seen counts.
type survey struct {
	step, item   int
	lists        listStyle
	quotes       yaml.Style
	flowMachines bool
}

// look goes through a mapping or sequence from its end.
func (s *survey) look(n *yaml.Node) {
	if n == nil || s.step >= 0 && s.item >= 0 && s.lists != noStyle && s.quotes != 0 {
		return
	}
	for i := len(n.Content) - 1; i >= 0; i-- {
		child := n.Content[i]
		s.look(child)
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			s.pair(n, n.Content[i-1], child)
		}
		if quotes := child.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle); s.quotes == 0 && child.Kind == yaml.ScalarNode {
			s.quotes = quotes
		}
	}
}

func (s *survey) pair(parent, key, val *yaml.Node) {
	if len(val.Content) == 0 {
		return
	}
	flow := val.Style&yaml.FlowStyle != 0
	switch {
	case val.Kind == yaml.SequenceNode && s.lists == noStyle && flow:
		s.lists = flowStyle
	case val.Kind == yaml.SequenceNode && s.lists == noStyle:
		s.lists = blockStyle
	}
	if flow || parent.Style&yaml.FlowStyle != 0 {
		return
	}
	first := val.Content[0].Column // a mapping with an anchor begins there, on the key's line
	switch {
	case val.Kind == yaml.MappingNode && s.step < 0 && first > key.Column:
		s.step = first - key.Column
	case val.Kind == yaml.SequenceNode && s.item < 0 && val.Anchor == "" && val.Style&yaml.TaggedStyle == 0:
		s.item = max(0, val.Column-key.Column)
	}
}

// blockLines are the keys of a mapping, each on a line of its own.
func (l layout) blockLines(m *yaml.Node, indent int) []string {
	var out []string
	for i := 0; i < len(m.Content); i += 2 {
		out = append(out, l.pairLines(m.Content[i], m.Content[i+1], indent)...)
	}
	return out
}

// pairLines are a key and its value.
func (l layout) pairLines(key, val *yaml.Node, indent int) []string {
	start := spaces(indent) + l.text(key.Value) + ":"
	switch {
	case val.Kind == yaml.ScalarNode && val.Tag == nullTag:
		return []string{start}
	case val.Kind == yaml.ScalarNode, len(val.Content) == 0, val.Kind == yaml.SequenceNode && l.flowLists && !nested(val):
		return []string{start + " " + l.inline(val)}
	case val.Kind == yaml.MappingNode:
		return append([]string{start}, l.blockLines(val, indent+l.step)...)
	}
	out := []string{start}
	for _, item := range val.Content {
		if item.Kind == yaml.ScalarNode || len(item.Content) == 0 {
			out = append(out, spaces(indent+l.item)+"- "+l.inline(item))
			continue
		}
		lines := l.blockLines(item, indent+l.item+len("- "))
		lines[0] = spaces(indent+l.item) + "- " + strings.TrimLeft(lines[0], " ")
		out = append(out, lines...)
	}
	return out
}

// inline is a value on one line.
func (l layout) inline(n *yaml.Node) string {
	var parts []string
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			parts = append(parts, l.text(n.Content[i].Value)+": "+l.inline(n.Content[i+1]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case yaml.SequenceNode:
		for _, item := range n.Content {
			parts = append(parts, l.inline(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	switch n.Tag {
	case nullTag:
		return "null"
	case bareTag:
		return l.bare(n.Value)
	}
	return l.text(n.Value)
}

func nested(seq *yaml.Node) bool {
	for _, item := range seq.Content {
		if item.Kind != yaml.ScalarNode {
			return true
		}
	}
	return false
}

func spaces(n int) string { return strings.Repeat(" ", n) }
