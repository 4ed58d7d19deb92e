package config

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// labHost is a host with known interfaces, and with the real file system.
func labHost() *host {
	h := newHost(false)
	h.interfaces = func() ([]net.Interface, error) {
		return []net.Interface{{Name: "lo", Flags: net.FlagUp}, {Name: "br0", Flags: net.FlagUp}, {Name: "virbr0"}}, nil
	}
	return h
}

const wantMark = "\n-- want --\n"

// Each file of testdata/broken/SCHEMA is a broken configuration and, below a mark, every word that is said about it.
// With CONFIG_UPDATE=1 the words are written anew, to be read by a person before they are kept.
func TestBrokenFilesGiveExactlyTheseMessages(t *testing.T) {
	schemas := map[string]func() *Schema{"qemu": qemuSchema, "kvm": kvmSchema, "every": everySchema}
	cases, err := filepath.Glob("testdata/broken/*/*.txt")
	if err != nil || len(cases) < 80 {
		t.Fatalf("the corpus has %d files, and should have at least 80 (%v)", len(cases), err)
	}
	for _, path := range cases {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "testdata/broken/"), ".txt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), wantMark)
			schema := schemas[filepath.Base(filepath.Dir(path))]()
			doc, err := Options{}.parse(schema.Name+".yaml", []byte(input), schema, labHost())
			got := messages(t, doc, err)
			if os.Getenv("CONFIG_UPDATE") == "1" {
				if err := os.WriteFile(path, []byte(input+wantMark+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the messages differ (-want +got):\n%s", diff)
			}
		})
	}
}

// messages is all that a load says, with what depends on the machine that tests run on replaced.
func messages(t *testing.T, doc *Document, err error) string {
	t.Helper()
	var problems Problems
	switch {
	case errors.As(err, &problems):
	case err != nil:
		t.Fatalf("the error is not Problems: %v", err)
	default:
		problems = doc.Warnings()
	}
	if len(problems) == 0 {
		t.Fatal("nothing at all is said about this file")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(problems.Error(), wd, "$PWD") + "\n"
	return regexp.MustCompile(`its mode is \S+; this program runs as uid \d+`).ReplaceAllString(text, "its mode is $$MODE; this program runs as uid $$UID")
}
