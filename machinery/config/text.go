package config

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable tells the characters that a message may hold as they are. Those that move the cursor, reorder text or
// cannot be seen are not among them: messages hold pieces of files that anybody may have written.
func printable(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }

// maxShown is the longest value that a message shows whole, in characters.
const maxShown = 80

// show is a value in quotes, safe to print, shortened in the middle if it is long.
func show(text string) string {
	text = withoutPassword(text)
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	if utf8.RuneCountInString(text) > maxShown {
		r := []rune(text)
		text = string(r[:maxShown/2]) + "…" + string(r[len(r)-maxShown/2+1:])
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !printable(r) }) {
		return strconv.Quote(text)
	}
	return `"` + text + `"`
}

// list is words as a sentence has them: "a, b and c".
func list(words []string) string {
	const most = 12
	if len(words) > most {
		return strings.Join(words[:most], ", ") + " and " + strconv.Itoa(len(words)-most) + " more"
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// nearest is the one of words that s was most likely meant to be; "" where none is near.
func nearest(s string, words []string) string {
	if len(s) > 64 {
		return ""
	}
	best, bestCost := "", 1<<30
	for _, w := range words {
		a, b := fold(s), fold(w)
		cost := distance(a, b)
		if limit := max(1, min(len([]rune(a)), len([]rune(b)))/3); cost <= limit && cost < bestCost {
			best, bestCost = w, cost
		}
	}
	return best
}

// fold makes spellings that differ in case, in dashes or in white space the same.
func fold(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || unicode.IsSpace(r) || !printable(r) {
			return -1
		}
		return r
	}, s))
}

// distance is the number of letters to insert, remove, replace or swap with their neighbour to get from a to b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		next := make([]int, len(y)+1)
		next[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(y)]
}

// password is what may be one: in a URL, or in a text that was to be one, it stands between a colon and an "@". A port and an "@" further
// on look the same, and nothing is lost by not showing those.
var password = regexp.MustCompile(`(://[^\s/:@]*:|:[^\s@/])\S*@`)

// withoutPassword is text as a message may show it.
func withoutPassword(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	return password.ReplaceAllStringFunc(text, func(found string) string {
		end := 1
		if strings.HasPrefix(found, "://") {
			end = len("://") + strings.IndexByte(found[len("://"):], ':') + 1
		}
		return found[:end] + "…@"
	})
}
