package conftemplates

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// toJSON is the filter tojson: JSON as Python writes it, in ASCII, with sorted keys, and safe within HTML.
func toJSON(r *renderer, s site, value any, _ []any) (any, error) {
	var out strings.Builder
	if what := writeJSON(&out, value); what != nil {
		return nil, wrong(r, s, what, "", "%s is asked of %s", s.words, kindOf(what))
	}
	return written(out.String()), nil
}

// writeJSON returns the part of value that JSON cannot hold, or nil.
func writeJSON(out *strings.Builder, value any) (bad any) {
	switch value := value.(type) {
	case nil:
		out.WriteString("null")
	case bool, int:
		fmt.Fprint(out, value)
	case string, text, written:
		plain, _ := plainText(value)
		writeJSONText(out, plain)
	case list:
		out.WriteByte('[')
		for i, item := range value {
			if i > 0 {
				out.WriteString(", ")
			}
			if bad := writeJSON(out, item); bad != nil {
				return bad
			}
		}
		out.WriteByte(']')
	case mapping:
		// Python compares texts by code points, and so does Go by their UTF-8.
		sorted := slices.SortedFunc(slices.Values(value), func(a, b pair) int { return cmp.Compare(a.key, b.key) })
		out.WriteByte('{')
		for i, p := range sorted {
			if i > 0 {
				out.WriteString(", ")
			}
			writeJSONText(out, p.key)
			out.WriteString(": ")
			if bad := writeJSON(out, p.value); bad != nil {
				return bad
			}
		}
		out.WriteByte('}')
	default:
		return value
	}
	return nil
}

var jsonEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\f': `\f`, '\b': `\b`}

func writeJSONText(out *strings.Builder, s string) {
	out.WriteByte('"')
	for _, r := range s {
		short, is := jsonEscapes[r]
		switch {
		case is:
			out.WriteString(short)
		case r >= ' ' && r <= '~' && !strings.ContainsRune("<>&'", r):
			out.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(out, `\u%04x`, unit)
			}
		}
	}
	out.WriteByte('"')
}
