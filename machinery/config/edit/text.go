package edit

import (
	"bytes"
	"sort"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// byteOrderMark is what Windows editors write at the beginning of a file.
const byteOrderMark = "\uFEFF"

// text is the bytes of a file and where its lines begin. Offsets count bytes from the beginning of the file, with the
// byte order mark, and are what edits are made at; a node has its line and, in characters, its column.
type text struct {
	data  []byte
	lines []int // the offset of each line; the last may be that of the end
}

func newText(data []byte) *text {
	t := &text{data: data, lines: []int{len(data) - len(bytes.TrimPrefix(data, []byte(byteOrderMark)))}}
	for i := t.lines[0]; i < len(data); i++ {
		if data[i] == '\n' || data[i] == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			t.lines = append(t.lines, i+1)
		}
	}
	return t
}

// offset is where a node begins: at its anchor or tag, if it has one.
func (t *text) offset(n *yaml.Node) int {
	if n.Line > len(t.lines) {
		return len(t.data)
	}
	at := t.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return at
}

// line is the number of the line that an offset is on, from 0.
func (t *text) line(at int) int {
	return sort.Search(len(t.lines), func(i int) bool { return t.lines[i] > at }) - 1
}

// lineStart is where the line begins that an offset is on.
func (t *text) lineStart(at int) int { return t.lines[t.line(at)] }

// lineEnd is where the next line begins, or the end of the file.
func (t *text) lineEnd(at int) int {
	if next := t.line(at) + 1; next < len(t.lines) {
		return t.lines[next]
	}
	return len(t.data)
}

// lineBreak is where the line break of the line begins that an offset is on, or the end of the file.
func (t *text) lineBreak(at int) int {
	end := t.lineEnd(at)
	return end - len(lineBreakOf(t.data[t.lineStart(at):end]))
}

// rest is what stands on the line from an offset on, without its line break.
func (t *text) rest(at int) []byte { return t.data[at:t.lineBreak(at)] }

// before is what stands on the line up to an offset.
func (t *text) before(at int) []byte { return t.data[t.lineStart(at):at] }

// lineBreakOf is the line break that a piece of text ends with.
func lineBreakOf(b []byte) string {
	for _, eol := range []string{"\r\n", "\n", "\r"} {
		if bytes.HasSuffix(b, []byte(eol)) {
			return eol
		}
	}
	return ""
}

// eol is the line break to write at an offset: that of the line before, or else the first of the file.
func (t *text) eol(at int) string {
	for line := t.line(at) - 1; line >= 0; line-- {
		if eol := lineBreakOf(t.data[:t.lines[line+1]]); eol != "" {
			return eol
		}
	}
	if len(t.lines) > 1 {
		return lineBreakOf(t.data[:t.lines[1]])
	}
	return "\n"
}

// kind of line, by its first character that is no white space.
type lineKind int

const (
	blankLine lineKind = iota
	commentLine
	otherLine
)

// kindOf looks at the line that begins at an offset. The indentation is in columns, where a tab goes on to the next
// multiple of eight, as most editors show it.
func (t *text) kindOf(start int) (kind lineKind, indent int) {
	for _, c := range t.rest(start) {
		switch c {
		case ' ':
			indent++
		case '\t':
			indent += 8 - indent%8
		case '#':
			return commentLine, indent
		default:
			return otherLine, indent
		}
	}
	return blankLine, indent
}

// blankOrComment tells whether nothing but white space, or a comment after it, stands in a piece of a line.
func blankOrComment(b []byte) bool {
	trimmed := bytes.TrimLeft(b, " \t")
	return len(trimmed) == 0 || trimmed[0] == '#' && len(trimmed) < len(b)
}

// skipSpace is the first offset at or after at that is neither white space nor in a comment.
func (t *text) skipSpace(at int) int {
	for at < len(t.data) {
		switch c := t.data[at]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			at++
		case c == '#' && (at == 0 || bytes.IndexByte([]byte(" \t\r\n"), t.data[at-1]) >= 0):
			at = t.lineBreak(at)
		default:
			return at
		}
	}
	return at
}

// splice replaces the bytes between two offsets.
type splice struct {
	from, to int
	text     string
}

// spliced is the file with the splices made, which are in order and do not overlap.
func (t *text) spliced(splices ...splice) []byte {
	var out []byte
	at := 0
	for _, s := range splices {
		out = append(append(out, t.data[at:s.from]...), s.text...)
		at = s.to
	}
	return append(out, t.data[at:]...)
}
