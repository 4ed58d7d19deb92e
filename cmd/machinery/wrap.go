package main

import (
	"strings"
	"unicode/utf8"
)

// wrap breaks text between words into lines of at most width columns. A word
// that is longer stays whole.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// hanging is text after a prefix, wrapped so that all lines but the first
// begin where the text of the first does.
func hanging(prefix, text string, width int) string {
	indent := utf8.RuneCountInString(prefix)
	lines := wrap(text, max(width-indent, 20))
	return prefix + strings.Join(lines, "\n"+strings.Repeat(" ", indent)) + "\n"
}
