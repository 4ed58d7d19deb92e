//go:build linux

package qemu

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// dict is a JSON object as QEMU keeps it. QEMU stores the members in a hash table and
// prints them in that table's order, which is the order on the wire; byOrder follows it.
type dict struct {
	keys   []string
	values map[string]any
}

// d makes a dict of names and values in turn.
func d(pairs ...any) *dict {
	o := &dict{values: map[string]any{}}
	for i := 0; i < len(pairs); i += 2 {
		o.set(pairs[i].(string), pairs[i+1])
	}
	return o
}

func (o *dict) set(key string, v any) {
	if _, ok := o.values[key]; !ok {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

func (o *dict) get(key string) (any, bool) {
	if o == nil {
		return nil, false
	}
	v, ok := o.values[key]
	return v, ok
}

// bucket is where QEMU's table keeps a member: the order of members in every
// transcript from QEMU 7.2 is the order of these numbers, of equal ones the member put
// in last comes first.
func bucket(key string) uint32 {
	h := uint32(len(key)) * 0x238f13af
	for i := range len(key) {
		h += uint32(key[i]) << (i * 5 % 24)
	}
	return (h*1103515243 + 12345) % 512
}

// byOrder returns the members' names in the order of the wire.
func (o *dict) byOrder() []string {
	keys := slices.Clone(o.keys)
	slices.Reverse(keys)
	slices.SortStableFunc(keys, func(a, b string) int { return int(bucket(a)) - int(bucket(b)) })
	return keys
}

// appendJSON writes v as QEMU does: ", " and ": ", everything but printable ASCII
// escaped with upper-case hex, %.17g for numbers with a fraction.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case int:
		return strconv.AppendInt(b, int64(v), 10)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case uint64:
		return strconv.AppendUint(b, v, 10)
	case float64:
		return append(b, formatG17(v)...)
	case string:
		return appendString(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendJSON(b, e)
		}
		return append(b, ']')
	case *dict:
		b = append(b, '{')
		for i, k := range v.byOrder() {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendString(b, k)
			b = append(b, ": "...)
			b = appendJSON(b, v.values[k])
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("no JSON for %T", v))
}

var shortEscapes = map[rune]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if len(s) > 1 && s[:2] == "\xc0\x80" {
			r, n = 0, 2 // how the parser keeps a NUL
		}
		s = s[n:]
		switch c, short := shortEscapes[r]; {
		case short:
			b = append(b, '\\', c)
		case r >= 0x20 && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, "\\u%04X\\u%04X", 0xd800|r>>10, 0xdc00|r&0x3ff)
		default: // bytes that are no UTF-8 decode to U+FFFD, which is what QEMU prints
			b = fmt.Appendf(b, "\\u%04X", r)
		}
	}
	return append(b, '"')
}

// formatG17 is C's %.17g.
func formatG17(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	case math.IsNaN(v):
		return "nan"
	case v == 0:
		if math.Signbit(v) {
			return "-0"
		}
		return "0"
	}
	e := strconv.FormatFloat(v, 'e', 16, 64)
	mantissa, exp, _ := cut(e, 'e')
	x, _ := strconv.Atoi(exp)
	if x < -4 || x >= 17 {
		return fmt.Sprintf("%se%c%02d", trimZeros(mantissa), exp[0], max(x, -x))
	}
	return trimZeros(strconv.FormatFloat(v, 'f', 16-x, 64))
}

func cut(s string, at byte) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == at {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func trimZeros(s string) string {
	if !slices.Contains([]byte(s), '.') {
		return s
	}
	for s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	if s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	return s
}

// appendIndented writes v over several lines, as qemu-img does.
func appendIndented(b []byte, v any, depth int) []byte {
	line := func(n int) {
		b = append(b, '\n')
		for range n {
			b = append(b, "    "...)
		}
	}
	switch v := v.(type) {
	case []any:
		if len(v) == 0 {
			break
		}
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			line(depth + 1)
			b = appendIndented(b, e, depth+1)
		}
		line(depth)
		return append(b, ']')
	case *dict:
		if len(v.keys) == 0 {
			break
		}
		b = append(b, '{')
		for i, k := range v.byOrder() {
			if i > 0 {
				b = append(b, ',')
			}
			line(depth + 1)
			b = append(appendString(b, k), ": "...)
			b = appendIndented(b, v.values[k], depth+1)
		}
		line(depth)
		return append(b, '}')
	}
	return appendJSON(b, v)
}
