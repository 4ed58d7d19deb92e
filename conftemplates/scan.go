package conftemplates

import (
	"strings"
	"unicode/utf8"
)

// piece is a part of a template: text, or what stands between {{ and }} or between {% and %}. Comments are no piece: they
// only change the white space around them.
type piece struct {
	kind   pieceKind
	text   string // text, with the white space removed that the tags around it take
	tokens []token
	place  place
}

type pieceKind int

const (
	textPiece pieceKind = iota
	outputPiece
	tagPiece
)

// scanner divides a template into pieces as Python's jinja2 does with trim_blocks and lstrip_blocks. gonja's own lexer takes
// white space away that Python leaves, as in "{{ a }} {% if b %}".
type scanner struct {
	source string
	at     int
	place  place
	pieces []piece
	// atLineStart is whether what was read before ended with a line end.
	atLineStart bool
}

// scan divides a template into its pieces.
func scan(template string) ([]piece, error) {
	source := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(template)
	if err := unreadable(source); err != nil {
		return nil, err
	}
	// Python drops a line end at the end of the template. The last line of the file that is rendered has none then.
	source = strings.TrimSuffix(source, "\n")
	s := &scanner{source: source, place: place{1, 1}, atLineStart: true}
	for s.at < len(s.source) {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	return s.pieces, nil
}

// unreadable is the first thing that is no text.
func unreadable(template string) error {
	where := place{1, 1}
	for i, r := range template {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(template[i:], string(utf8.RuneError)):
			return where.errorf("save the template as UTF-8", "the byte 0x%02x here is not UTF-8 text", template[i])
		case r == '\n':
			where = place{where.line + 1, 0}
		}
		where.column++
	}
	return nil
}

// opening finds the next "{{", "{%" or "{#".
func (s *scanner) opening() int {
	for i := s.at; i+1 < len(s.source); i++ {
		if s.source[i] == '{' && strings.IndexByte("{%#", s.source[i+1]) >= 0 {
			return i
		}
	}
	return len(s.source)
}

// next reads text up to the next tag, and that tag.
func (s *scanner) next() error {
	textPlace, atLineStart := s.place, s.atLineStart
	open := s.opening()
	plain := s.read(open)
	if open == len(s.source) {
		s.add(piece{kind: textPiece, text: plain, place: textPlace})
		return nil
	}
	start := s.place
	opened := s.read(open + 2)
	sign := s.readSign()
	switch {
	case sign == '-':
		plain = strings.TrimRightFunc(plain, isSpace)
	case sign != '+' && opened != "{{":
		// Only white space that begins its line goes.
		if line := strings.LastIndexByte(plain, '\n') + 1; (line > 0 || atLineStart) && strings.TrimLeftFunc(plain[line:], isSpace) == "" {
			plain = plain[:line]
		}
	}
	s.add(piece{kind: textPiece, text: plain, place: textPlace})
	switch opened {
	case "{#":
		return s.comment(start)
	case "{{":
		return s.tag(outputPiece, "}}", start)
	}
	return s.tag(tagPiece, "%}", start)
}

// comment reads the rest of a comment.
func (s *scanner) comment(start place) error {
	end := strings.Index(s.source[s.at:], "#}")
	if end < 0 {
		return start.errorf(`end it with "#}"`, "this comment is never ended")
	}
	end += s.at
	var sign byte
	// The sign belongs to the end, even where the comment has nothing else in it.
	if end > s.at && strings.IndexByte("-+", s.source[end-1]) >= 0 {
		sign = s.source[end-1]
	}
	s.read(end + 2)
	s.closed(sign, true)
	return nil
}

// tag reads the rest of an output or of a tag.
func (s *scanner) tag(kind pieceKind, end string, start place) error {
	p := piece{kind: kind, place: start}
	for depth := 0; ; {
		s.skip(isSpace)
		rest := s.source[s.at:]
		if depth == 0 {
			for _, closing := range []string{end, "-" + end, "+" + end} {
				if !strings.HasPrefix(rest, closing) || kind == outputPiece && closing[0] == '+' {
					continue
				}
				s.read(s.at + len(closing))
				s.pieces = append(s.pieces, p)
				s.closed(closing[0], kind == tagPiece)
				return nil
			}
		}
		if depth > 0 && strings.HasPrefix(rest, end) {
			return s.place.errorf("close it before "+end, "a bracket is still open here")
		}
		if rest == "" {
			return start.errorf(`end it with "`+end+`"`, "what begins here is never ended")
		}
		where := s.place
		t, err := scanToken(rest, where)
		if err != nil && where.line > start.line {
			return start.errorf(`end it with "`+end+`"`, "what begins here is not ended before line %d, which has what cannot be in it: %s", where.line, err.Problem)
		}
		if err != nil {
			return err
		}
		switch t.kind {
		case "(", "[":
			depth++
		case ")", "]":
			if depth--; depth < 0 {
				return where.errorf("", "there is no opening bracket for this %q", t.kind)
			}
		}
		s.read(s.at + len(t.source))
		p.tokens = append(p.tokens, t)
	}
}

// closed takes the white space after a tag: all of it if the tag ended with a dash, else one line end if the tag is no output.
func (s *scanner) closed(sign byte, trims bool) {
	s.atLineStart = false
	switch {
	case sign == '-':
		if from := s.at; true {
			s.skip(isSpace)
			s.atLineStart = s.at > from && s.source[s.at-1] == '\n'
		}
	case sign != '+' && trims && strings.HasPrefix(s.source[s.at:], "\n"):
		s.read(s.at + 1)
		s.atLineStart = true
	}
}

func (s *scanner) add(p piece) {
	if p.text != "" {
		s.pieces = append(s.pieces, p)
	}
}

func (s *scanner) readSign() byte {
	if s.at < len(s.source) && strings.IndexByte("-+", s.source[s.at]) >= 0 {
		return s.read(s.at + 1)[0]
	}
	return 0
}

func (s *scanner) skip(what func(rune) bool) {
	rest := strings.TrimLeftFunc(s.source[s.at:], what)
	s.read(len(s.source) - len(rest))
}

// read goes on to a place in the source and returns what is before it.
func (s *scanner) read(to int) string {
	read := s.source[s.at:to]
	s.at = to
	if lines := strings.Count(read, "\n"); lines > 0 {
		s.place.line += lines
		s.place.column = 1
		s.place.column += utf8.RuneCountInString(read[strings.LastIndexByte(read, '\n')+1:])
	} else {
		s.place.column += utf8.RuneCountInString(read)
	}
	return read
}

// isSpace tells white space as Python's str.isspace and its regular expressions do. Go's unicode.IsSpace lacks four of it.
func isSpace(r rune) bool {
	switch {
	case r >= '\t' && r <= '\r', r >= 0x1c && r <= ' ', r == 0x85, r == 0xa0, r == 0x1680, r >= 0x2000 && r <= 0x200a,
		r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
		return true
	}
	return false
}
