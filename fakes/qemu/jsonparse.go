//go:build linux

package qemu

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// parser makes a value of the tokens that the streamer has put together.
type parser struct {
	tokens []token
}

func parseTokens(tokens []token) (any, error) {
	p := &parser{tokens}
	return p.value()
}

func parseError(text string) error { return generic("JSON parse error, %s", text) }

func (p *parser) pop() (token, bool) {
	if len(p.tokens) == 0 {
		return token{}, false
	}
	t := p.tokens[0]
	p.tokens = p.tokens[1:]
	return t, true
}

func (p *parser) peek() byte {
	if len(p.tokens) == 0 {
		return 0
	}
	return p.tokens[0].kind
}

func (p *parser) value() (any, error) {
	t, ok := p.pop()
	if !ok {
		return nil, parseError("premature EOI")
	}
	switch t.kind {
	case '{':
		return p.object()
	case '[':
		return p.array()
	case tokenString:
		return unquote(t.text)
	case tokenInteger:
		return integer(t.text), nil
	case tokenFloat:
		return float(t.text), nil
	case tokenKeyword:
		switch t.text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		case "null":
			return nil, nil
		}
		return nil, parseError("invalid keyword '" + t.text + "'")
	}
	return nil, parseError("expecting value")
}

func (p *parser) object() (any, error) {
	o := d()
	if p.peek() == '}' {
		p.pop()
		return o, nil
	}
	for {
		if err := p.pair(o); err != nil {
			return nil, err
		}
		switch t, ok := p.pop(); {
		case !ok:
			return nil, parseError("premature EOI")
		case t.kind == '}':
			return o, nil
		case t.kind != ',':
			return nil, parseError("expected separator in dict")
		}
	}
}

func (p *parser) pair(o *dict) error {
	k, err := p.value()
	if err != nil {
		return err
	}
	key, ok := k.(string)
	if !ok {
		return parseError("key is not a string in object")
	}
	switch t, ok := p.pop(); {
	case !ok:
		return parseError("premature EOI")
	case t.kind != ':':
		return parseError("missing : in object pair")
	}
	v, err := p.value()
	if err != nil {
		return err
	}
	if _, ok := o.get(key); ok {
		return parseError("duplicate key")
	}
	o.set(key, v)
	return nil
}

func (p *parser) array() (any, error) {
	list := []any{}
	if p.peek() == ']' {
		p.pop()
		return list, nil
	}
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		switch t, ok := p.pop(); {
		case !ok:
			return nil, parseError("premature EOI")
		case t.kind == ']':
			return list, nil
		case t.kind != ',':
			return nil, parseError("expected separator in list")
		}
	}
}

func integer(s string) any {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return v
	}
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return v
	}
	return float(s)
}

func float(s string) any {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0.0
	}
	return v
}

// unquote decodes a string token, quotes included.
func unquote(tok string) (any, error) {
	var out []byte
	for i := 1; i < len(tok)-1; {
		if tok[i] != '\\' {
			r, n := utf8.DecodeRuneInString(tok[i:])
			if r == utf8.RuneError && n <= 1 || !character(r) {
				return nil, parseError("invalid UTF-8 sequence in string")
			}
			out = append(out, tok[i:i+n]...)
			i += n
			continue
		}
		i++
		c := tok[i]
		i++
		switch c {
		case '"', '\'', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			first := i
			r, ok := hex4(tok[i:])
			i += 4
			if ok && r >= 0xd800 && r < 0xdc00 && i+6 <= len(tok) && tok[i] == '\\' && tok[i+1] == 'u' {
				if low, lok := hex4(tok[i+2:]); lok && low >= 0xdc00 && low < 0xe000 {
					r = 0x10000 + (r-0xd800)<<10 + low - 0xdc00
					i += 6
				}
			}
			if !ok || !character(r) {
				return nil, parseError("\\u" + tok[first:min(first+4, len(tok))] + " is not a valid Unicode character")
			}
			if r == 0 {
				out = append(out, 0xc0, 0x80) // QEMU's strings are C's: NUL is written in two bytes
				continue
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, parseError("invalid escape sequence in string")
		}
	}
	return string(out), nil
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(v), err == nil && s[0] != '+' && s[0] != '-'
}

// character says whether r may stand in a string: no surrogate, no noncharacter.
func character(r rune) bool {
	return r >= 0 && r <= 0x10ffff && (r < 0xd800 || r > 0xdfff) && (r < 0xfdd0 || r > 0xfdef) && r&0xfffe != 0xfffe
}
