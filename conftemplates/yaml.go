package conftemplates

import (
	"strings"
)

// RenderYAML is [Render] for a YAML file. What is not among the values is an [Error] where the template writes it. Each text of the values reads back as that text, wherever the template puts it, and nil
// as nothing. Where the bytes that Python writes read back so, they are the bytes that are written. Otherwise a value has:
//
//   - in the place of a whole scalar or of a key, double quotes around it;
//   - within quotes of the template, escapes;
//   - in a comment, spaces for what would end the comment.
//
// Beside other text and without quotes, as in http://{{ ip }}/, and in single quotes and block scalars, some values cannot be
// written: that is an [Error] which says so.
func RenderYAML(template string, values *Values) ([]byte, error) {
	r, err := run(template, values, true)
	if err != nil {
		return nil, err
	}
	w := &yamlWriter{rest: r.out}
	if err := w.file(); err != nil {
		return nil, err
	}
	return []byte(w.out.String()), nil
}

// yamlWriter follows the YAML that is written closely enough to know where each value comes to stand.
type yamlWriter struct {
	rest []segment
	out  strings.Builder
	// line is the current line as far as it is written.
	line strings.Builder
	// flow is how many [ and { are open.
	flow int
}

// peek is the byte that comes n bytes after the place, 0 for a value or the end. Bytes behind a value cannot be seen.
func (w *yamlWriter) peek(n int) byte {
	for _, s := range w.rest {
		if s.isValue {
			return 0
		}
		if n < len(s.literal) {
			return s.literal[n]
		}
		n -= len(s.literal)
	}
	return 0
}

// ended tells whether nothing is left n bytes after the place.
func (w *yamlWriter) ended(n int) bool {
	for _, s := range w.rest {
		if s.isValue || n < len(s.literal) {
			return false
		}
		n -= len(s.literal)
	}
	return true
}

// value is whether a value comes next. It drops segments that are used up.
func (w *yamlWriter) value() bool {
	for len(w.rest) > 0 && !w.rest[0].isValue && w.rest[0].literal == "" {
		w.rest = w.rest[1:]
	}
	return len(w.rest) > 0 && w.rest[0].isValue
}

func (w *yamlWriter) write(s string) {
	w.out.WriteString(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		w.line.Reset()
		s = s[i+1:]
	}
	w.line.WriteString(s)
}

// pass writes the next n bytes, which are no values, as they are.
func (w *yamlWriter) pass(n int) {
	for ; n > 0 && !w.value() && len(w.rest) > 0; n-- {
		w.write(w.rest[0].literal[:1])
		w.rest[0].literal = w.rest[0].literal[1:]
	}
}

// take is the value that comes next, as the text that stands in the file.
func (w *yamlWriter) take() (segment, string) {
	s := w.rest[0]
	w.rest = w.rest[1:]
	plain := ""
	if s.value != nil {
		plain, _ = plainText(s.value)
	}
	return s, plain
}

// file writes all.
func (w *yamlWriter) file() error {
	for w.value() || len(w.rest) > 0 {
		if err := w.next(); err != nil {
			return err
		}
	}
	return nil
}

// next writes what comes next, outside of scalars.
func (w *yamlWriter) next() error {
	if w.value() {
		return w.plain()
	}
	c, after := w.peek(0), w.peek(1)
	blankAfter := after == ' ' || after == '\t' || after == '\n' || after == '\r' || w.ended(1)
	written := w.line.String()
	blankBefore := written == "" || strings.HasSuffix(written, " ") || strings.HasSuffix(written, "\t")
	switch {
	case c == '\n' || c == '\r' || c == ' ' || c == '\t':
		w.pass(1)
	case c == '#' && blankBefore:
		return w.comment()
	case c == '"':
		return w.double()
	case c == '\'':
		return w.single()
	case c == '[' || c == '{':
		w.flow++
		w.pass(1)
	case (c == ']' || c == '}') && w.flow > 0:
		w.flow--
		w.pass(1)
	case c == ',' && w.flow > 0, c == ':' && (blankAfter || w.flow > 0), (c == '-' || c == '?') && blankAfter:
		w.pass(1)
	case (c == '|' || c == '>') && w.flow == 0:
		return w.block()
	case c == '&' || c == '*' || c == '!':
		// An anchor, an alias or a tag.
		for !w.value() && len(w.rest) > 0 && strings.IndexByte(" \t\r\n,]}", w.peek(0)) < 0 {
			w.pass(1)
		}
		if w.peek(0) == ',' {
			w.pass(1)
		}
	default:
		return w.plain()
	}
	return nil
}

// plain writes a scalar without quotes, or its part on this line.
func (w *yamlWriter) plain() error {
	var parts []segment
	for w.value() || len(w.rest) > 0 {
		if w.rest[0].isValue {
			parts = append(parts, w.rest[0])
			w.rest = w.rest[1:]
			continue
		}
		if w.endsPlain() {
			break
		}
		if n := len(parts); n == 0 || parts[n-1].isValue {
			parts = append(parts, segment{})
		}
		parts[len(parts)-1].literal += w.rest[0].literal[:1]
		w.rest[0].literal = w.rest[0].literal[1:]
	}
	// White space at the end is none of the scalar.
	blanks := ""
	if last := &parts[len(parts)-1]; !last.isValue {
		trimmed := strings.TrimRight(last.literal, " \t")
		blanks = last.literal[len(trimmed):]
		if last.literal = trimmed; trimmed == "" {
			parts = parts[:len(parts)-1]
		}
	}
	defer func() { w.write(blanks) }()
	if len(parts) == 1 && parts[0].isValue {
		if parts[0].value != nil {
			plain, _ := plainText(parts[0].value)
			w.write(scalar(plain, w.flow > 0))
		}
		return nil
	}
	var whole strings.Builder
	var worst *segment
	for i, p := range parts {
		plain := p.literal
		if p.isValue {
			worst = &parts[i]
			plain = ""
			if p.value != nil {
				plain, _ = plainText(p.value)
			}
		}
		whole.WriteString(plain)
	}
	if worst != nil && !standsAlone(whole.String(), w.flow > 0) {
		return worst.site.place.errorf(`put double quotes around the whole in the template: "... {{ `+worst.site.words+` }} ..."`,
			"the value of %s has characters that would make something else of the text around it", worst.site.words)
	}
	w.write(whole.String())
	return nil
}

// endsPlain tells whether a scalar without quotes ends before the next byte, which is no value.
func (w *yamlWriter) endsPlain() bool {
	c := w.peek(0)
	switch {
	case c == '\n' || c == '\r':
		return true
	case c == ' ' || c == '\t':
		n := 1
		for w.peek(n) == ' ' || w.peek(n) == '\t' {
			n++
		}
		return w.peek(n) == '#'
	case c == ':':
		return strings.IndexByte(" \t\r\n", w.peek(1)) >= 0 && w.peek(1) != 0 || w.ended(1) || w.flow > 0 && strings.IndexByte(",[]{}", w.peek(1)) >= 0
	}
	return w.flow > 0 && strings.IndexByte(",[]{}", c) >= 0
}

// double writes a scalar in double quotes.
func (w *yamlWriter) double() error {
	w.pass(1)
	for w.value() || len(w.rest) > 0 {
		if w.rest[0].isValue {
			_, plain := w.take()
			w.write(inDoubleQuotes(plain))
			continue
		}
		switch w.peek(0) {
		case '\\':
			w.pass(2)
		case '"':
			w.pass(1)
			return nil
		default:
			w.pass(1)
		}
	}
	return nil
}

// single writes a scalar in single quotes.
func (w *yamlWriter) single() error {
	w.pass(1)
	for w.value() || len(w.rest) > 0 {
		if w.rest[0].isValue {
			s, plain := w.take()
			if strings.ContainsFunc(plain, unprintable) {
				return s.site.place.errorf("use double quotes in the template", "the value of %s has characters that cannot stand in single quotes", s.site.words)
			}
			w.write(strings.ReplaceAll(plain, "'", "''"))
			continue
		}
		switch {
		case w.peek(0) == '\'' && w.peek(1) == '\'':
			w.pass(2)
		case w.peek(0) == '\'':
			w.pass(1)
			return nil
		default:
			w.pass(1)
		}
	}
	return nil
}

// comment writes the rest of a line.
func (w *yamlWriter) comment() error {
	for w.value() || len(w.rest) > 0 {
		if w.rest[0].isValue {
			_, plain := w.take()
			w.write(strings.Map(func(r rune) rune {
				if unprintable(r) {
					return ' '
				}
				return r
			}, plain))
			continue
		}
		text := w.rest[0].literal
		end := strings.IndexAny(text, "\r\n")
		if end == 0 {
			return nil
		}
		if end < 0 {
			end = len(text)
		}
		w.write(text[:end])
		w.rest[0].literal = text[end:]
	}
	return nil
}

// block writes a block scalar: its header, and all lines that are indented more than what it belongs to.
func (w *yamlWriter) block() error {
	line := w.line.String()
	indent := len(line) - len(strings.TrimLeft(line, " -"))
	for w.value() || len(w.rest) > 0 {
		if w.rest[0].isValue {
			s, plain := w.take()
			if strings.ContainsFunc(plain, unprintable) || strings.HasPrefix(plain, " ") && strings.TrimLeft(w.line.String(), " ") == "" {
				return s.site.place.errorf("use double quotes in the template", "the value of %s has characters that cannot stand in a block of text", s.site.words)
			}
			w.write(plain)
			continue
		}
		c := w.peek(0)
		w.pass(1)
		if c != '\n' {
			continue
		}
		spaces := 0
		for w.peek(spaces) == ' ' {
			spaces++
		}
		if next := w.peek(spaces); next != '\n' && next != '\r' && spaces <= indent {
			return nil
		}
	}
	return nil
}
