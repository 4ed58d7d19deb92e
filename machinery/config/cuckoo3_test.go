package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cuckoo3 are the lines of docs/cuckoo3-config.md: what each does here.
var cuckoo3 = map[string]func(t *testing.T, dir string){
	"an optional key is missing":                            reads("kvm", "", "agent_port", 8000),
	"an optional key is null":                               refused("kvm", "agent_port:", "agent_port: there is no value"),
	"tags are null":                                         reads("kvm", "tags:", "tags", []string(nil)),
	"tags are an empty list":                                reads("kvm", "tags: []", "tags", []string{}),
	"a required key that may be empty is missing":           refused("kvm", "tags: gone", "tags: this key is missing"),
	"a text is a number":                                    reads("kvm", "os_version: 18.10", "os_version", "18.10"),
	"a text is a truth value":                               reads("kvm", "os_version: no", "os_version", "no"),
	"a text is a list":                                      refused("kvm", "os_version: [1]", "this is a list, but a text is wanted"),
	"a text has white space around it":                      reads("kvm", `os_version: " 10 "`, "os_version", "10"),
	"a text is blank":                                       refused("kvm", `os_version: " "`, "the text is empty"),
	"platform in capital letters":                           reads("kvm", "platform: Windows", "platform", "windows"),
	"a MAC address in capital letters":                      reads("kvm", "mac_address: 52:54:00:AB:CD:EF", "mac_address", "52:54:00:ab:cd:ef"),
	"a MAC address of digits without quotes":                reads("kvm", "mac_address: 52:54:00:12:34:56", "mac_address", "52:54:00:12:34:56"),
	"a number in quotes":                                    reads("kvm", `agent_port: "8000"`, "agent_port", 8000),
	"a number with a fraction":                              refused("kvm", "agent_port: 8000.9", "is not a whole number"),
	"a number is a truth value":                             refused("kvm", "agent_port: true", "is not a whole number"),
	"a number is no number":                                 refused("kvm", "agent_port: abc", "is not a whole number"),
	"a number is out of its bounds":                         refusedEach("kvm", "agent_port: ", "is out of range", "0", "-1", "65536"),
	"a number is larger than any":                           refused("kvm", "agent_port: 1"+strings.Repeat("0", 30), "is out of range"),
	"a list is a single text":                               reads("kvm", "tags: office", "tags", []string{"office"}),
	"a list has empty elements":                             warned("kvm", `tags: [a, ~, "", 0, false]`, "tags", []string{"a", "0", "false"}, "is empty, and left out"),
	"a MAC address without colons":                          refused("kvm", "mac_address: 52-54-00-12-34-56", "is not a MAC address"),
	"a MAC address that no card has":                        warned("kvm", "mac_address: ff:ff:ff:ff:ff:ff", "mac_address", "ff:ff:ff:ff:ff:ff", "broadcast"),
	"a file is a directory":                                 refused("qemu", "qcow2_path: DIR", "is a directory, not a file"),
	"the interface at the top does not exist":               refused("kvm", "interface at the top: br9", "there is no network interface"),
	"the interface at the top is down":                      reads("kvm", "interface at the top: virbr0", "label", "win10_1"),
	"the interface of a machine for QEMU does not exist":    refused("qemu", "interface: br9", "there is no network interface"),
	"the interface of a machine for libvirt does not exist": reads("kvm", "interface: br9", "interface", "br9"),
	"a key is unknown":                                      warned("kvm", "agentport: 1", "agent_port", 8000, `did you mean "agent_port"?`),
	"a machine's name is a number":                          nameIs("1", "1"),
	"a key stands twice":                                    refused("kvm", "ip: 192.0.2.1\n    ip: 192.0.2.2", "this key is already on line"),
	"an address is no IP address":                           refused("kvm", "ip: win10.example.org", "is not an IP address"),
	"two machines have the same address":                    twice("kvm", "ip: 192.0.2.1", "is already the ip of machines.a (line"),
	"two machines have the same disk":                       twice("qemu", "qcow2_path: FILE|qcow2_path: LINK", "the qcow2_path of machines.a (line"),
	"two machines of libvirt have the same MAC address":     twice("kvm", "mac_address: 52:54:00:12:34:56", ""),
	"two machines have an empty MAC address":                twice("qemu", `mac_address: ""`, ""),
	"enabled is false":                                      warned("kvm", "enabled: false", "label", "win10_1", "switches nothing off"),
	"a falsy value":                                         falsy,
	"a bound of 0":                                          boundOfZero,
	"an empty section is looked up":                         elsewhere,
}

// aFile is a configuration with a machine of the name, in which a line has been put in the place of the one with its key.
func aFile(schema, name, line, dir string) string {
	file, link := filepath.Join(dir, "disk"), filepath.Join(dir, "link")
	top := "dsn: qemu:///system\ninterface: br0\n"
	lines := []string{"label: win10_1", "ip: 192.0.2.9", "platform: windows", "os_version: 10", "architecture: amd64", "tags: []"}
	if schema == "qemu" {
		program := "testdata/bin/qemu-img"
		top = "interface: br0\ndisposable_copy_dir:\nbinaries: {qemu_img: " + program + ", qemu_system_x86_64: " + program + "}\n"
		lines[0] = "qcow2_path: " + filepath.Join(dir, name)
		lines = append(lines, "snapshot_path: "+filepath.Join(dir, name+"s"), "machineinfo_path: "+file)
	}
	line = strings.NewReplacer("DIR", dir, "FILE", file, "LINK", link).Replace(line)
	key, value, _ := strings.Cut(line, ":")
	switch {
	case key == "interface at the top":
		top = strings.Replace(top, "br0", strings.TrimSpace(value), 1)
		line = ""
	case value == " gone":
		line = ""
	}
	text := ""
	for _, l := range lines {
		if have, _, _ := strings.Cut(l, ":"); have != key {
			text += "    " + l + "\n"
		}
	}
	if line != "" {
		text += "    " + line + "\n"
	}
	return top + "machines:\n  " + name + ":\n" + text
}

// loaded reads a file as on a host that has br0, and virbr0, which is down.
func loaded(schema, text string) (*Document, error) {
	s := kvmSchema()
	if schema == "qemu" {
		s = qemuSchema()
	}
	return Options{}.parse(schema+".yaml", []byte(text), s, labHost())
}

// warned is a line that is read so, with a warning.
func warned(schema, line, key string, want any, warning string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		doc, err := loaded(schema, aFile(schema, "a", line, dir))
		if err != nil {
			t.Fatal(err)
		}
		if warning == "" && len(doc.Warnings()) > 0 || !strings.Contains(doc.Warnings().Error(), warning) {
			t.Errorf("warnings: %v; want %q", doc.Warnings(), warning)
		}
		var got any
		switch m := doc.Machines()[0]; want.(type) {
		case int:
			got = m.Int(key)
		case []string:
			got = m.Strings(key)
		default:
			got = m.String(key)
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// reads is a line that is read so, without a word.
func reads(schema, line, key string, want any) func(*testing.T, string) {
	return warned(schema, line, key, want, "")
}

// refused is a line that is an error.
func refused(schema, line, problem string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		_, err := loaded(schema, aFile(schema, "a", line, dir))
		if err == nil || !strings.Contains(err.Error(), problem) || strings.Count(err.Error(), schema+".yaml:") != 1 {
			t.Errorf("%v; want the one problem %q", err, problem)
		}
	}
}

func refusedEach(schema, line, problem string, values ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, v := range values {
			refused(schema, line+v, problem)(t, dir)
		}
	}
}

func nameIs(written, want string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		doc, err := loaded("kvm", aFile("kvm", written, "", dir))
		if err != nil || doc.Machines()[0].Name != want {
			t.Errorf("%v, %v", doc.Machines(), err)
		}
	}
}

// twice are two machines with the same line, or with one each. No problem means that they are taken.
func twice(schema, line, problem string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		first, second, differ := strings.Cut(line, "|")
		if !differ {
			second = first
		}
		other := strings.ReplaceAll(strings.ReplaceAll(aFile(schema, "b", second, dir), "label: win10_1", "label: win10_2"), "192.0.2.9", "192.0.2.8")
		_, machines, _ := strings.Cut(other, "machines:\n")
		_, err := loaded(schema, aFile(schema, "a", first, dir)+machines)
		switch {
		case problem == "" && err != nil:
			t.Error(err)
		case problem != "" && (err == nil || !strings.Contains(err.Error(), problem)):
			t.Errorf("%v; want %q", err, problem)
		}
	}
}

func falsy(t *testing.T, _ string) {
	s := &Schema{Name: "x", Fields: []Field{
		{Key: "n", Type: Int{}, Optional: true, Default: 5}, {Key: "b", Type: Bool{}, Optional: true, Default: true},
		{Key: "s", Type: String{}, Optional: true, AllowEmpty: true, Default: "text"}, {Key: "d", Type: Duration{}, Optional: true, Default: time.Hour},
	}}
	doc := parse(t, s, "n: 0\nb: false\ns: ''\nd: 0\n")
	if doc.Int("n") != 0 || doc.Bool("b") || doc.String("s") != "" || doc.Duration("d") != 0 {
		t.Errorf("they read %d, %t, %q, %v", doc.Int("n"), doc.Bool("b"), doc.String("s"), doc.Duration("d"))
	}
}

func boundOfZero(t *testing.T, _ string) {
	for line, low := range map[string]bool{"n: -1\n": true, "n: 1\n": false} {
		bound := Int{Max: new(int64(0))}
		if low {
			bound = Int{Min: new(int64(0))}
		}
		s := &Schema{Name: "x", Fields: []Field{{Key: "n", Type: bound}}}
		if _, err := Parse("x.yaml", []byte(line), s); err == nil || !strings.Contains(err.Error(), "is out of range") {
			t.Errorf("%q: %v", line, err)
		}
		parse(t, s, "n: 0\n")
	}
}

func elsewhere(t *testing.T, _ string) {
	s := &Schema{Name: "x", Fields: []Field{{Key: "binaries", Optional: true, AllowEmpty: true, Type: Section{Fields: []Field{{Key: "tool", Optional: true, Type: String{}}}}}}}
	doc, err := Parse("x.yaml", []byte("binaries:\ntool: /usr/bin/tool\n"), s)
	if err != nil || doc.Section("binaries").String("tool") != "" || !strings.Contains(doc.Warnings().Error(), `tool: this key is unknown`) {
		t.Errorf("%v, %v", err, doc.Warnings())
	}
}

func TestEverySemanticsOfCuckoo3IsKeptOrDifferentForAReason(t *testing.T) {
	if ifaces, err := labHost().interfaces(); err != nil || ifaces[2].Name != "virbr0" || ifaces[2].Flags&net.FlagUp != 0 {
		t.Fatalf("the host of these tests is not as they want it: %v, %v", ifaces, err)
	}
	dir := t.TempDir()
	for _, name := range []string{"disk", "a", "as", "b", "bs"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "disk"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/cuckoo3-config.md")
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) < 3 || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Case") {
			continue
		}
		what := strings.TrimPrefix(cells[0], "| ")
		tested[what] = true
		test := cuckoo3[what]
		if test == nil {
			t.Errorf("nothing tests %q", what)
			continue
		}
		t.Run(what, func(t *testing.T) { test(t, dir) })
		why := strings.Trim(strings.Join(cells[3:], ""), " |\n")
		if same := strings.HasPrefix(cells[2], "the same"); same != (why == "") {
			t.Errorf("%q: a reason has to be there where it is otherwise, and nowhere else: %q", what, why)
		}
	}
	for what := range cuckoo3 {
		if !tested[what] {
			t.Errorf("the page does not have %q", what)
		}
	}
}
