package conftemplates

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// scalar is a text as YAML: as it is if every reader of YAML takes it for this text, else in double quotes.
func scalar(plain string, inFlow bool) string {
	if standsAlone(plain, inFlow) && !meansElse(plain) {
		return plain
	}
	return `"` + inDoubleQuotes(plain) + `"`
}

// standsAlone tells whether a text without quotes is one scalar with just this text. Within [ ] and { } more has to be quoted.
func standsAlone(plain string, inFlow bool) bool {
	if plain == "" || strings.TrimFunc(plain, isSpace) != plain || strings.ContainsFunc(plain, unprintable) ||
		strings.HasPrefix(plain, "---") || strings.HasPrefix(plain, "...") ||
		strings.Contains(plain, ": ") || strings.HasSuffix(plain, ":") || strings.Contains(plain, " #") ||
		inFlow && strings.ContainsAny(plain, ",[]{}?") {
		return false
	}
	if strings.IndexByte("-?:", plain[0]) >= 0 {
		return plain[0] == '-' && len(plain) > 1 && plain[1] != ' '
	}
	return strings.IndexByte(",[]{}#&*!|>'\"%@`", plain[0]) < 0
}

// unprintable tells the characters that a file is not to hold as they are: YAML forbids some of them, others end a line, and
// none can be seen.
func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// words and numbers are what YAML 1.1 or 1.2 takes for something else than a text, in any case of the letters. Python's PyYAML
// reads 1.1: no is False there, and 52:54:00:12:34:56 a number to the base of 60.
var (
	otherWords = map[string]bool{"": true, "~": true, "null": true, "true": true, "false": true, "yes": true, "no": true, "on": true,
		"off": true, "y": true, "n": true, "=": true, "<<": true}
	otherNumbers = regexp.MustCompile(`^(` + strings.Join([]string{
		`[-+]?0b[01_]+`, `[-+]?0o?[0-7_]+`, `[-+]?0x[0-9a-f_]+`,
		`[-+]?[0-9][0-9_]*(e[-+]?[0-9_]+)?`,
		`[-+]?([0-9][0-9_]*)?\.[0-9_]*(e[-+]?[0-9_]+)?`,
		`[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`,
		`[-+]?\.(inf|nan)`,
		`[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([t \t].*)?`,
	}, "|") + `)$`)
)

func meansElse(plain string) bool {
	plain = strings.ToLower(plain)
	// Some readers drop all underscores before they look for a number.
	return otherWords[plain] || otherNumbers.MatchString(plain) || otherNumbers.MatchString(strings.ReplaceAll(plain, "_", ""))
}

// inDoubleQuotes is a text as it stands between double quotes.
func inDoubleQuotes(plain string) string {
	var out strings.Builder
	for _, r := range plain {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case !unprintable(r):
			out.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	return out.String()
}
