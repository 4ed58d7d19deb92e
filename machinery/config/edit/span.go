package edit

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// styles of a scalar, without the one that says that it has a tag.
const styles = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// end is the offset after the last byte of a node. The parser tells only where a node begins, so its text is read again,
// and held against the value that the parser has read: an error means that the two do not agree, which leaves no
// safe edit.
func (t *text) end(n *yaml.Node) (int, error) {
	at := t.properties(n)
	style := n.Style & styles
	if n.Kind == yaml.ScalarNode && style == 0 && n.Value == "" {
		return at, nil // nothing is written, but for an anchor or tag
	}
	at = t.skipSpace(at)
	if at >= len(t.data) {
		return 0, t.strange(n)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return t.literally(n, at, "*"+n.Value)
	case yaml.MappingNode, yaml.SequenceNode:
		return t.collectionEnd(n, at)
	case yaml.ScalarNode:
	default:
		return 0, t.strange(n)
	}
	switch {
	case style == 0:
		return t.matched(n, at)
	case style&yaml.DoubleQuotedStyle != 0:
		return t.quoted(n, at, '"')
	case style&yaml.SingleQuotedStyle != 0:
		return t.quoted(n, at, '\'')
	}
	return t.blockScalarEnd(n, at)
}

// strange is the error of a node whose text is not what the parser has read.
func (t *text) strange(n *yaml.Node) error {
	return &placed{n, "this cannot be edited by a program: it is not clear where it ends", ""}
}

// properties is the offset after the anchor and the tag of a node.
func (t *text) properties(n *yaml.Node) int {
	end := t.offset(n)
	for {
		at := t.skipSpace(end)
		switch {
		case at < len(t.data) && t.data[at] == '&' && n.Anchor != "":
			end = at + 1 + len(n.Anchor)
		case at < len(t.data) && t.data[at] == '!' && n.Style&yaml.TaggedStyle != 0:
			for end = at; end < len(t.data) && !strings.ContainsRune(" \t\r\n,[]{}", rune(t.data[end])); {
				end++
			}
		default:
			return min(end, len(t.data))
		}
		if end >= len(t.data) {
			return len(t.data)
		}
	}
}

// literally is the offset after a text that must stand at at.
func (t *text) literally(n *yaml.Node, at int, s string) (int, error) {
	if !strings.HasPrefix(string(t.data[at:min(len(t.data), at+len(s))]), s) {
		return 0, t.strange(n)
	}
	return at + len(s), nil
}

// collectionEnd is the end of a mapping or sequence whose first content is at at.
func (t *text) collectionEnd(n *yaml.Node, at int) (int, error) {
	closing := map[yaml.Kind]byte{yaml.MappingNode: '}', yaml.SequenceNode: ']'}[n.Kind]
	opened := n.Style&yaml.FlowStyle != 0 && t.data[at] == closing-2 // "[a: b]" holds a mapping without braces
	end := at + 1
	if len(n.Content) > 0 {
		var err error
		if end, err = t.end(n.Content[len(n.Content)-1]); err != nil {
			return 0, err
		}
	} else if !opened {
		return 0, t.strange(n)
	}
	if !opened {
		return end, nil
	}
	for {
		end = t.skipSpace(end)
		switch {
		case end < len(t.data) && t.data[end] == closing:
			return end + 1, nil
		case end < len(t.data) && (t.data[end] == ',' || t.data[end] == ':'):
			end++
		default:
			return 0, t.strange(n)
		}
	}
}

// matched is the end of a text without quotes: what is no white space in it stands in the file as it is in the value, and
// there is nothing else in between.
func (t *text) matched(n *yaml.Node, at int) (int, error) {
	end := at
	for _, want := range n.Value {
		if unicode.IsSpace(want) && want < utf8.RuneSelf {
			continue
		}
		for at < len(t.data) && strings.ContainsRune(" \t\r\n", rune(t.data[at])) {
			at++
		}
		have, size := utf8.DecodeRune(t.data[at:])
		if size == 0 || have != want {
			return 0, t.strange(n)
		}
		at += size
		end = at
	}
	return end, nil
}

// quoted is the offset after the quote that ends a text in quotes.
func (t *text) quoted(n *yaml.Node, at int, quote byte) (int, error) {
	if t.data[at] != quote {
		return 0, t.strange(n)
	}
	for i := at + 1; i < len(t.data); i++ {
		switch {
		case quote == '"' && t.data[i] == '\\':
			i++
		case quote == '\'' && t.data[i] == quote && i+1 < len(t.data) && t.data[i+1] == quote:
			i++
		case t.data[i] == quote:
			return i + 1, nil
		}
	}
	return 0, t.strange(n)
}

// blockScalarEnd is the end of the last line of a text after "|" or ">", without its line break. Empty lines at the end
// belong to the text if they are part of its value.
func (t *text) blockScalarEnd(n *yaml.Node, at int) (int, error) {
	if c := t.data[at]; c != '|' && c != '>' {
		return 0, t.strange(n)
	}
	end := t.lineBreak(at)
	content := strings.TrimRight(n.Value, " \t\n\r")
	further := strings.Count(n.Value[len(content):], "\n")
	if content != "" {
		var err error
		if end, err = t.matched(&yaml.Node{Value: content, Line: n.Line, Column: n.Column}, end); err != nil {
			return 0, t.strange(n)
		}
		end = t.lineBreak(end)
		further--
	}
	for ; further > 0; further-- {
		next := t.lineEnd(end)
		if kind, _ := t.kindOf(next); kind != blankLine {
			return 0, t.strange(n)
		}
		end = t.lineBreak(next)
	}
	return end, nil
}

// placed is a problem at a node, with what to do. It gets its file from the File.
type placed struct {
	node          *yaml.Node
	problem, hint string
}

func (p *placed) Error() string { return fmt.Sprintf("line %d: %s", p.node.Line, p.problem) }
