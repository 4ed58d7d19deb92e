package edit

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v4"
)

// flow is a mapping in braces.
type flow struct {
	*text
	node *yaml.Node
	// open and close are where its braces are.
	open, close int
}

func newFlow(t *text, n *yaml.Node) (*flow, error) {
	end, err := t.end(n)
	if err != nil {
		return nil, err
	}
	f := &flow{text: t, node: n, open: t.skipSpace(t.properties(n)), close: end - 1}
	if t.data[f.open] != '{' {
		return nil, t.strange(n)
	}
	return f, nil
}

func (f *flow) len() int { return len(f.node.Content) / 2 }

// start is where the i-th key begins.
func (f *flow) start(i int) int { return f.offset(f.node.Content[2*i]) }

// end is after the value of the i-th key. That of -1 is after the brace that opens.
func (f *flow) end(i int) (int, error) {
	if i < 0 {
		return f.open + 1, nil
	}
	if f.skipSpace(f.gapBefore(i)) != f.start(i) {
		return 0, &placed{f.node.Content[2*i], "a program cannot edit this key: something stands before it that is neither a brace nor a comma", ""}
	}
	key, err := f.text.end(f.node.Content[2*i])
	if err != nil {
		return 0, err
	}
	end, err := f.text.end(f.node.Content[2*i+1])
	return max(end, key), err
}

// gapBefore is an offset before the i-th key from where only white space, comments and a comma lead to it.
func (f *flow) gapBefore(i int) int {
	at := f.open + 1
	if i > 0 {
		if end, err := f.text.end(f.node.Content[2*i-1]); err == nil {
			at = f.skipSpace(end)
			if at < len(f.data) && f.data[at] == ',' {
				at++
			}
		}
	}
	return at
}

// comma is the offset after the comma that follows at, or at itself if none does.
func (f *flow) comma(at int) int {
	if next := f.skipSpace(at); next < f.close && f.data[next] == ',' {
		return next + 1
	}
	return at
}

// ownLine tells whether a key is the first on its line.
func (f *flow) ownLine(at int) bool { return len(bytes.TrimLeft(f.before(at), " \t")) == 0 }

func hasComment(b []byte) bool { return bytes.IndexByte(b, '#') >= 0 }

// insertion puts a key with its value after the last one. Where there is none yet, first is what goes before it.
func (f *flow) insertion(pair, first string) ([]splice, error) {
	n := f.len()
	end, err := f.end(n - 1)
	if err != nil {
		return nil, err
	}
	if n == 0 && hasComment(f.data[end:f.close]) {
		// On a line of its own below the brace the key takes no comment with it, and leaves none behind when it is removed again.
		at := f.lineBreak(end)
		if first == "" {
			first = f.eol(at) + string(f.indentOf(f.open)) + "  "
		}
		return []splice{{at, at, first + pair}}, nil
	}
	if n == 0 {
		return []splice{{end, end, first + pair}}, nil
	}
	start := f.start(n - 1)
	prev, err := f.end(n - 2)
	if err != nil {
		return nil, err
	}
	comma := f.comma(end)
	tail := f.data[end:f.lineBreak(end)]
	if comma > end {
		tail = f.data[comma:max(comma, f.lineBreak(comma))]
	}
	if blankOrComment(tail) && hasComment(tail) {
		// The comment is about the key before: the new one goes on a line below it.
		line := f.eol(end) + string(f.indentOf(start)) + pair
		at := f.lineBreak(max(end, comma))
		if comma > end {
			return []splice{{at, at, line + ","}}, nil
		}
		return []splice{{end, end, ","}, {at, at, line}}, nil
	}
	between := string(f.data[prev:start])
	if _, after, found := strings.Cut(between, ","); found && n > 1 {
		between = after
	}
	switch {
	case strings.TrimSpace(between) != "":
		between = f.eol(end) + string(f.indentOf(start))
	case n == 1 && strings.ContainsAny(between, "\r\n"):
		between = lineBreakBefore(between) + string(f.indentOf(start))
	case n == 1:
		between = " "
	}
	return []splice{{end, end, "," + between + pair}}, nil
}

// lineBreakBefore is the first line break of a text.
func lineBreakBefore(s string) string {
	at := strings.IndexAny(s, "\r\n")
	if strings.HasPrefix(s[at:], "\r\n") {
		return "\r\n"
	}
	return s[at : at+1]
}

// indentOf is the white space at the beginning of the line that an offset is on.
func (f *flow) indentOf(at int) []byte {
	line := f.rest(f.lineStart(at))
	return line[:len(line)-len(bytes.TrimLeft(line, " "))]
}

// removal takes the i-th key and its value out, with the comma that set it apart. Comments on its last line and on lines
// of their own directly above it go with it.
func (f *flow) removal(i int) ([]splice, error) {
	prev, err := f.end(i - 1)
	if err != nil {
		return nil, err
	}
	end, err := f.end(i)
	if err != nil {
		return nil, err
	}
	start, comma, last := f.start(i), f.comma(end), i == f.len()-1
	next := f.close
	if !last {
		next = f.start(i + 1)
	}
	if hasComment(f.data[end:comma]) {
		return nil, &placed{f.node.Content[2*i], "there is a comment between the end of this section and its comma, so a program cannot remove it", ""}
	}
	if !hasComment(f.data[prev:start]) && !hasComment(f.data[comma:next]) {
		switch {
		case !last:
			return []splice{{start, next, ""}}, nil
		case i > 0:
			return []splice{{prev, end, ""}}, nil
		}
		return []splice{{prev, comma, ""}}, nil
	}
	return f.linesRemoval(i, prev, start, end, comma)
}

// linesRemoval is removal where there are comments around: whole lines go, or nothing.
func (f *flow) linesRemoval(i, prev, start, end, comma int) ([]splice, error) {
	if !f.ownLine(start) || !blankOrComment(f.rest(comma)) {
		return nil, &placed{f.node.Content[2*i], "there are comments around this section, and it does not have its lines for itself, so a program cannot remove it", ""}
	}
	head := f.lineStart(start)
	for f.line(head) > f.line(prev)+1 {
		above := f.lineStart(head - 1)
		if kind, _ := f.kindOf(above); kind != commentLine {
			break
		}
		head = above
	}
	lines := splice{head, f.lineEnd(comma), ""}
	if i == f.len()-1 && i > 0 && comma == end {
		// The key before is the last one now. Its comma was there for this one.
		if before := f.comma(prev); before > prev {
			return []splice{{before - 1, before, ""}, lines}, nil
		}
	}
	return []splice{lines}, nil
}
