package edit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/machinery/config"
)

// testSchema is a schema with all that a machine can have.
func testSchema() *config.Schema {
	return &config.Schema{Name: "test", Fields: []config.Field{
		{Key: "interface", Type: config.String{}},
		{Key: "binaries", Optional: true, Type: config.Section{Fields: []config.Field{{Key: "qemu", Optional: true, Type: config.String{}}}}},
		{Key: "machines", Type: config.Machines{Unique: []string{"ip"}, Fields: machineFields}},
	}}
}

var machineFields = []config.Field{
	{Key: "ip", Type: config.String{}},
	{Key: "mac", Optional: true, AllowEmpty: true, Type: config.MACAddress{ToLower: true}},
	{Key: "version", Optional: true, AllowEmpty: true, Type: config.String{}},
	{Key: "port", Optional: true, Default: 8000, Type: config.Between(1, 65535)},
	{Key: "tags", Optional: true, AllowEmpty: true, Type: config.List{}},
	{Key: "extra", Optional: true, Type: config.Section{Fields: []config.Field{{Key: "a", Type: config.String{}}}}},
	{Key: "env", Optional: true, AllowEmpty: true, Type: config.Dict{}},
	{Key: "disks", Optional: true, AllowEmpty: true, Type: config.DictList{Fields: []config.Field{{Key: "path", Type: config.String{}}, {Key: "bus", Optional: true, Type: config.String{}}}}},
}

var simple = []Setting{{"tags", []string{"office", "dot net"}}, {"ip", "10.0.0.9"}, {"version", "10"}, {"port", 8001}}

func open(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("test.yaml", []byte(text), testSchema())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

// added are files before and after a machine is added, "---8<---" between them.
var added = []struct{ name, before, after string }{
	{"lines, as the templates have them", `interface: br0
machines:
  a:
    # The address.
    ip: 10.0.0.1
    tags:
      - one
`, `interface: br0
machines:
  a:
    # The address.
    ip: 10.0.0.1
    tags:
      - one
  x:
    ip: 10.0.0.9
    version: "10"
    port: 8001
    tags:
      - office
      - dot net
`},
	{"four columns, level lists, single quotes, empty lines between, and a key behind", `machines:
    a:
        ip: 10.0.0.1
        version: '7'

    b:
        ip: 10.0.0.2
        tags:
        - one
        # - two

# The bridge.
interface: br0
`, `machines:
    a:
        ip: 10.0.0.1
        version: '7'

    b:
        ip: 10.0.0.2
        tags:
        - one
        # - two

    x:
        ip: 10.0.0.9
        version: '10'
        port: 8001
        tags:
        - office
        - dot net

# The bridge.
interface: br0
`},
	{"no machine yet", "machines:\ninterface: br0\n", `machines:
  x:
    ip: 10.0.0.9
    version: "10"
    port: 8001
    tags:
      - office
      - dot net
interface: br0
`},
	{"no machine yet but an example", "machines:   # none\n    # a:\n    #   ip: 1\n\ninterface: br0", `machines:   # none
    # a:
    #   ip: 1

    x:
      ip: 10.0.0.9
      version: "10"
      port: 8001
      tags:
        - office
        - dot net

interface: br0`},
	{"empty braces", "machines: {}\ninterface: br0\n", `machines: {
  x: {ip: 10.0.0.9, version: "10", port: 8001, tags: [office, dot net]}}
interface: br0
`},
	{"empty braces with a comment", "machines: { # none yet\n  # but soon\n  }\ninterface: br0\n", `machines: { # none yet
  x: {ip: 10.0.0.9, version: "10", port: 8001, tags: [office, dot net]}
  # but soon
  }
interface: br0
`},
	{"empty braces with a comment in JSON", "{\"interface\": \"br0\",\n \"machines\": { # none yet\n }}\n", `{"interface": "br0",
 "machines": { # none yet
   "x": {"ip": "10.0.0.9", "version": "10", "port": 8001, "tags": ["office", "dot net"]}
 }}
`},
	{"braces", "interface: br0\nmachines: {a: {ip: 10.0.0.1,tags: []},b: {ip: 10.0.0.2},}\n",
		`interface: br0
machines: {a: {ip: 10.0.0.1,tags: []},b: {ip: 10.0.0.2},x: {ip: 10.0.0.9, version: "10", port: 8001, tags: [office, dot net]},}
`},
	{"braces on lines with comments", `machines: {
  a: {ip: 10.0.0.1},  # one
  b: {ip: 10.0.0.2}   # two
}
`, `machines: {
  a: {ip: 10.0.0.1},  # one
  b: {ip: 10.0.0.2},   # two
  x: {ip: 10.0.0.9, version: "10", port: 8001, tags: [office, dot net]}
}
`},
	{"JSON", `{"interface": "br0", "machines": {
    "a": {"ip": "10.0.0.1"}
}}`, `{"interface": "br0", "machines": {
    "a": {"ip": "10.0.0.1"},
    "x": {"ip": "10.0.0.9", "version": "10", "port": 8001, "tags": ["office", "dot net"]}
}}`},
	{"machines in braces on lines", "machines:\n  a: {ip: 10.0.0.1}\n", `machines:
  a: {ip: 10.0.0.1}
  x: {ip: 10.0.0.9, version: "10", port: 8001, tags: [office, dot net]}
`},
	{"windows", "\uFEFFmachines:\r\n  a:\r\n    ip: 10.0.0.1 # ü\r\n    tags: [a]", "\uFEFFmachines:\r\n  a:\r\n    ip: 10.0.0.1 # ü\r\n    tags: [a]\r\n  x:\r\n    ip: 10.0.0.9\r\n    version: \"10\"\r\n    port: 8001\r\n    tags: [office, dot net]"},
	{"a text that keeps its empty lines", "machines:\n  b:\n    ip: 1\n\n  a:\n    ip: |+\n      10\n\n", `machines:
  b:
    ip: 1

  a:
    ip: |+
      10

  x:
    ip: 10.0.0.9
    version: "10"
    port: 8001
    tags:
      - office
      - dot net
`},
	{"document marks and anchors", "%YAML 1.1\n---\nmachines: &all\n  a: &a\n    ip: 1\n    version: &v no\n  b:\n    <<: *a\n    ip: 2\n    # done\n...\n", `%YAML 1.1
---
machines: &all
  a: &a
    ip: 1
    version: &v no
  b:
    <<: *a
    ip: 2
    # done
  x:
    ip: 10.0.0.9
    version: "10"
    port: 8001
    tags:
      - office
      - dot net
...
`},
}

func TestAMachineIsAddedInTheLayoutOfTheFile(t *testing.T) {
	for _, tt := range added {
		t.Run(tt.name, func(t *testing.T) {
			f := open(t, tt.before)
			if err := f.AddMachine("x", simple); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(tt.after, "\n"), strings.Split(string(f.Bytes()), "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			f = open(t, tt.after)
			if err := f.RemoveMachine("x"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.before, string(f.Bytes())); diff != "" {
				t.Errorf("removed again, -want +got:\n%s", diff)
			}
		})
	}
}

func TestFilesAsPeopleHaveThemTakeAMachineAndGiveItBack(t *testing.T) {
	files, err := filepath.Glob("../testdata/good/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Parse(file, data, testSchema())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.AddMachine("x", simple); err != nil {
			t.Fatal(err)
		}
		if err := f.RemoveMachine("x"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(data), string(f.Bytes())); diff != "" {
			t.Errorf("%s: -want +got:\n%s", file, diff)
		}
	}
}
