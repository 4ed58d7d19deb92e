package edit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery/config"
)

func TestRemovingAMachineTakesWhatBelongsToIt(t *testing.T) {
	for _, tt := range []struct{ name, remove, before, after string }{
		{"comments above, on its lines and below it go; those set apart stay", "b", `machines:
  # of all

  # of a
  a:
    ip: 1 # of a
    # deep of a

  # set apart

  # of b,
  # in two lines
  b: # of b
    ip: 2 # of b
    # deep of b

    # deep of b, further down
  # of c
  c:
    ip: 3
`, `machines:
  # of all

  # of a
  a:
    ip: 1 # of a
    # deep of a

  # set apart

  # of c
  c:
    ip: 3
`},
		{"the first, and the empty line below it", "a", "machines:\n  a:\n    ip: 1\n\n  b:\n    ip: 2\n", "machines:\n  b:\n    ip: 2\n"},
		{"the last, and the empty line above it", "b", "machines:\n  a:\n    ip: 1\n\n  b:\n    ip: 2\n\ninterface: x\n", "machines:\n  a:\n    ip: 1\n\ninterface: x\n"},
		{"one between, and one of two empty lines", "b", "machines:\n  a: {ip: 1}\n\n  b: {ip: 2}\n\n  c: {ip: 3}\n", "machines:\n  a: {ip: 1}\n\n  c: {ip: 3}\n"},
		{"the only empty line stays", "b", "machines:\n  a: {ip: 1}\n\n  b: {ip: 2}\n  c: {ip: 3}\n", "machines:\n  a: {ip: 1}\n\n  c: {ip: 3}\n"},
		{"without a line break at the end", "b", "machines:\n  a: {ip: 1}\n  b: {ip: 2}", "machines:\n  a: {ip: 1}"},
		{"the only one", "a", "machines: # none\n  a:\n    ip: 1\n\n# end\n", "machines: # none\n\n# end\n"},
		{"the only one, in braces", "a", "machines: { a: {ip: 1}, }\n", "machines: { }\n"},
		{"the only one, of a section with a tag", "a", "machines: !!map\n  a:\n    ip: 1\n", "machines: !!map {}\n"},
		{"the first in braces", "a", "machines: {a: {ip: 1}, b: {ip: 2}}\n", "machines: {b: {ip: 2}}\n"},
		{"the last in braces", "b", "machines: {a: {ip: 1}, b: {ip: 2} }\n", "machines: {a: {ip: 1} }\n"},
		{"between comments in braces", "b", "machines: {\n  a: {ip: 1}, # of a\n  # of b\n  b: {ip: 2}, # of b\n  c: {ip: 3} # of c\n}\n",
			"machines: {\n  a: {ip: 1}, # of a\n  c: {ip: 3} # of c\n}\n"},
		{"the last of those with comments in braces", "c", "machines: {\n  a: {ip: 1}, # of a\n\n  # of c\n  c: {ip: 3} # of c\n}\n",
			"machines: {\n  a: {ip: 1} # of a\n\n}\n"},
		{"a text whose lines look like comments and keys", "a", "machines:\n  a:\n    ip: |\n      # no comment\n      b:\n\n       x\n  b:\n    ip: \"2\n      # text\"\n", "machines:\n  b:\n    ip: \"2\n      # text\"\n"},
		{"names with quotes, an anchor and a tag", "x: y", "machines:\n  \"x: y\" :\n    ip: 1\n  &n z: {ip: 2}\n", "machines:\n  &n z: {ip: 2}\n"},
		{"a name with an anchor", "z", "machines:\n  \"x: y\" :\n    ip: 1\n  &n !!str z: {ip: 2}\n", "machines:\n  \"x: y\" :\n    ip: 1\n"},
		{"a machine with nothing in it", "a", "machines:\n  a:\n  b:\n    ip: 2\n", "machines:\n  b:\n    ip: 2\n"},
		{"a machine that is wrong", "a", "machines:\n  a: [1,\n   2]\n  b:\n    ip: 2\n", "machines:\n  b:\n    ip: 2\n"},
		{"comments indented with a tab", "a", "machines:\n  a:\n    ip: 1\n\t# deep\n  b:\n    ip: 2\n", "machines:\n  b:\n    ip: 2\n"},
		{"old line breaks", "b", "machines:\r  a:\r    ip: 1\r  b:\r    ip: 2\rinterface: x\r", "machines:\r  a:\r    ip: 1\rinterface: x\r"},
		{"a text above that would take the empty lines", "b", "machines:\n  a:\n    ip: |+\n      1\n  b:\n    ip: 2\n\n\ninterface: x\n", "machines:\n  a:\n    ip: |+\n      1\ninterface: x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t, tt.before)
			if err := f.RemoveMachine(tt.remove); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(tt.after, "\n"), strings.Split(string(f.Bytes()), "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestASectionThatMayBeAbsentAndMayNotBeEmptyGoesWithTheLastMachine(t *testing.T) {
	schema := testSchema()
	schema.Fields[2].Optional = true
	for _, before := range []string{"interface: br0\n", "# mine\ninterface: br0 # x\n\n# end\n", "{interface: br0}", "binaries:\n  qemu: x\n\ninterface: br0"} {
		f, err := Parse("test.yaml", []byte(before), schema)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.AddMachine("x", simple); err != nil {
			t.Fatal(err)
		}
		if err := f.RemoveMachine("x"); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse("test.yaml", f.Bytes(), schema); err != nil || string(f.Bytes()) != before {
			t.Errorf("%q has become %q, %v", before, f.Bytes(), err)
		}
	}
}

func TestAnEmptySectionTakesTheNextMachine(t *testing.T) {
	for _, text := range []string{"", "# only this\n", "---\n", "machines:", "machines: ~ # none\n", "machines: null\ninterface: x", "machines: {}", "interface: x", "{}", "{interface: x}", "machines: &m\n", "machines: ''\ninterface: x\n"} {
		f, err := Parse("test.yaml", []byte(text), testSchema())
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for range 3 {
			for _, name := range []string{"x", "y"} {
				if err := f.AddMachine(name, append([]Setting{{"ip", name}}, simple[2:]...)); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
			if names := f.machineNames(); strings.Join(names, " ") != "x y" {
				t.Errorf("%q has become\n%s", text, f.Bytes())
			}
			for _, name := range []string{"y", "x"} {
				if err := f.RemoveMachine(name); err != nil {
					t.Fatalf("%q: %v\n%s", text, err, f.Bytes())
				}
			}
		}
	}
}

// refusals are edits that are errors, with the whole message.
func TestAnEditThatCannotBeMadeSaysWhereAndWhatToDo(t *testing.T) {
	const file = "interface: br0\nmachines:\n  a:\n    ip: 1\n  b:\n    ip: 2\n"
	add := func(name string, settings ...Setting) func(*File) error {
		return func(f *File) error { return f.AddMachine(name, settings) }
	}
	remove := func(name string) func(*File) error { return func(f *File) error { return f.RemoveMachine(name) } }
	ip := Setting{"ip", "9"}
	for _, tt := range []struct {
		name, file string
		edit       func(*File) error
		want       string
	}{
		{"a name that is there", file, add("b", ip), `test.yaml:5:3: the machine "b" is here already
      hint: give the new machine another name, or remove this one first`},
		{"a name that is not there", file, remove("c"), `test.yaml:2:1: there is no machine "c"
      hint: the machines in the file are a and b`},
		{"no machine at all", "interface: br0\n", remove("c"), `test.yaml: there is no machine "c"
      hint: there are no machines in the file`},
		{"a name that is there twice", "machines:\n  a:\n    ip: 1\n  a:\n    ip: 2\n", remove("a"), `test.yaml:4:3: the machine "a" is already on line 2
      hint: which of the two is meant a program cannot know: remove one in an editor`},
		{"a section that is there twice", "machines:\n  a:\n    ip: 1\nmachines:\n", remove("a"), `test.yaml:4:1: the key "machines" is already on line 1
      hint: remove one of the two first`},
		{"machines that are none", "machines:\n  - a\n", add("x", ip), `test.yaml:2:3: this is not a section with a name for each machine
      hint: write each machine as its name and a colon, with its keys indented below`},
		{"machines of an alias", "other: &o {a: {ip: 1}}\nmachines: *o\n", remove("a"), `test.yaml:2:11: the machines are those of another section, to which *o refers
      hint: make this edit in an editor, where that section is`},
		{"machines that others refer to", "machines: &o\n  a: {ip: 1}\nother: *o\n", add("x", ip), `test.yaml:3:8: *o refers to all machines of the file, so that one more or less would change what is here as well
      hint: make this edit in an editor`},
		{"machines of a merged file", "other: &o\n  machines:\n    a: {ip: 1}\n<<: *o\n", add("x", ip), `test.yaml:4:1: the machines come from a section that is merged here
      hint: make this edit in an editor, where that section is`},
		{"a merged machine", "other: &o\n  a: {ip: 1}\nmachines:\n  <<: *o\n  b: {ip: 2}\n", remove("a"), `test.yaml:3:1: the machine "a" is in a section that is merged here
      hint: remove it in an editor, where that section is`},
		{"the name of a merged machine", "other: &o\n  a: {ip: 1}\nmachines:\n  <<: *o\n  b: {ip: 2}\n", add("a", ip), `test.yaml:3:1: the machine "a" is there already, in a section that is merged here
      hint: give the new machine another name`},
		{"values that others use", "machines:\n  a: &a\n    ip: 1\n  b:\n    <<: *a\n    ip: 2\n", remove("a"), `test.yaml:5:9: the machine "a" cannot be removed: *a refers here to what it has
      hint: write these values out where they are used, and remove the machine then`},
		{"a value within that others use", "machines:\n  a:\n    ip: 1\n    tags: &t [x]\n  b:\n    ip: 2\n    tags: *t\n", remove("a"), `test.yaml:7:11: the machine "a" cannot be removed: *t refers here to what it has
      hint: write these values out where they are used, and remove the machine then`},
		{"a key with a question mark", "machines:\n  ? a\n  : ip: 1\n  b:\n    ip: 2\n", remove("a"), `test.yaml:2:5: this key does not begin its line, so a program cannot edit it
      hint: nothing was changed; make this edit in an editor`},
		{"a text that ends the file", "machines:\n  a:\n    ip: |\n      1", add("x", ip), `test.yaml:3:9: the file ends with this text and has no line break there, so that nothing can be written below it without changing it
      hint: add a line break at the end of the file`},
		{"comments in braces in the way", "machines: {a: {ip: 1}, # one\n b: {ip: 2}}\n", remove("a"), `test.yaml:1:12: there are comments around this section, and it does not have its lines for itself, so a program cannot remove it
      hint: nothing was changed; make this edit in an editor`},
		{"values that are wrong, all at once", file, add("x", Setting{"mac", "zz"}, Setting{"port", 0}, Setting{"env", nil}), `test.yaml: machines.x.ip: this key is missing
test.yaml: machines.x.mac: "zz" is not a MAC address
      hint: write six pairs of hexadecimal digits with colons between them, such as 52:54:00:12:34:56
test.yaml: machines.x.port: "0" is out of range
      hint: write a whole number from 1 to 65535`},
		{"a value that is another's", file, add("x", Setting{"ip", "2"}), `test.yaml: machines.x.ip: "2" is already the ip of machines.b (line 6)
      hint: each needs a value of its own`},
		{"a key that is none", file, add("x", ip, Setting{"ipp", "1"}), `test.yaml: machines.x.ipp: there is no such key
      hint: the keys are ip, mac, version, port, tags, extra, env and disks`},
		{"a key twice", file, add("x", ip, ip), `test.yaml: machines.x.ip: this key is given twice`},
		{"no name", file, add(" ", ip), `test.yaml: machines: a machine name is empty
      hint: give the machine a name`},
		{"a name that cannot be seen", file, add("a\u200b", ip), `test.yaml: machines: the machine name "a\u200b" holds a character that cannot be printed
      hint: use letters, digits, dots, dashes and underscores`},
		{"a name that is no text", file, add("a\xff", ip), `test.yaml: machines: this is not UTF-8 text
      hint: a configuration can hold nothing else`},
		{"a name that is too long", file, add(strings.Repeat("a", 501), ip), `test.yaml: machines: the machine name is 501 bytes long, and at most 500 are possible
      hint: give the machine a shorter name`},
		{"a value that is no text", file, add("x", Setting{"ip", "\xff"}), `test.yaml: machines.x.ip: this is not UTF-8 text
      hint: a configuration can hold nothing else`},
		{"an element that is empty", file, add("x", ip, Setting{"tags", []string{"a", " "}}), `test.yaml: machines.x.tags[1]: an element of a list cannot be empty
      hint: leave it out, or give it a value`},
		{"all that is wrong with what was given", file, add("", Setting{"ip", 1.5}, Setting{"x", 1}), `test.yaml: machines: a machine name is empty
      hint: give the machine a name
test.yaml: machines."".x: there is no such key
      hint: the keys are ip, mac, version, port, tags, extra, env and disks
test.yaml: machines."".ip: a Go float64 cannot be a text`},
		{"a Go type that does not fit", file, add("x", ip, Setting{"extra", 1}), `test.yaml: machines.x.extra: a Go int cannot be a section with keys of its own`},
		{"another Go type that does not fit", file, add("x", Setting{"ip", 1.5}), `test.yaml: machines.x.ip: a Go float64 cannot be a text`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t, tt.file)
			err := tt.edit(f)
			if err == nil {
				t.Fatalf("there was no error, but\n%s", f.Bytes())
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
			if problems := (config.Problems{}); !errors.As(err, &problems) {
				t.Errorf("it is no config.Problems but a %T", err)
			}
			if string(f.Bytes()) != tt.file {
				t.Errorf("the file has changed:\n%s", f.Bytes())
			}
		})
	}
}
