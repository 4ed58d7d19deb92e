package edit

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// AddMachine puts a machine after the last one, in the same layout, with the settings in the order of the schema. It is held
// against the schema, but not against this host: whether its files are there is for who wants to know to find out by loading
// Bytes. What is wrong with the machine comes in one go as config.Problems, without a place, since it is not in the file.
// A name that is taken is an error that wraps ErrExists. After an error nothing is changed.
func (f *File) AddMachine(name string, settings []Setting) error {
	var given maker
	given.name(name, f.field.Key)
	machine := given.section(f.machines.Fields, settings, joinPath(f.field.Key, name))
	if len(given.problems) > 0 {
		for i := range given.problems {
			given.problems[i].File = f.name
		}
		return given.problems
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
			if err = f.sound(next); err == nil {
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
	at := m.root.properties(m.value)
	if at == end {
		return []splice{lines}, nil
	}
	// "null" or "~" has to go.
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

// name reports a name that no machine can have.
func (m *maker) name(name, path string) {
	const longest = 500 // a key has at most 1024 characters in YAML, with quotes and codes
	m.text(name, path)
	switch {
	case strings.TrimSpace(name) == "":
		m.report(path, "give the machine a name", "a machine name is empty")
	case len(name) > longest:
		m.report(path, "give the machine a shorter name", "the machine name is %d bytes long, and at most %d are possible", len(name), longest)
	case utf8.ValidString(name) && strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		m.report(path, "use letters, digits, dots, dashes and underscores", "the machine name %q holds a character that cannot be printed", name)
	}
}
