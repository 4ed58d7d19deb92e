package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// liveLine is a line on stderr that is overwritten, if that is a terminal.
type liveLine struct {
	w    io.Writer
	term terminal
	last string
}

func (a *app) liveLine() *liveLine { return &liveLine{w: a.err, term: a.errTerm} }

// show replaces the line. It ends before the terminal's last column: a terminal
// that wraps there could not erase it again.
func (l *liveLine) show(text string) {
	if !l.term.live || text == l.last {
		return
	}
	l.last = text
	if most := max(l.term.width-1, 0); utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:max(most-3, 0)]) + strings.Repeat(".", min(3, most))
	}
	fmt.Fprint(l.w, "\r\x1b[K"+text)
}

// erase takes the line away.
func (l *liveLine) erase() {
	if l.last != "" {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
	l.last = ""
}

// share is how much of a number of bytes is done.
func share(done, total int64) string {
	const mib = 1 << 20
	if total <= 0 {
		return fmt.Sprintf("%d MiB", done/mib)
	}
	return fmt.Sprintf("%d of %d MiB, %d%%", done/mib, total/mib, done*100/total)
}
