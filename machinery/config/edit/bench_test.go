//go:build unix

package edit

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// many is a file with so many machines, as the templates have them.
func many(n int) string {
	var b strings.Builder
	b.WriteString("# The bridge.\ninterface: br0\n\nmachines:\n")
	for i := range n {
		fmt.Fprintf(&b, "  win10_%d:\n    # The address at which the guest answers.\n    ip: 10.%d.%d.1\n    mac: 52:54:00:12:%02x:%02x\n    version: \"10\"\n"+
			"    port: 8000\n    tags:\n      - office # with macros\n      - dotnet\n    extra:\n      a: \"# %d\"\n", i, i/256, i%256, i/256, i%256, i)
	}
	return b.String()
}

// fastEnough is how long an edit of a file with 2,000 machines may take, from reading it to the new file on the disk. It is to take
// half a second at most, and takes half of that; the race detector, and a host with much else to do, need more.
const fastEnough = 10 * time.Second

func TestAFileWithTwoThousandMachinesIsEditedAtOnce(t *testing.T) {
	text := many(2000)
	path := write(t, text)
	for _, tt := range []struct {
		what string
		edit func(f *File) error
	}{
		{"adding", func(f *File) error { return f.AddMachine("x", simple) }},
		{"removing", func(f *File) error { return f.RemoveMachine("x") }},
	} {
		before, start := read(t, path), time.Now()
		if err := Update(path, testSchema(), tt.edit); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		t.Logf("%s took %v", tt.what, took)
		if took > fastEnough || read(t, path) == before {
			t.Errorf("%s took %v; the file is another: %v", tt.what, took, read(t, path) != before)
		}
	}
	if read(t, path) != text {
		t.Error("the file is not as it was")
	}
}

func BenchmarkAddToTwoThousandMachines(b *testing.B) {
	data := []byte(many(2000))
	for b.Loop() {
		f, err := Parse("test.yaml", data, testSchema())
		if err != nil {
			b.Fatal(err)
		}
		if err := f.AddMachine("x", simple); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRemoveFromTwoThousandMachines(b *testing.B) {
	data := []byte(many(2000))
	for b.Loop() {
		f, err := Parse("test.yaml", data, testSchema())
		if err != nil {
			b.Fatal(err)
		}
		if err := f.RemoveMachine("win10_1000"); err != nil {
			b.Fatal(err)
		}
	}
}
