package main

import (
	"strings"
	"unicode/utf8"

	"github.com/machineries/machineries/conformance/report"
)

// hanging is text after a prefix, wrapped so that all lines but the first
// begin where the text of the first does.
func hanging(prefix, text string, width int) string {
	indent := utf8.RuneCountInString(prefix)
	lines := report.Wrap(text, max(width-indent, 20))
	return prefix + strings.Join(lines, "\n"+strings.Repeat(" ", indent)) + "\n"
}
