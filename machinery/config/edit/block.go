package edit

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v4"
)

// block is a mapping with each of its keys on a line of its own.
type block struct {
	*text
	node *yaml.Node
	// from is where its lines can begin: after the line of the key above it, or at the beginning of the file.
	from int
}

// lines are what belongs to one key of a block: from head, where comments directly above the key begin, or else the key's
// own line, to tail, which is after the last line of its value and of deeper indented comments that follow it.
type lines struct{ head, tail int }

// key is the i-th key, and value its value.
func (b *block) key(i int) *yaml.Node   { return b.node.Content[2*i] }
func (b *block) value(i int) *yaml.Node { return b.node.Content[2*i+1] }
func (b *block) len() int               { return len(b.node.Content) / 2 }

// indent is how many spaces stand before each key.
func (b *block) indent() int { return b.key(0).Column - 1 }

// tail is after the last line that belongs to the i-th key.
func (b *block) tail(i int) (int, error) {
	key := b.key(i)
	if at := b.offset(key); strings.Trim(string(b.before(at)), " ") != "" {
		return 0, &placed{key, "this key does not begin its line, so a program cannot edit it", ""}
	}
	end, err := b.end(key)
	if err != nil {
		return 0, err
	}
	for end < len(b.data) && (b.data[end] == ' ' || b.data[end] == '\t') {
		end++
	}
	if end == len(b.data) || b.data[end] != ':' {
		return 0, &placed{key, "the colon of this key is not behind it, so a program cannot edit it", ""}
	}
	valueEnd, err := b.end(b.value(i))
	if err != nil {
		return 0, err
	}
	end = max(end+1, valueEnd)
	if !blankOrComment(b.rest(end)) {
		return 0, b.strange(b.value(i))
	}
	tail := b.lineEnd(end)
	for at := tail; at < len(b.data); at = b.lineEnd(at) {
		kind, indent := b.kindOf(at)
		if kind == otherLine || kind == commentLine && indent <= b.indent() {
			break
		}
		if kind == commentLine {
			tail = b.lineEnd(at)
		}
	}
	return tail, nil
}

// lines are those of the i-th key, and above, where the lines before them end that belong to another key or to none.
func (b *block) lines(i int) (l lines, above int, err error) {
	above = b.from
	if i > 0 {
		if above, err = b.tail(i - 1); err != nil {
			return l, 0, err
		}
	}
	if l.tail, err = b.tail(i); err != nil {
		return l, 0, err
	}
	l.head = b.lineStart(b.offset(b.key(i)))
	for l.head > above {
		start := b.lineStart(l.head - 1)
		if kind, indent := b.kindOf(start); kind != commentLine || indent > b.indent() {
			break
		}
		l.head = start
	}
	return l, above, nil
}

// blanksAbove is where the empty lines directly above an offset begin, not before above.
func (t *text) blanksAbove(at, above int) int {
	for at > above {
		start := t.lineStart(at - 1)
		if kind, _ := t.kindOf(start); kind != blankLine {
			break
		}
		at = start
	}
	return at
}

// blanksBelow is where the empty lines at an offset end.
func (t *text) blanksBelow(at int) int {
	for at < len(t.data) {
		if kind, _ := t.kindOf(at); kind != blankLine {
			break
		}
		at = t.lineEnd(at)
	}
	return at
}

// gap is how many empty lines stand between the last two keys.
func (b *block) gap() (int, error) {
	n := b.len()
	if n < 2 {
		return 0, nil
	}
	l, above, err := b.lines(n - 1)
	if err != nil {
		return 0, err
	}
	const most = 2 // more are no style, but something that is gone from there
	return min(most, b.line(l.head)-b.line(b.blanksAbove(l.head, above))), nil
}

// removal takes the i-th key out, with all that belongs to it, and with the empty lines that set it apart: above it, or
// below if it is the first. With close those below go in any case: they would become part of a text above that keeps
// the empty lines at its end.
func (b *block) removal(i int, close bool) (splice, error) {
	l, above, err := b.lines(i)
	if err != nil {
		return splice{}, err
	}
	s := splice{from: l.head, to: l.tail}
	blanks, last := b.blanksAbove(l.head, above), i == b.len()-1
	switch {
	case i > 0 && (last || b.blanksBelow(l.tail) > l.tail):
		s.from = blanks
	case i == 0 && !last:
		s.to = b.blanksBelow(l.tail)
	case i == 0 && blanks > above: // a comment above is set apart by them
		s.from = blanks
	}
	if close {
		s.to = b.blanksBelow(s.to)
	}
	if s.to == len(b.data) && lineBreakOf(b.data) == "" {
		s.from -= len(lineBreakOf(b.data[:s.from])) // the file goes on without a line break at its end
	}
	return s, nil
}

// insertion puts lines after all that belongs to the last key.
func (b *block) insertion(add []string, blanks int) (splice, error) {
	at, err := b.tail(b.len() - 1)
	if err != nil {
		return splice{}, err
	}
	if at == len(b.data) && lineBreakOf(b.data) == "" {
		if last := lastLeaf(b.node); last.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 && !b.strips(last) {
			return splice{}, &placed{last, "the file ends with this text and has no line break there, so that nothing can be written below it without changing it",
				"add a line break at the end of the file"}
		}
	}
	return b.linesAt(at, add, blanks), nil
}

// lastLeaf is the last value of a tree.
func lastLeaf(n *yaml.Node) *yaml.Node {
	for len(n.Content) > 0 {
		n = n.Content[len(n.Content)-1]
	}
	return n
}

// strips tells whether a text after "|" or ">" leaves out the line break at its end ("|-").
func (t *text) strips(n *yaml.Node) bool {
	header, _, _ := bytes.Cut(t.rest(t.skipSpace(t.properties(n))), []byte("#"))
	return bytes.IndexByte(header, '-') >= 0
}

// linesAt puts lines, and empty ones above them, where a line begins or the file ends.
func (t *text) linesAt(at int, add []string, blanks int) splice {
	eol := t.eol(at)
	text := strings.Repeat(eol, blanks) + strings.Join(add, eol)
	if at == len(t.data) && at > t.lines[0] && lineBreakOf(t.data) == "" {
		return splice{at, at, eol + text}
	}
	return splice{at, at, text + eol}
}

// documentEnd is where lines can be put into a file without any key: before the mark that ends its document, or at its end.
func (t *text) documentEnd() int {
	for i := len(t.lines) - 1; i >= 0; i-- {
		if bytes.HasPrefix(t.data[t.lines[i]:], []byte("...")) {
			return t.lines[i]
		}
	}
	return len(t.data)
}
