package conftemplates

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// token is a word or a sign of an expression.
type token struct {
	kind   string // "name", "string", "int", "end", or the sign itself
	source string
	text   string // of a string, what it says
	number int    // of an int
	place  place
}

const hintText = `inside {{ }} and {% %} there are names, texts in quotes, whole numbers, and the signs . [ ] ( ) , | == and !=`

// scanToken reads the token that rest begins with.
func scanToken(rest string, where place) (token, *Error) {
	c := rest[0]
	switch {
	case c == '"' || c == '\'':
		return scanString(rest, where)
	case isDigit(c):
		return scanNumber(rest, where)
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
			n++
		}
		if r, _ := utf8.DecodeRuneInString(rest[n:]); n < len(rest) && r >= utf8.RuneSelf && !isSpace(r) {
			break
		}
		return token{kind: "name", source: rest[:n], text: rest[:n], place: where}, nil
	case strings.HasPrefix(rest, "==") || strings.HasPrefix(rest, "!="):
		return token{kind: rest[:2], source: rest[:2], place: where}, nil
	case strings.IndexByte(".[](),|=", c) >= 0:
		return token{kind: rest[:1], source: rest[:1], place: where}, nil
	}
	r, size := utf8.DecodeRuneInString(rest)
	if r >= utf8.RuneSelf || isLetter(c) {
		return token{}, where.errorf("use the letters a to z, digits and underscores", "a name here holds a character that is not supported")
	}
	return token{}, where.errorf(hintText, "%s is not supported in templates", strconv.Quote(rest[:size]))
}

// scanNumber reads a whole number. Python reads more forms, which no configuration needs.
func scanNumber(rest string, where place) (token, *Error) {
	n := 1
	for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
		n++
	}
	digits := rest[:n]
	number, err := strconv.Atoi(digits)
	if err != nil || digits != strconv.Itoa(number) || len(digits) > 9 ||
		n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
		return token{}, where.errorf("write a whole number of up to 9 digits, without zeros in front", "this number is not supported in templates")
	}
	return token{kind: "int", source: digits, number: number, place: where}, nil
}

// escapes are the escapes in a text in quotes.
var escapes = map[byte]byte{'\\': '\\', '"': '"', '\'': '\'', 'n': '\n', 't': '\t'}

func scanString(rest string, where place) (token, *Error) {
	var out strings.Builder
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; c {
		case rest[0]:
			return token{kind: "string", source: rest[:i+1], text: out.String(), place: where}, nil
		case '\\':
			i++
			if i == len(rest) {
				break
			}
			meant, known := escapes[rest[i]]
			if !known {
				return token{}, where.errorf(`write \\ for a backslash; \" \' \n and \t are the other escapes`, "this text holds an escape that is not supported")
			}
			out.WriteByte(meant)
		default:
			out.WriteByte(c)
		}
	}
	return token{}, where.errorf("end it with "+rest[:1], "this text in quotes is never ended")
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
