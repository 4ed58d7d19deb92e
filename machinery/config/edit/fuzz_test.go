package edit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery/config"
)

// FuzzEdit holds that whatever file and whatever name there is, an edit either changes exactly what it is to or nothing at
// all, and that a machine which is added can be removed again, with the same bytes left.
func FuzzEdit(f *testing.F) {
	for _, tt := range added {
		f.Add([]byte(tt.before), "x", "10", "office")
		f.Add([]byte(tt.after), "x: y", "no", "- a")
	}
	for seed := range uint64(30) {
		r := newRandom(seed)
		f.Add([]byte(r.config()), r.name(), r.anything(), r.anything())
	}
	for _, pattern := range []string{"../testdata/good/*", "../testdata/broken/*/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, "win10_1", "10", "tag")
		}
	}
	f.Add([]byte("interface: br0\n"), "x", "", "a")
	f.Add([]byte("machines: ~"), "x", "", "a")
	f.Add([]byte("a:\n  machines: &a\n    b: *a"), "b", "", "a")
	f.Fuzz(func(t *testing.T, data []byte, name, version, tag string) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 10*time.Second {
				t.Fatalf("%d bytes took %v", len(data), took)
			}
		}()
		parse := func(data []byte) *File {
			e, err := Parse("test.yaml", data, testSchema())
			var problems config.Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatalf("%T: %v", err, err)
			}
			return e
		}
		e := parse(data)
		if e == nil {
			return
		}
		before := string(e.Bytes())
		if before != string(data) {
			t.Fatal("Bytes is not what was read")
		}
		count := len(e.machineNames())
		if err := e.AddMachine(name, []Setting{{"ip", "10.99.0.1"}, {"version", version}, {"tags", []string{tag}}}); err != nil {
			if string(e.Bytes()) != before || err.Error() == "" {
				t.Fatalf("after the error %v the text is\n%s", err, e.Bytes())
			}
		} else {
			after := parse(e.Bytes())
			if names := after.machineNames(); len(names) != count+1 {
				t.Fatalf("there were %d machines and are %q:\n%s", count, names, e.Bytes())
			}
			if err := after.RemoveMachine(name); err != nil {
				t.Fatalf("%v\n%s", err, e.Bytes())
			}
			if count > 0 && string(after.Bytes()) != before {
				t.Fatalf("added and removed, -want +got:\n%s", cmp.Diff(strings.SplitAfter(before, "\n"), strings.SplitAfter(string(after.Bytes()), "\n")))
			}
		}
		e = parse(data)
		for _, name := range e.machineNames() {
			before, count := string(e.Bytes()), len(e.machineNames())
			if err := e.RemoveMachine(name); err != nil {
				if string(e.Bytes()) != before {
					t.Fatalf("after the error %v the text is\n%s", err, e.Bytes())
				}
				continue
			}
			if names := parse(e.Bytes()).machineNames(); len(names) != count-1 {
				t.Fatalf("of %d machines %q are left:\n%s\nwas:\n%s", count, names, e.Bytes(), before)
			}
		}
	})
}

// machineNames are the names of the machines that stand in the file itself.
func (f *File) machineNames() []string {
	m, err := f.locate()
	if err != nil {
		return nil
	}
	return m.names()
}
