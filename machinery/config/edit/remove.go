package edit

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// RemoveMachine takes a machine out of the file, with the comments that belong to it: those on its lines, those on lines of
// their own directly above its name that are indented no deeper than it, and those below it that are indented deeper. Comments
// that an empty line sets apart stay. The empty lines above it go, or those below if it is the first.
//
// The last machine can go, too. What stays is the key of the section with nothing behind it, or "{}" if it was in braces, which
// AddMachine takes; but if the section may be absent and may not be empty, the key goes as well.
//
// A name that no machine has is an error that wraps ErrNotThere. A machine whose values others use ("*name") stays, with
// an error that says who they are. After an error nothing is changed.
func (f *File) RemoveMachine(name string) error {
	m, err := f.locate()
	if err != nil {
		return f.refuse(err)
	}
	i, err := f.find(&m, name)
	if err != nil {
		return err
	}
	if i < 0 {
		return f.notThere(&m, name)
	}
	key, machine := m.value.Content[2*i], m.value.Content[2*i+1]
	own := below(below(map[*yaml.Node]bool{}, key), machine)
	if alias := aliasOf(f.now.root, machine, func(n *yaml.Node) bool { return own[n] }); alias != nil {
		return f.at(alias, fmt.Sprintf("the machine %q cannot be removed: *%s refers here to what it has", name, alias.Value),
			"write these values out where they are used, and remove the machine then")
	}
	var next *state
	for _, close := range []bool{false, true} {
		var splices []splice
		var want *yaml.Node
		if splices, want, err = f.removal(&m, i, close); err != nil {
			return f.refuse(err)
		}
		if next, err = f.verified(splices, want); err == nil {
			f.now = next
			return nil
		}
	}
	return err
}

// removal is the edit that removes the i-th machine, and the tree that it leaves.
func (f *File) removal(m *machineSection, i int, close bool) (splices []splice, want *yaml.Node, err error) {
	want = shallow(f.now.root)
	machines := shallow(m.value)
	machines.Content = slices.Delete(machines.Content, 2*i, 2*i+2)
	want.Content[2*m.index+1] = machines
	switch whole := len(machines.Content) == 0 && f.field.Optional && !f.field.AllowEmpty && len(want.Content) > 2; {
	case whole:
		want.Content = slices.Delete(want.Content, 2*m.index, 2*m.index+2)
		splices, err = m.keyRemoval(close)
	case m.flow():
		var machines *flow
		if machines, err = newFlow(f.now.text, m.value); err == nil {
			splices, err = machines.removal(i)
		}
	default:
		var s splice
		s, err = m.machineBlock().removal(i, close)
		splices = []splice{s}
		switch tagged := m.value.Style&yaml.TaggedStyle != 0; {
		case len(machines.Content) == 0 && tagged: // nothing at all would not be a mapping, as the tag says
			at := m.root.properties(m.value)
			splices = []splice{{at, at, " {}"}, s}
			machines.Style |= yaml.FlowStyle
		case len(machines.Content) == 0:
			want.Content[2*m.index+1] = &yaml.Node{Kind: yaml.ScalarNode, Tag: nullTag, Anchor: m.value.Anchor}
		}
	}
	return splices, want, err
}

// keyRemoval takes out the whole section.
func (m *machineSection) keyRemoval(close bool) ([]splice, error) {
	if m.rootFlow != nil {
		return m.rootFlow.removal(m.index)
	}
	s, err := m.root.removal(m.index, close)
	return []splice{s}, err
}

// notThere is the error of a name that no machine has.
func (f *File) notThere(m *machineSection, name string) error {
	if f.now.doc != nil && slices.ContainsFunc(f.now.doc.Machines(), func(e config.Entry) bool { return e.Name == name }) {
		return f.at(m.key, fmt.Sprintf("the machine %q is in a section that is merged here", name), "remove it in an editor, where that section is")
	}
	hint := "there are no machines in the file"
	if names := m.names(); len(names) == 1 {
		hint = "the only machine in the file is " + names[0]
	} else if len(names) > 1 {
		hint = "the machines in the file are " + list(names)
	}
	return &known{f.at(m.key, fmt.Sprintf("there is no machine %q", name), hint), ErrNotThere}
}
