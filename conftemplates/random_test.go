package conftemplates

import (
	"fmt"
	"math/rand/v2"
)

// nasty are texts that break YAML, templates or both.
var nasty = []string{"", "no", "Yes", "1.10", "0x1f", "1e3", "12:30:45", "2001-01-01", "null", "~", "=", "<<", "a: b", "a:", "a #b", "#a", "*a", "&a",
	"- a", "-a", "?", "? a", "!a", "|", ">", "%a", "@a", "`a`", `"`, `a"b"`, `\`, `\n`, `C:\Users\x`, "it's", "'", "[a]", "{a: b}", "{{ a }}", "{% a %}",
	"{#", "a,b", "a\nb", "\n", "a\n", " a", "a ", "\ta", "a\tb", "ümläut", "日本語", "🙂", "\u00a0", "\u2028", "\ufeffa", "a\u0085b", "\x01", "\x7f", "...", "---", "a\rb", "<b>&'"}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// anyText is a text that is harmless or, if wild, may be anything.
func anyText(r *rand.Rand, wild bool) string {
	if !wild {
		return pick(r, "win10", "/srv/vms/", "Office-2019", "br", "qemu:///system", "192.168.30.", "ümläut") + fmt.Sprint(r.IntN(1000)) + pick(r, "", "x")
	}
	s := pick(r, nasty...)
	if r.IntN(3) == 0 {
		s += pick(r, nasty...)
	}
	return s
}
