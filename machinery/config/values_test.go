package config

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parse reads a text that must be right.
func parse(t *testing.T, s *Schema, text string) *Document {
	t.Helper()
	doc, err := Options{}.parse(s.Name+".yaml", []byte(text), s, labHost())
	if err != nil {
		t.Fatalf("a right file is refused:\n%v", err)
	}
	return doc
}

func TestCuckoo3FilesLoadAsTheyAre(t *testing.T) {
	for file, schema := range map[string]*Schema{
		"qemu-vmcloak.yaml": qemuSchema(), "qemu-byhand.yaml": qemuSchema(), "qemu-anchors.yaml": qemuSchema(), "kvm.yaml": kvmSchema(),
	} {
		data, err := os.ReadFile("testdata/good/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for ends, text := range map[string]string{
			"LF": string(data), "CRLF": strings.ReplaceAll(string(data), "\n", "\r\n"), "CR": strings.ReplaceAll(string(data), "\n", "\r"),
			"byte order mark": "\uFEFF" + string(data), "no end of line": strings.TrimRight(string(data), "\n"),
		} {
			t.Run(file+" with "+ends, func(t *testing.T) {
				doc, err := Options{Strict: true}.parse(file, []byte(text), schema, labHost())
				if err != nil {
					t.Fatal(err)
				}
				if len(doc.Warnings()) != 0 {
					t.Errorf("there are warnings:\n%v", doc.Warnings())
				}
			})
		}
	}
}

func TestTheFilesValuesAreWhatTheFileSays(t *testing.T) {
	data, err := os.ReadFile("testdata/good/qemu-byhand.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc := parse(t, qemuSchema(), string(data))
	type machine struct {
		Name, Disk, IP, MAC, Platform, Version, Arch, Interface string
		Port                                                    int
		Tags                                                    []string
	}
	var got []machine
	for _, m := range doc.Machines() {
		got = append(got, machine{m.Name, m.String("qcow2_path"), m.String("ip"), m.String("mac_address"), m.String("platform"),
			m.String("os_version"), m.String("architecture"), m.String("interface"), m.Int("agent_port"), m.Strings("tags")})
	}
	want := []machine{
		{"1", "testdata/vm/win10_1/disk.qcow2", "192.168.30.101", "", "windows", "10", "amd64", "", 8000, []string{"dotnet"}},
		{"ubuntu", "testdata/vm/ubuntu/disk.qcow2", "192.168.30.103", "", "linux", "18.10", "amd64", "", 8000, nil},
		{"win10.2", "testdata/vm/win10_2/disk.qcow2", "192.168.30.102", "52:54:00:11:22:33", "windows", "no", "amd64", "virbr0", 8001, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	if got := doc.Section("binaries").String("qemu_img"); got != "testdata/bin/qemu-img" {
		t.Errorf("binaries.qemu_img is %q", got)
	}
	if got := doc.String("disposable_copy_dir"); got != "testdata/overlays" {
		t.Errorf("disposable_copy_dir is %q", got)
	}
}

func TestMergedKeysAreOverriddenByTheMachinesOwn(t *testing.T) {
	data, err := os.ReadFile("testdata/good/qemu-anchors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := parse(t, qemuSchema(), string(data)).Machines()
	if got := m[1].String("ip") + " " + fmt.Sprint(m[1].Int("agent_port"), m[1].Strings("tags")); got != "192.168.30.102 9000 [office dotnet]" {
		t.Errorf("the machine with a merge has %s", got)
	}
	if got := m[2].Strings("tags"); !cmp.Equal(got, []string{"office", "dotnet"}) {
		t.Errorf("the list by reference is %q", got)
	}
}

// Each line is a file of one key, how it reads, and whether the file has a value for it.
// values are files with one value of the schema that has every type, how it reads, and whether the file is said to set it.
var values = []struct {
	file, want string
	set        bool
}{
	{`text: 18.10`, `"18.10"`, true},
	{`text: no`, `"no"`, true},
	{`text: True`, `"True"`, true},
	{`text: 1.10`, `"1.10"`, true},
	{`text: 0`, `"0"`, true},
	{`text: false`, `"false"`, true},
	{`text: 010`, `"010"`, true},
	{`text: 0x1F`, `"0x1F"`, true},
	{`text: 1_000`, `"1_000"`, true},
	{`text: 2024-01-01`, `"2024-01-01"`, true},
	{`text: "null"`, `"null"`, true},
	{`text: .inf`, `".inf"`, true},
	{`text: !!str 5`, `"5"`, true},
	{`text: !!int 5`, `"5"`, true},
	{`text: "  a b  "`, `"a b"`, true},
	{"text: |\n  a\n  b\n", `"a\nb"`, true},
	{`text: 'a # b: "c"'`, `"a # b: \"c\""`, true},
	{`text: 日本`, `"日本"`, true},
	{`number: 1`, `1`, true}, // so that text is absent
	{`mode: Fast`, `"fast"`, true},
	{`lower: ÄBC`, `"äbc"`, true},
	{`lower: ""`, `""`, true},
	{`lower:`, `""`, false},
	{`port: 8000`, `8000`, true},
	{`port: "8000"`, `8000`, true},
	{`port: " 8000 "`, `8000`, true},
	{`port: +80`, `80`, true},
	{`port: 8_000`, `8000`, true},
	{`port: 0x1f40`, `8000`, true},
	{`port: 1`, `1`, true},
	{`port: 65535`, `65535`, true},
	{`not_negative: 0`, `0`, true},
	{`not_positive: 0`, `0`, true},
	{`not_positive: ~`, `0`, false},
	{`not_positive: ""`, `0`, false},
	{`number: -9223372036854775808`, `-9223372036854775808`, true},
	{`flag: false`, `false`, true},
	{`flag: no`, `false`, true},
	{`flag: "OFF"`, `false`, true},
	{`flag: Yes`, `true`, true},
	{`file: " spaces kept "`, `" spaces kept "`, true},
	{`file: ""`, `""`, true},
	{`mac: 52:54:00:AB:CD:EF`, `"52:54:00:AB:CD:EF"`, true},
	{`mac: 10:20:30:40:50:10`, `"10:20:30:40:50:10"`, true},
	{`ip: FE80:0:0::1`, `"fe80::1"`, true},
	{`ip4: 10.0.0.1`, `"10.0.0.1"`, true},
	{`ip6: ::1`, `"::1"`, true},
	{`dsn: qemu+ssh://root@host:22/system?keyfile=/k`, `"qemu+ssh://root@host:22/system?keyfile=/k"`, true},
	{`dsn: /run/libvirt/libvirt-sock`, `"/run/libvirt/libvirt-sock"`, true},
	{`dsn: test:///default`, `"test:///default"`, true},
	{`url: https://[::1]:8080/a?b=c`, `"https://[::1]:8080/a?b=c"`, true},
	{`url: HTTP://EXAMPLE.com`, `"HTTP://EXAMPLE.com"`, true},
	{`timeout: 90`, `1m30s`, true},
	{`timeout: 1m30s`, `1m30s`, true},
	{`timeout: 1`, `1s`, true},
	{`timeout: 1h`, `1h0m0s`, true},
	{`delay: 0`, `0s`, true},
	{`delay: 1.5`, `1.5s`, true},
	{`tags: one`, `["one"]`, true},
	{`tags: a, b`, `["a, b"]`, true},
	{`tags: 0`, `["0"]`, true},
	{`tags: [0, no, 1.10]`, `["0" "no" "1.10"]`, true},
	{`ports: []`, `[]`, true},
	{`ports: ""`, `[]`, true},
	{`ports:`, `[]`, false},
	{`ports: 80`, `["80"]`, true},
	{`labels: {a: ''}`, `[{a }]`, true},
	{`dsn: qemu+SSH://h/system`, `"qemu+SSH://h/system"`, true},
	{`labels: {b: 1.10, a: no}`, `[{b 1.10} {a no}]`, true},
	{`bridge: a libvirt network of any length`, `"a libvirt network of any length"`, true},
	{`interface: virbr0`, `"virbr0"`, true},
	{`uplink: br0`, `"br0"`, true},
	{`readable: /dev/null`, `"/dev/null"`, true},
	{`program: testdata/bin/qemu-img`, `"testdata/bin/qemu-img"`, true},
	{`file: /no/such/file`, `"/no/such/file"`, true},
	{`directory: /no/such/directory`, `"/no/such/directory"`, true},
	{`socket: /no/such/socket`, `"/no/such/socket"`, true},
}

func TestValuesReadAsWritten(t *testing.T) {
	show := func(v *Values, key string) string {
		switch v.field(key).Type.kind() {
		case kindText:
			return fmt.Sprintf("%q", v.String(key))
		case kindInt:
			return fmt.Sprint(v.Int(key))
		case kindBool:
			return fmt.Sprint(v.Bool(key))
		case kindDuration:
			return v.Duration(key).String()
		case kindList:
			return fmt.Sprintf("%q", v.Strings(key))
		}
		return fmt.Sprint(v.Dict(key))
	}
	for _, c := range values {
		t.Run(c.file, func(t *testing.T) {
			doc := parse(t, everySchema(), c.file)
			key, _, _ := strings.Cut(c.file, ":")
			if got := show(doc.Values, key); got != c.want {
				t.Errorf("it reads %s, want %s", got, c.want)
			}
			if got := doc.IsSet(key); got != c.set {
				t.Errorf("IsSet is %v", got)
			}
		})
	}
}

func TestAbsentKeysHaveTheirDefaultAndNullOnesDoNot(t *testing.T) {
	doc := parse(t, everySchema(), "number: 1\n")
	got := []any{doc.String("text"), doc.Int("port"), doc.Int("not_negative"), doc.Bool("flag"), doc.Duration("timeout"),
		doc.Strings("tags"), doc.Section("limits").Int("memory"), doc.Section("limits").Int("cpus"), doc.String("file"), len(doc.Machines()), doc.IsSet("port")}
	want := []any{"default text", 8000, 3, true, time.Minute, []string{"a", "b"}, 1024, 0, "", 0, false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	doc = parse(t, everySchema(), "limits: {cpus: 2}\nmachines:\n  a: {ip: 10.0.0.1}\n  b: {ip: 10.0.0.2, mac: , disk: ''}\n  c: {ip: 10.0.0.3, mac: '', disk: }\n")
	if got := doc.Section("limits").Int("memory"); got != 1024 {
		t.Errorf("the default below a section that is there is %d", got)
	}
	if got := doc.Machines()[2].Int("port"); got != 8000 {
		t.Errorf("the default of a machine's port is %d", got)
	}
}

func TestNestedListsOfSectionsRead(t *testing.T) {
	doc := parse(t, everySchema(), "disks:\n  - {path: /a, read_only: yes}\n  - path: /b\nports: [80, 0x50]\nweights: {b: 2, a: 1}\nip: 10.0.0.1\n")
	disks := doc.Sections("disks")
	if len(disks) != 2 || disks[0].String("path") != "/a" || !disks[0].Bool("read_only") || disks[1].Bool("read_only") {
		t.Errorf("disks are wrong: %d", len(disks))
	}
	if diff := cmp.Diff([]int{80, 80}, doc.Ints("ports")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Pair{{"b", "2"}, {"a", "1"}}, doc.Dict("weights")); diff != "" {
		t.Error(diff)
	}
	if got := doc.IP("ip").String(); got != "10.0.0.1" {
		t.Error(got)
	}
}

func TestAskingForWhatTheSchemaDoesNotHavePanicsWithAClearText(t *testing.T) {
	doc := parse(t, everySchema(), "machines:\n  a: {ip: 10.0.0.1}\n")
	for want, ask := range map[string]func(){
		`config: the schema of every has no key "nonsense" here; it has text`:                                       func() { doc.String("nonsense") },
		`config: the schema of every has no key "machines.a.text" here; it has ip, mac, disk and port`:              func() { doc.Machines()[0].IsSet("text") },
		`config: key "port" is a whole number from 1 to 65535: read it with Int, not with String`:                   func() { doc.String("port") },
		`config: key "machines.a.ip" is an IP address: read it with String, not with Bool`:                          func() { doc.Machines()[0].Bool("ip") },
		`config: key "tags" is a list: Ints reads lists of Int alone`:                                               func() { doc.Ints("tags") },
		`config: key "text" is a text: IP reads keys of type IPAddress alone`:                                       func() { doc.IP("text") },
		`config: key "machines" is a section with a name and keys for each machine: read it with Entries, not with`: func() { doc.Section("machines") },
		`config: the schema of every has no key "oops" here`:                                                        func() { doc.Position("oops") },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, want) {
					t.Errorf("the panic is\n %s\nwant\n %s", got, want)
				}
			}()
			ask()
		}()
	}
}

func TestADriversOwnProblemsHaveTheirPlace(t *testing.T) {
	doc := parse(t, everySchema(), "text: hello\nmachines:\n  a b:\n    ip: 10.0.0.1\n  \"2\": {ip: 10.0.0.2,\n    port: 9}\ntags: [x, y]\ndisks:\n  - path: /a\nlogin: {user: u, token: hunter2}\nlabels: {k: v}\n")
	for _, c := range []struct {
		path       []string
		place, key string
		text       string
	}{
		{nil, "every.yaml:1:1", "", "text: hello"},
		{[]string{"text"}, "every.yaml:1:7", "text", "text: hello"},
		{[]string{"port"}, "every.yaml:1:1", "port", "text: hello"},
		{[]string{"machines"}, "every.yaml:2:1", "machines", "machines:"},
		{[]string{"machines", "a b"}, "every.yaml:3:3", `machines."a b"`, "  a b:"},
		{[]string{"machines", "a b", "ip"}, "every.yaml:4:9", `machines."a b".ip`, "    ip: 10.0.0.1"},
		{[]string{"machines", "a b", "port"}, "every.yaml:3:3", `machines."a b".port`, "  a b:"},
		{[]string{"machines", "2", "port"}, "every.yaml:6:11", "machines.2.port", "    port: 9}"},
		{[]string{"machines", "gone", "ip"}, "every.yaml:2:1", "machines.gone.ip", "machines:"},
		{[]string{"tags", "1"}, "every.yaml:7:11", "tags[1]", "tags: [x, y]"},
		{[]string{"tags", "7"}, "every.yaml:7:1", "tags[7]", "tags: [x, y]"},
		{[]string{"disks", "0", "path"}, "every.yaml:9:11", "disks[0].path", "  - path: /a"},
		{[]string{"limits", "memory"}, "every.yaml:1:1", "limits.memory", "text: hello"},
		{[]string{"login", "token"}, "every.yaml:10:18", "login.token", ""},
	} {
		d := doc.Problem("is odd", c.path...)
		if got := d.Position.String(); got != c.place || d.Path != c.key || d.Text != c.text {
			t.Errorf("%q: %s %q %q, want %s %q %q", c.path, got, d.Path, d.Text, c.place, c.key, c.text)
		}
	}
	d := doc.Machines()[0].Problem("does not answer", "ip").WithHint("ping it")
	want := "every.yaml:4:9: machines.\"a b\".ip: does not answer\n    4 |     ip: 10.0.0.1\n      |         ^\n      hint: ping it"
	if d.Detail() != want {
		t.Errorf("got\n%s\nwant\n%s", d.Detail(), want)
	}
}

func TestADocumentMayBeReadByManyGoroutines(t *testing.T) {
	data, err := os.ReadFile("testdata/good/qemu-byhand.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc := parse(t, qemuSchema(), string(data))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, m := range doc.Machines() {
				_ = m.String("ip") + m.Problem("x", "ip").Detail() + fmt.Sprint(m.Err(), m.Strings("tags"), doc.Problems())
			}
		})
	}
	wg.Wait()
}
