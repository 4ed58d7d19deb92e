package edit

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// quoting is how texts that need quotes get them.
type quoting struct {
	// single prefers 'text' to "text".
	single bool
	// always puts every text in double quotes, as in JSON.
	always bool
}

var (
	// words are what readers of YAML 1.1 or 1.2 take for something else than a text.
	words = regexp.MustCompile(`(?i)^(~|null|true|false|yes|no|on|off|y|n|\.inf|\.nan)$`)
	// numbers are the same: whole numbers in any base (52:54:00:12:34:56 is one to base 60), fractions and dates.
	numbers = regexp.MustCompile(`^([-+]?[0-9][0-9_,]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+]?[0-9]+)?|` +
		`[-+]?0[xXoObB][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*(:[0-9]{1,2})+(\.[0-9_]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*)$`)
	// bareNumber are the numbers, truth values and lengths of time that are written without quotes; jsonBare those that
	// are so in JSON too.
	bareNumber = regexp.MustCompile(`^[-+0-9A-Za-z_.]+$`)
	jsonBare   = regexp.MustCompile(`^(true|false|-?(0|[1-9][0-9]*))$`)
)

// plain tells whether a text means itself without quotes, to every reader of YAML, outside and inside of brackets.
func plain(s string) bool {
	if s == "" || words.MatchString(s) || numbers.MatchString(s) || strings.HasPrefix(s, "...") {
		return false
	}
	for i, r := range s {
		switch {
		case unicode.IsLetter(r), r >= '0' && r <= '9', strings.ContainsRune("/_.", r):
		case i == 0:
			return false
		case strings.ContainsRune("-+=@%~()", r):
		case r == ':' && i+1 < len(s) && s[i+1] != ' ', r == ' ' && i+1 < len(s):
		default:
			return false
		}
	}
	return true
}

// text is a text as it is written in the file.
func (q quoting) text(s string) string {
	if !q.always && plain(s) {
		return s
	}
	clear := !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	if !q.always && clear && (q.single || strings.ContainsAny(s, `"\`)) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(r), r > 0xffff && q.always: // JSON has no code for such a character that YAML has, too
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// bare is a number, a truth value or a length of time as it is written in the file.
func (q quoting) bare(s string) string {
	if bareNumber.MatchString(s) && (!q.always || jsonBare.MatchString(s)) {
		return s
	}
	return q.text(s)
}
