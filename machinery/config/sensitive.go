package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// sensitiveKeys are the keys of all sensitive fields, at whatever depth.
func sensitiveKeys(fields []Field) []string {
	var keys []string
	for _, f := range fields {
		if f.Sensitive {
			keys = append(keys, f.Key)
		}
		keys = append(keys, sensitiveKeys(fieldsOf(f.Type))...)
	}
	return keys
}

// fieldsOf are the fields that a type has below it.
func fieldsOf(t Type) []Field {
	switch t := t.(type) {
	case Section:
		return t.Fields
	case Machines:
		return t.Fields
	case DictList:
		return t.Fields
	}
	return nil
}

// hideNodes hides the lines of all values whose key is sensitive, or looks like a misspelt sensitive one, wherever in the
// file it is: a password under the wrong section is still a password.
func (s *source) hideNodes(root *yaml.Node, keys []string) {
	s.sensitive = keys
	if len(keys) == 0 || root == nil {
		return
	}
	if root.Kind != mappingKind {
		s.hideText(keys)
	}
	var order []*yaml.Node
	walk(root, func(n *yaml.Node) { order = append(order, n) })
	follows := make(map[*yaml.Node]int, len(order)) // position in order of what comes after a node's last descendant
	size := map[*yaml.Node]int{}
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		size[n] = 1
		for _, c := range n.Content {
			size[n] += size[c]
		}
		follows[n] = i + size[n]
	}
	hide := func(key, val *yaml.Node) {
		last := val.Line
		if next := follows[val]; next < len(order) {
			// The next node's own line is hidden too if the value may end on it.
			last = max(last, order[next].Line-1)
			if val.Kind == scalarKind && order[next].Line > val.Line && val.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
				last = order[next].Line
			}
		} else {
			last = len(s.lines)
		}
		for line := key.Line; line <= last; line++ {
			s.hidden[line] = true
		}
	}
	for _, n := range order {
		if n.Kind != mappingKind {
			continue
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			if key.Kind != scalarKind || !slices.Contains(keys, key.Value) && nearest(gluedName(key.Value), keys) == "" {
				continue
			}
			hide(key, val)
			s.secret[deref(val)] = true
			if val.Kind == yaml.AliasNode {
				hide(deref(val), deref(val))
			}
		}
	}
}

// hideText hides lines of a file that is not YAML: those that name a sensitive key, and those below that are indented deeper.
func (s *source) hideText(keys []string) {
	if len(keys) == 0 {
		return
	}
	hiding, depth := false, 0
	for i, line := range s.lines {
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		name, _, isKey := strings.Cut(strings.Trim(strings.TrimSpace(line), "-?{[ "), ":")
		name = strings.Trim(name, `"' `)
		if hiding && isKey && indent <= depth && keyLine.MatchString(line) {
			hiding = false
		}
		mentions := slices.ContainsFunc(keys, func(k string) bool { return strings.Contains(strings.ToLower(line), strings.ToLower(k)) })
		if mentions || isKey && nearest(name, keys) != "" {
			if !hiding {
				hiding, depth = true, indent
			}
		}
		if hiding {
			s.hidden[i+1] = true
		}
	}
}

// gluedName is the name in a key such as "token:abc", which is what YAML makes of a line without a space after the colon.
func gluedName(key string) string {
	name, _, _ := strings.Cut(key, ":")
	return name
}

// hide hides the lines of a URI with a password, up to the "@" behind that: escapes and line breaks may keep it from having the form by
// which lines with passwords are found.
func (s *source) hide(n *yaml.Node) {
	for line := n.Line; line <= len(s.lines); line++ {
		s.hidden[line] = true
		if strings.Contains(s.lines[line-1], "@") {
			return
		}
	}
}

// hides tells whether a node's text is the value of a sensitive key, or may hold one.
func (s *source) hides(n *yaml.Node) bool {
	return s.secret[n] || n.Kind == scalarKind && slices.ContainsFunc(s.sensitive, func(k string) bool { return strings.Contains(n.Value, k) })
}

// walk calls f for every node of the tree, in the order of the text. Aliases are not followed, so it ends.
func walk(n *yaml.Node, f func(*yaml.Node)) {
	f(n)
	for _, c := range n.Content {
		walk(c, f)
	}
}
