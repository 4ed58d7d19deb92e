package edit

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"
)

// machineSection is where the machines of a file are.
type machineSection struct {
	root     *block     // the keys at the top, if they are lines
	rootFlow *flow      // the same, if they are in braces
	index    int        // the number of the machines' key among them; -1 if it is not there
	key      *yaml.Node // the machines' key and its value
	value    *yaml.Node
}

// locate finds the machines.
func (f *File) locate() (machineSection, error) {
	m := machineSection{index: -1}
	root := f.now.root
	if root == nil {
		return m, nil
	}
	var merge *yaml.Node
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := deref(root.Content[i])
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			merge = root.Content[i]
		case key.Kind == yaml.ScalarNode && key.Value == f.field.Key && m.index >= 0:
			return m, f.at(root.Content[i], fmt.Sprintf("the key %q is already on line %d", f.field.Key, m.key.Line), "remove one of the two first")
		case key.Kind == yaml.ScalarNode && key.Value == f.field.Key:
			m.index, m.key, m.value = i/2, root.Content[i], root.Content[i+1]
		}
	}
	if m.index < 0 && merge != nil && len(f.now.doc.Machines()) > 0 {
		return m, f.at(merge, "the machines come from a section that is merged here", "make this edit in an editor, where that section is")
	}
	if m.value != nil && m.value.Kind == yaml.AliasNode {
		return m, f.at(m.value, fmt.Sprintf("the machines are those of another section, to which *%s refers", m.value.Value), "make this edit in an editor, where that section is")
	}
	if m.value != nil && m.value.Kind != yaml.MappingNode && !(m.value.Kind == yaml.ScalarNode && (m.value.Tag == nullTag || strings.TrimSpace(m.value.Value) == "")) {
		return m, f.at(m.value, "this is not a section with a name for each machine", "write each machine as its name and a colon, with its keys indented below")
	}
	if alias := aliasOf(root, nil, func(n *yaml.Node) bool { return n == root || n == m.value }); alias != nil {
		return m, f.at(alias, fmt.Sprintf("*%s refers to all machines of the file, so that one more or less would change what is here as well", alias.Value), "make this edit in an editor")
	}
	if root.Style&yaml.FlowStyle == 0 {
		m.root = &block{text: f.now.text, node: root, from: f.now.lines[0]}
		return m, nil
	}
	var err error
	m.rootFlow, err = newFlow(f.now.text, root)
	return m, err
}

// machineBlock is the machines as lines.
func (m *machineSection) machineBlock() *block {
	above := m.root.offset(m.key)
	if m.value.Anchor != "" || m.value.Style&yaml.TaggedStyle != 0 { // else the value begins with its first key
		above = m.root.properties(m.value)
	}
	return &block{text: m.root.text, node: m.value, from: m.root.lineEnd(above)}
}

// empty tells whether there is no machine in the section.
func (m *machineSection) empty() bool { return m.value == nil || len(m.value.Content) == 0 }

// flow tells whether the machines are in braces.
func (m *machineSection) flow() bool {
	return m.rootFlow != nil || m.value != nil && m.value.Kind == yaml.MappingNode && m.value.Style&yaml.FlowStyle != 0
}

// names are those of the section's own machines, in order.
func (m *machineSection) names() []string {
	var names []string
	for i := 0; m.value != nil && i+1 < len(m.value.Content); i += 2 {
		if key := deref(m.value.Content[i]); key.Kind == yaml.ScalarNode && key.Tag != "!!merge" {
			names = append(names, key.Value)
		}
	}
	return names
}

// find is the number of a machine among the keys of the section, -1 for none.
func (f *File) find(m *machineSection, name string) (int, error) {
	found := -1
	for i := 0; m.value != nil && i+1 < len(m.value.Content); i += 2 {
		key := deref(m.value.Content[i])
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || key.Value != name {
			continue
		}
		if found >= 0 {
			return 0, f.at(m.value.Content[i], fmt.Sprintf("the machine %q is already on line %d", name, m.value.Content[2*found].Line),
				"which of the two is meant a program cannot know: remove one in an editor")
		}
		found = i / 2
	}
	return found, nil
}

// deref is the node that an alias stands for.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
