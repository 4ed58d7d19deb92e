package edit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

var (
	// ErrExists is what AddMachine's error wraps if there is a machine of that name.
	ErrExists = errors.New("there is a machine of that name already")
	// ErrNotThere is what RemoveMachine's error wraps if there is no machine of that name.
	ErrNotThere = errors.New("there is no machine of that name")
)

// section is where the machines of a file are.
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
	if m.value != nil && m.value.Kind != yaml.MappingNode && m.value.Tag != nullTag {
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

// AddMachine puts a machine after the last one, in the same layout, with the settings in the order of the schema. It is held
// against the schema, but not against this host: whether its files are there is for who wants to know to find out by loading
// Bytes. What is wrong with the machine comes in one go as config.Problems, without a place, since it is not in the file.
// A name that is taken is an error that wraps ErrExists. After an error nothing is changed.
func (f *File) AddMachine(name string, settings []Setting) error {
	if err := f.checkName(name); err != nil {
		return err
	}
	machine, err := section(f.machines.Fields, settings, f.field.Key+"."+name)
	if err != nil {
		return err
	}
	m, err := f.locate()
	if err != nil {
		return f.refuse(err)
	}
	if i, err := f.find(&m, name); err != nil {
		return err
	} else if i >= 0 {
		return &known{f.at(m.value.Content[2*i], fmt.Sprintf("the machine %q is here already", name), "give the new machine another name, or remove this one first"), ErrExists}
	}
	if f.now.doc != nil && slices.ContainsFunc(f.now.doc.Machines(), func(e config.Entry) bool { return e.Name == name }) {
		return &known{f.at(m.key, fmt.Sprintf("the machine %q is there already, in a section that is merged here", name), "give the new machine another name"), ErrExists}
	}
	key := textNode(name)
	want, made := f.wantAdded(&m, key, machine)
	for _, gap := range []bool{true, false} {
		var splices []splice
		if splices, err = f.addition(&m, key, machine, gap); err != nil {
			return f.refuse(err)
		}
		var next *state
		if next, err = f.verified(splices, want, made...); err == nil {
			if err = f.sound(next, name); err == nil {
				f.now = next
			}
			return err
		}
	}
	return err
}

// addition is the edit that adds a machine. With gap it is set apart like the machines that are there.
func (f *File) addition(m *machineSection, key, machine *yaml.Node, gap bool) ([]splice, error) {
	l := layoutOf(f.now.root, m.value)
	pair := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, machine}}
	inline := l.text(key.Value) + ": " + l.inline(machine)
	whole := l.text(f.field.Key) + ": {" + inline + "}"
	switch {
	case m.rootFlow != nil && m.index < 0:
		return m.rootFlow.insertion(whole, "")
	case m.flow() && m.value.Kind == yaml.ScalarNode:
		at := m.rootFlow.offset(m.value)
		end, err := m.rootFlow.text.end(m.value)
		if err != nil {
			return nil, err
		}
		text := "{" + inline + "}"
		if at > 0 && m.rootFlow.data[at-1] == ':' {
			text = " " + text
		}
		return []splice{{at, end, text}}, nil
	case m.flow():
		machines, err := newFlow(f.now.text, m.value)
		if err != nil {
			return nil, err
		}
		first := ""
		if m.root != nil {
			first = f.now.eol(f.now.lineEnd(machines.open)) + spaces(m.key.Column-1+l.step)
		}
		return machines.insertion(inline, first)
	case m.root == nil: // nothing but comments
		return []splice{f.now.linesAt(f.now.documentEnd(), append([]string{l.text(f.field.Key) + ":"}, l.machineLines(pair, l.step)...), 0)}, nil
	}
	blanks := 0
	var err error
	switch {
	case m.index < 0:
		if gap {
			blanks, err = m.root.gap()
		}
		if err != nil {
			return nil, err
		}
		indent := m.root.indent()
		s, err := m.root.insertion(append([]string{spaces(indent) + l.text(f.field.Key) + ":"}, l.machineLines(pair, indent+l.step)...), blanks)
		return []splice{s}, err
	case m.empty():
		return f.firstMachine(m, l, pair, gap)
	}
	machines := m.machineBlock()
	if gap {
		if blanks, err = machines.gap(); err != nil {
			return nil, err
		}
	}
	s, err := machines.insertion(l.machineLines(pair, machines.indent()), blanks)
	return []splice{s}, err
}

// firstMachine is the edit that adds a machine to a section without any.
func (f *File) firstMachine(m *machineSection, l layout, pair *yaml.Node, gap bool) ([]splice, error) {
	tail, err := m.root.tail(m.index)
	if err != nil {
		return nil, err
	}
	end, err := m.root.end(m.value)
	if err != nil {
		return nil, err
	}
	indent, blanks := m.key.Column-1+l.step, 0
	if below := m.root.lineEnd(max(end, m.root.offset(m.key))); tail > below {
		// Comments stand where the machines would: such as an example, which shows how deep they are to be.
		for at := below; at < tail; at = m.root.lineEnd(at) {
			if kind, deep := m.root.kindOf(at); kind == commentLine {
				indent = deep
				break
			}
		}
		if gap {
			blanks = 1
		}
	}
	lines := m.root.linesAt(tail, l.machineLines(pair, indent), blanks)
	if m.value.Value == "" {
		return []splice{lines}, nil
	}
	// "null" or "~" has to go.
	at := m.root.offset(m.value)
	for at > 0 && m.root.data[at-1] == ' ' {
		at--
	}
	return []splice{{at, end, ""}, lines}, nil
}

// machineLines are a machine's name and settings.
func (l layout) machineLines(pair *yaml.Node, indent int) []string {
	if l.flowMachines {
		return []string{spaces(indent) + l.text(pair.Content[0].Value) + ": " + l.inline(pair.Content[1])}
	}
	return l.blockLines(pair, indent)
}

// wantAdded is the tree with one machine more, and what is made of it for that.
func (f *File) wantAdded(m *machineSection, key, machine *yaml.Node) (want *yaml.Node, made []*yaml.Node) {
	machines := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, machine}}
	section := textNode(f.field.Key)
	if f.now.root == nil {
		root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{section, machines}}
		return root, []*yaml.Node{root}
	}
	root := shallow(f.now.root)
	if m.index < 0 {
		root.Content = append(root.Content, section, machines)
		return root, []*yaml.Node{section, machines}
	}
	if m.value.Kind == yaml.MappingNode {
		machines = shallow(m.value)
		machines.Content = append(machines.Content, key, machine)
	} else {
		machines.Tag, machines.Anchor = "!!map", m.value.Anchor
		machines.Style = root.Style & yaml.FlowStyle
	}
	root.Content[2*m.index+1] = machines
	return root, []*yaml.Node{key, machine}
}

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
	if alias := aliasOf(f.now.root, machine, func(n *yaml.Node) bool { return within(machine, n) || within(key, n) }); alias != nil {
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

// verified is the file after an edit, if it is exactly what was wanted. made are the nodes that are new in want.
func (f *File) verified(splices []splice, want *yaml.Node, made ...*yaml.Node) (*state, error) {
	next, err := f.parse(f.now.spliced(splices...))
	if err != nil {
		return nil, f.unsafe(splices, "the file would not be YAML any more: "+firstLine(err))
	}
	if !newComparison(made...).same(want, next.root) {
		return nil, f.unsafe(splices, "more would change in the file than was meant")
	}
	return next, nil
}

// unsafe is the error of an edit that did not come out as it was meant.
func (f *File) unsafe(splices []splice, why string) error {
	problems := f.at(nil, "this edit cannot be made safely: "+why, byHand)
	problems[0].Line = f.now.line(splices[0].from) + 1
	return problems
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// sound is what is wrong with the machine that was added, and with others because of it.
func (f *File) sound(next *state, name string) error {
	before := map[string]bool{}
	if f.now.doc != nil {
		for _, d := range f.now.doc.Problems().Errors() {
			before[d.Path] = true
		}
	}
	var found config.Problems
	for _, d := range next.doc.Problems().Errors() {
		if !before[d.Path] && strings.HasPrefix(d.Path, f.field.Key+".") {
			// Its place is one in a file that nobody has seen.
			d.Line, d.Column, d.Text = 0, 0, ""
			found = append(found, d)
		}
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

func (f *File) checkName(name string) error {
	const longest = 500 // a key has at most 1024 characters in YAML, with quotes and codes
	switch path := f.field.Key; {
	case strings.TrimSpace(name) == "":
		return fmt.Errorf("%s: a machine needs a name, which is not empty", path)
	case len(name) > longest:
		return fmt.Errorf("%s: the machine name is %d bytes long, and at most %d are possible", path, len(name), longest)
	case wellFormed(name, path) != nil:
		return wellFormed(name, path)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("%s: the machine name %q holds a character that cannot be printed; use letters, digits, dots, dashes and underscores", path, name)
	}
	return nil
}

// known is a placed error that callers can ask for.
type known struct {
	config.Problems
	err error
}

// Unwrap is what errors.Is finds.
func (k *known) Unwrap() error { return k.err }

// deref is the node that an alias stands for.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}
