package vmcloak

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/machineries/machineries/internal/qemuargs"
)

// The bounds of a machineinfo.json. Real ones have some dozen arguments in a few kilobytes, and nothing that is nested deeper than
// the arguments are.
const (
	maxSize  = 1 << 20
	maxDepth = 32
)

// value is a value of a JSON text with its place.
type value struct {
	at      int // offset of its first byte
	plain   any // a string, a json.Number, a bool or nil; json.Delim for a list or an object
	list    []value
	members []member
}

// member is one key of an object.
type member struct {
	key   string
	at    int
	value value
}

// get is the value of a key.
func (v value) get(key string) (value, bool) {
	i := slices.IndexFunc(v.members, func(m member) bool { return m.key == key })
	if i < 0 {
		return value{at: v.at}, false
	}
	return v.members[i].value, true
}

// hasAny tells whether an object has one of the keys.
func (v value) hasAny(keys ...string) bool {
	return slices.ContainsFunc(v.members, func(m member) bool { return slices.Contains(keys, m.key) })
}

// kind is what a value is, in the words of a message.
func (v value) kind() string {
	switch plain := v.plain.(type) {
	case nil:
		return "null"
	case json.Delim:
		if plain == '{' {
			return "an object"
		}
		return "a list"
	case json.Number:
		return "a number"
	case bool:
		return fmt.Sprint(plain)
	}
	return "a string"
}

// source is a JSON text that knows its places.
type source struct {
	name string // of the file
	data []byte
	dec  *json.Decoder
}

// parse reads a whole JSON text. What is in an object twice is an error, as readers of JSON disagree about it.
func (s *source) parse() (value, error) {
	if len(s.data) > maxSize {
		return value{}, fmt.Errorf("%s: the file is longer than %d bytes, which no machineinfo.json is", s.name, maxSize)
	}
	s.data = bytes.TrimPrefix(s.data, []byte("\xef\xbb\xbf")) // the byte order mark that editors on Windows put first
	if at := invalidUTF8(s.data); at >= 0 {
		return value{}, s.problem(at, "the file is not UTF-8 text")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(s.data, &whole); err != nil {
		at := len(s.data)
		if syntax, is := errors.AsType[*json.SyntaxError](err); is && !strings.HasPrefix(syntax.Error(), "unexpected end") {
			at = int(syntax.Offset) - 1 // which counts the wrong byte too
		}
		return value{}, s.problem(at, "this is not JSON: "+err.Error())
	}
	s.dec = json.NewDecoder(bytes.NewReader(s.data))
	s.dec.UseNumber()
	return s.value(0)
}

// value reads the next value.
func (s *source) value(depth int) (value, error) {
	token, at, err := s.token()
	if err != nil {
		return value{}, s.problem(at, "this is not JSON: "+err.Error())
	}
	v := value{at: at, plain: token}
	delim, nested := token.(json.Delim)
	if !nested {
		return v, nil
	}
	if depth == maxDepth {
		return value{}, s.problem(at, fmt.Sprintf("this is nested more than %d deep, which no machineinfo.json is", maxDepth))
	}
	seen := map[string]bool{}
	for s.dec.More() {
		var m member
		if delim == '{' {
			key, at, err := s.token()
			if err != nil {
				return value{}, s.problem(at, "this is not JSON: "+err.Error())
			}
			m.key, _ = key.(string) // an object's keys are strings, or the decoder has failed
			m.at = at
			if seen[m.key] {
				return value{}, s.problem(at, fmt.Sprintf("the key %s is there twice; remove one", qemuargs.Quoted(m.key)))
			}
			seen[m.key] = true
		}
		if m.value, err = s.value(depth + 1); err != nil {
			return value{}, err
		}
		if delim == '{' {
			v.members = append(v.members, m)
		} else {
			v.list = append(v.list, m.value)
		}
	}
	if _, at, err := s.token(); err != nil {
		return value{}, s.problem(at, "this is not JSON: "+err.Error())
	}
	return v, nil
}

// token reads a token and tells where it begins.
func (s *source) token() (json.Token, int, error) {
	at := int(s.dec.InputOffset())
	at += len(s.data[at:]) - len(bytes.TrimLeft(s.data[at:], " \t\r\n,:"))
	token, err := s.dec.Token()
	return token, at, err
}

// problem is what is wrong at an offset, with file, line and column.
func (s *source) problem(offset int, text string) error {
	before := s.data[:min(max(offset, 0), len(s.data))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Errorf("%s:%d:%d: %s", s.name, line, column, text)
}

// invalidUTF8 is where text stops being UTF-8, or -1. JSON decoders replace such bytes silently.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
