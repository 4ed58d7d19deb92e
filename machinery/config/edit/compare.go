package edit

import (
	"go.yaml.in/yaml/v4"
)

// comparison holds the tree of an edited file against the one that was meant.
type comparison struct {
	// became is the node of the edited file that each node of the file before has become.
	became map[*yaml.Node]*yaml.Node
	// made are nodes that were made for the edit: how they are written is free, and only what they mean counts.
	made map[*yaml.Node]bool
}

func newComparison(made ...*yaml.Node) *comparison {
	c := &comparison{became: map[*yaml.Node]*yaml.Node{}, made: map[*yaml.Node]bool{}}
	for _, n := range made {
		below(c.made, n)
	}
	return c
}

// same tells whether have is what was meant.
func (c *comparison) same(want, have *yaml.Node) bool {
	if want == nil || have == nil {
		return want == have
	}
	c.became[want] = have
	if want.Kind != have.Kind || len(want.Content) != len(have.Content) {
		return false
	}
	isNull := have.Kind == yaml.ScalarNode && have.Tag == nullTag
	switch made := c.made[want]; {
	case made && (have.Tag == "!!merge" || have.Anchor != "" || isNull != (want.Tag == nullTag)):
		return false
	case made && !isNull && want.Value != have.Value:
		return false
	case !made && (want.Value != have.Value || want.Tag != have.Tag || want.Style != have.Style || want.Anchor != have.Anchor):
		return false
	}
	if want.Kind == yaml.AliasNode {
		return c.became[want.Alias] == have.Alias
	}
	for i := range want.Content {
		if !c.same(want.Content[i], have.Content[i]) {
			return false
		}
	}
	return true
}

// shallow is a mapping with a list of content of its own, which may be changed.
func shallow(n *yaml.Node) *yaml.Node {
	m := *n
	m.Content = append([]*yaml.Node(nil), n.Content...)
	return &m
}

// aliasOf is the first alias below root, outside of without, that refers to a node that refers holds for.
func aliasOf(root, without *yaml.Node, refers func(*yaml.Node) bool) *yaml.Node {
	switch {
	case root == nil || root == without:
		return nil
	case root.Kind == yaml.AliasNode && refers(root.Alias):
		return root
	}
	for _, child := range root.Content {
		if found := aliasOf(child, without, refers); found != nil {
			return found
		}
	}
	return nil
}

// below are the nodes of a tree, in a set.
func below(set map[*yaml.Node]bool, n *yaml.Node) map[*yaml.Node]bool {
	set[n] = true
	for _, child := range n.Content {
		below(set, child)
	}
	return set
}
