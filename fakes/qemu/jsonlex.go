//go:build linux

package qemu

import "strings"

// The way QEMU takes a stream of bytes apart is its own, and clients meet it: two
// kinds of quotes, values that follow each other without anything between, a state that
// skips what cannot be understood up to the next structural character. Seen on QEMU 7.2.22
// by sending it broken input; the differential test repeats that.

type token struct {
	kind byte // one of { } [ ] : , or one of the kinds below
	text string
}

const (
	tokenString  = 's'
	tokenInteger = 'i'
	tokenFloat   = 'f'
	tokenKeyword = 'k'
)

type lexState byte

const (
	lexStart lexState = iota
	lexRecovery
	lexDouble       // in "..."
	lexDoubleEscape // after a backslash there
	lexSingle       // in '...'
	lexSingleEscape
	lexMinus
	lexZero
	lexDigits
	lexPoint
	lexFraction
	lexExponent
	lexExponentSign
	lexExponentDigits
	lexKeyword
)

// Limits of QEMU's, against clients that never finish a message.
const (
	maxTokenBytes = 64 << 20
	maxTokens     = 2 << 20
	maxNesting    = 1024
)

// streamer turns bytes into values. Each value, and each error that takes the place
// of one, is handed to emit.
type streamer struct {
	emit func(v any, err error)

	state    lexState
	text     []byte
	tokens   []token
	size     int
	braces   int
	brackets int
}

// write takes the next bytes of the stream.
func (s *streamer) write(b []byte) {
	for _, c := range b {
		s.feed(c)
	}
}

func (s *streamer) feed(c byte) {
	for {
		next, kind, consumed := s.step(c)
		if consumed {
			s.text = append(s.text, c)
			if len(s.text) > maxTokenBytes {
				s.fail("JSON token size limit exceeded")
				next, kind = lexRecovery, 0
			}
		}
		switch {
		case kind == '!':
			s.stray()
			s.state, s.text = lexRecovery, s.text[:0]
		case kind != 0:
			s.token(token{kind, string(s.text)})
			s.state, s.text = lexStart, s.text[:0]
		case next == lexStart || next == lexRecovery:
			s.state, s.text = next, s.text[:0]
		default:
			s.state = next
		}
		if consumed {
			return
		}
	}
}

// step says where byte c leads from the current state: to another state, or to a
// token that is complete ('!' is one that cannot be); and whether c belongs to it.
func (s *streamer) step(c byte) (next lexState, kind byte, consumed bool) {
	digit := c >= '0' && c <= '9'
	switch s.state {
	case lexStart:
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			return lexStart, 0, true
		case c == '{' || c == '}' || c == '[' || c == ']' || c == ':' || c == ',':
			return 0, c, true
		case c == '"':
			return lexDouble, 0, true
		case c == '\'':
			return lexSingle, 0, true
		case c == '-':
			return lexMinus, 0, true
		case c == '0':
			return lexZero, 0, true
		case digit:
			return lexDigits, 0, true
		case c >= 'a' && c <= 'z':
			return lexKeyword, 0, true
		}
		return 0, '!', true
	case lexRecovery:
		structural := c == '{' || c == '}' || c == '[' || c == ']' || c == ':' || c == ','
		if structural || c < 0x20 && c != '\t' || c >= 0xfe {
			return lexStart, 0, false
		}
		return lexRecovery, 0, true
	case lexDouble, lexSingle:
		quote := byte('"')
		if s.state == lexSingle {
			quote = '\''
		}
		switch {
		case c < 0x20 || c >= 0xfe:
			return 0, '!', true
		case c == '\\':
			return s.state + 1, 0, true
		case c == quote:
			return 0, tokenString, true
		}
		return s.state, 0, true
	case lexDoubleEscape, lexSingleEscape:
		if c < 0x20 || c >= 0xfe {
			return 0, '!', true
		}
		return s.state - 1, 0, true
	case lexMinus:
		switch {
		case c == '0':
			return lexZero, 0, true
		case digit:
			return lexDigits, 0, true
		}
		return 0, '!', true
	case lexZero, lexDigits:
		switch {
		case digit && s.state == lexZero:
			return 0, '!', true
		case digit:
			return lexDigits, 0, true
		case c == '.':
			return lexPoint, 0, true
		case c == 'e' || c == 'E':
			return lexExponent, 0, true
		}
		return 0, tokenInteger, false
	case lexPoint:
		if digit {
			return lexFraction, 0, true
		}
		return 0, '!', true
	case lexFraction:
		switch {
		case digit:
			return lexFraction, 0, true
		case c == 'e' || c == 'E':
			return lexExponent, 0, true
		}
		return 0, tokenFloat, false
	case lexExponent:
		switch {
		case digit:
			return lexExponentDigits, 0, true
		case c == '+' || c == '-':
			return lexExponentSign, 0, true
		}
		return 0, '!', true
	case lexExponentSign:
		if digit {
			return lexExponentDigits, 0, true
		}
		return 0, '!', true
	case lexExponentDigits:
		if digit {
			return lexExponentDigits, 0, true
		}
		return 0, tokenFloat, false
	default: // lexKeyword
		if c >= 'a' && c <= 'z' {
			return lexKeyword, 0, true
		}
		return 0, tokenKeyword, false
	}
}

// token takes a whole token and, where it ends a value, parses that.
func (s *streamer) token(t token) {
	switch t.kind {
	case '{':
		s.braces++
	case '}':
		s.braces--
	case '[':
		s.brackets++
	case ']':
		s.brackets--
	}
	s.size += len(t.text)
	switch {
	case s.size > maxTokenBytes:
		s.fail("JSON token size limit exceeded")
		return
	case len(s.tokens)+1 > maxTokens:
		s.fail("JSON token count limit exceeded")
		return
	case s.braces+s.brackets > maxNesting:
		s.fail("JSON nesting depth limit exceeded")
		return
	}
	s.tokens = append(s.tokens, t)
	if (s.braces > 0 || s.brackets > 0) && s.braces >= 0 && s.brackets >= 0 {
		return
	}
	v, err := parseTokens(s.tokens)
	s.restart()
	s.emit(v, err)
}

func (s *streamer) stray() {
	text, _, _ := strings.Cut(string(s.text), "\x00") // QEMU prints it as a C string
	s.fail("JSON parse error, stray '" + text + "'")
}

func (s *streamer) fail(text string) {
	s.restart()
	s.emit(nil, generic("%s", text))
}

func (s *streamer) restart() { s.tokens, s.size, s.braces, s.brackets = nil, 0, 0, 0 }
