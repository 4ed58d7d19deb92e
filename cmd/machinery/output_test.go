package main

import (
	"errors"
	"io"
	"os"
	"testing"
)

func TestPrintableLetsNothingMoveTheCursor(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\nwith lines":  "plain\ttext\nwith lines",
		"grün 日本":                  "grün 日本",
		"\x1b[31mred\x1b[0m":       `\x1b[31mred\x1b[0m`,
		"a\rb\bc":                  `a\rb\bc`,
		"bidi \u202e override":     `bidi \u202e override`,
		"broken \xff utf-8":        `broken \ufffd utf-8`,
		"null \x00 and bell \x07.": `null \x00 and bell \a.`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := oneLine("two\nlines"); got != `two\nlines` {
		t.Errorf("oneLine: %q", got)
	}
}

func TestAStreamThatNobodyReadsIsReportedOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	var causes []error
	g := &guarded{w: w, gone: func(err error) { causes = append(causes, err) }}
	for range 3 {
		if n, err := io.WriteString(g, "text"); n != 4 || err != nil {
			t.Errorf("a write should be taken: %d, %v", n, err)
		}
	}
	if len(causes) != 1 || !errors.Is(causes[0], errOutputGone) {
		t.Errorf("causes: %v", causes)
	}
}

func TestTheStatusOfAnErrorIsItsFailures(t *testing.T) {
	a := newApp(func() {}, func(error) {})
	a.err = io.Discard
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("usage"), exitUsage},
		{failed(errors.New("x")), exitFailed},
		{failed(nil), 0},
		{broken(errors.New("x")), exitUsage},
		{broken(nil), 0},
		{&failure{status: 7}, 7},
	} {
		if got := a.exitStatus(c.err); got != c.want {
			t.Errorf("%v: status %d, want %d", c.err, got, c.want)
		}
	}
}

func TestNearWordsAreFound(t *testing.T) {
	for word, want := range map[string]string{"qmeu": `did you mean "qemu"?`, "QEMU": `did you mean "qemu"?`, "vbox": "there are qemu, kvm"} {
		if got := meant(word, []string{"qemu", "kvm"}); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}
