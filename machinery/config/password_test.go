package config

import (
	"fmt"
	"strings"
	"testing"
)

// A URI with a password is refused; wherever in a file it is, and whatever else is wrong with it, nothing that is said shows it.
func TestNoMessageShowsThePasswordOfAURI(t *testing.T) {
	schema := &Schema{Name: "x", Fields: []Field{
		{Key: "uri", Type: HypervisorURI{}, Doc: "A hypervisor."},
		{Key: "url", Type: HTTPUrl{}, Doc: "A page."},
		{Key: "number", Type: Int{}, Doc: "A number."},
		{Key: "words", Type: List{Of: HypervisorURI{}}, Doc: "Words."},
	}}
	for _, text := range []string{
		"uri: qemu+tcp://user:hushed@host/system",
		"uri: qemu+tcp://user:hushed/x@host/system",
		`uri: "qemu+tcp://user\x3ahushed@host/system"`,
		"uri: \"qemu+tcp://user:\\\n  hushed@host/system\"",
		"uri: qemu+tcp://user:hushed%zz@host/system",
		"uri: qemu+tcp://user:hushed#x@host/system",
		"uri: qemu+tcp://user:hushed?x@host/system",
		"uri: qemu+tcp://user:hushed@host/sys tem",
		"uri: >-\n  qemu+tcp://user:hushed@host/system",
		"uri: [qemu+tcp://user:hushed@host/system]",
		"uri: qemu+tcp://user:hushed@host/system: x",
		"uri: \"qemu+tcp://user:hushed@host/system",
		"uri: qemu+tcp:/user:hushed@host/system",
		"uri: user:hushed@host",
		"uri:qemu+tcp://user:hushed@host/system",
		"uri:qemu+tcp://user:hushed@host/system\nnumber: 1",
		"{uri: qemu+tcp://user:hushed@host/system, x: 1",
		"url: http://user:hushed@host:0/",
		"url: ftp://user:hushed@host/",
		"url: http://user:hushed/@host/",
		"number: qemu+tcp://user:hushed@host/system",
		"words: [qemu:///system, qemu+tcp://user:hushed@host/system]",
		"rui: qemu+tcp://user:hushed@host/system",
		"rui: {qemu+tcp://user:hushed@host/system: 1}",
		"qemu+tcp://user:hushed@host/system",
	} {
		doc, err := Options{}.Parse("x.yaml", []byte(text+"\n"), schema)
		if err == nil {
			t.Errorf("%q is taken", text)
		}
		said := fmt.Sprint(err)
		if doc != nil {
			said += doc.Problems().Error()
		}
		if strings.Contains(said, "hushed") {
			t.Errorf("of %q is shown:\n%s", text, said)
		}
	}
}

func TestOnlyWhatMayBeAPasswordIsTakenOutOfAMessage(t *testing.T) {
	for text, want := range map[string]string{
		"qemu+ssh://user@host:22/system":           "qemu+ssh://user@host:22/system",
		"http://host:80/":                          "http://host:80/",
		"52:54:00:12:34:56":                        "52:54:00:12:34:56",
		"x: user@host":                             "x: user@host",
		"qemu+ssh://u:p@h/system":                  "qemu+ssh://u:…@h/system",
		"see http://a:b@c and http://d:e@f":        "see http://a:…@c and http://d:…@f",
		"user:p@ss@host":                           "user:…@host",
		"qemu+tcp:/user:p@host/system is no URI":   "qemu+tcp:/user:…@host/system is no URI",
		"qemu+tcp://user:with/slash@host is wrong": "qemu+tcp://user:…@host is wrong",
	} {
		if got := withoutPassword(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
