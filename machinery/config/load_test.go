package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOneBadMachineLeavesTheOthersUsable(t *testing.T) {
	const file = `
machines:
  good: {ip: 10.0.0.1}
  bad: {ip: 10.0.0, port: 0}
  same: {ip: 10.0.0.1}
  odd: {ip: 10.0.0.4, colour: blue}
  twice: {ip: 10.0.0.5}
  twice: {ip: 10.0.0.6}
`
	doc, err := Parse("every.yaml", []byte(file), everySchema())
	var problems Problems
	if !errors.As(err, &problems) || doc == nil {
		t.Fatalf("document %v, error %v", doc, err)
	}
	if doc.Err() != nil {
		t.Errorf("errors of machines count as errors of the file: %v", doc.Err())
	}
	got := map[string]int{}
	for _, m := range doc.Machines() {
		var own Problems
		if errors.As(m.Err(), &own) {
			got[m.Name] = len(own.Errors())
		} else {
			got[m.Name] = 0
		}
	}
	if want := "map[bad:2 good:0 odd:0 same:1 twice:1]"; fmt.Sprint(got) != want {
		t.Errorf("errors by machine are %v, want %s", got, want)
	}
	if len(problems.Errors()) != 4 || len(problems.Warnings()) != 1 || len(doc.Problems()) != 5 {
		t.Errorf("%d errors and %d warnings:\n%v", len(problems.Errors()), len(problems.Warnings()), problems)
	}
	doc, err = Parse("every.yaml", []byte("port: x\nmachines:\n  good: {ip: 10.0.0.1}\n"), everySchema())
	if err == nil || doc.Err() == nil || doc.Machines()[0].Err() != nil {
		t.Errorf("an error at the top is not the file's: %v", err)
	}
}

func TestStrictMakesWarningsErrors(t *testing.T) {
	data := []byte("colour: blue\n")
	doc, err := Parse("every.yaml", data, everySchema())
	if err != nil || len(doc.Warnings()) != 1 {
		t.Errorf("not strict: %v", err)
	}
	if doc, err = (Options{Strict: true}).Parse("every.yaml", data, everySchema()); err == nil || len(doc.Warnings()) != 0 || doc.Err() == nil {
		t.Errorf("strict: %v", err)
	}
}

func TestStaticAsksNothingOfTheHost(t *testing.T) {
	const file = "present: /no/such\nreadable: /no/such\nwork: /no/such\nmonitor: /no/such\ninterface: eth77\nuplink: eth78\n"
	h := &host{static: true} // whatever it is asked panics
	if _, err := (Options{}).parse("every.yaml", []byte(file), everySchema(), h); err != nil {
		t.Error(err)
	}
	if _, err := Parse("every.yaml", []byte(file), everySchema()); err == nil {
		t.Error("the same file is right without Static too, so this test shows nothing")
	}
	if _, err := (Options{Static: true}).Parse("every.yaml", []byte("interface: much-too-long-a-name\n"), everySchema()); err == nil {
		t.Error("a name that cannot be an interface's on any host is let pass")
	}
}

func TestRightsAreThoseThatAreDeclared(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key, path string
		denied    access
		want      string
	}{
		{"readable", file, accessRead, "this user may not read"},
		{"readable", file, accessWrite | accessExecute, ""},
		{"writable", file, accessWrite, "this user may not write to"},
		{"writable", file, accessRead | accessExecute, ""},
		{"program", file, accessExecute, "this user may not execute"},
		{"program", file, accessRead | accessWrite, ""},
		{"present", file, accessRead | accessWrite | accessExecute, ""},
		{"work", dir, accessRead, "this user may not read"},
		{"work", dir, accessWrite, "this user may not write to"},
		{"work", dir, accessExecute, "this user may not read"},
		{"work", dir, 0, ""},
	} {
		h := newHost(false)
		h.access = func(path string, a access) error {
			if path != c.path {
				t.Errorf("asked about %s", path)
			}
			if a&c.denied != 0 {
				return syscall.EACCES
			}
			return nil
		}
		_, err := Options{}.parse("every.yaml", []byte(c.key+": "+c.path), everySchema(), h)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want+` "`+c.path+`": permission denied`) {
			t.Errorf("%s without right %b: %v, want %q", c.key, c.denied, err, c.want)
		}
	}
}

func TestKindsOfFilesAreToldApart(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(syscall.Mkfifo(at("fifo"), 0o600), os.WriteFile(at("file"), nil, 0o700), os.Mkdir(at("dir"), 0o700),
		os.Symlink(at("gone"), at("dangling")), os.Symlink(at("file"), at("link")), os.Symlink(at("loop"), at("loop"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, name, want string }{
		{"present", "file", ""}, {"present", "link", ""}, {"program", "file", ""}, {"work", "dir", ""}, {"monitor", "socket", ""},
		{"present", "dir", "is a directory, not a file"},
		{"file", "dir", "is a directory, not a file"},
		{"file", "fifo", "is a named pipe, not a file"},
		{"present", "socket", "is a unix socket, not a file"},
		{"present", "dangling", `is a symbolic link to "` + at("gone") + `", which does not exist`},
		{"present", "loop", "cannot be looked at: too many levels of symbolic links"},
		{"work", "file", "is a file, not a directory"},
		{"directory", "socket", "is a unix socket, not a directory"},
		{"monitor", "file", "is a file, not a unix socket"},
		{"socket", "dir", "is a directory, not a unix socket"},
		{"present", strings.Repeat("n", 300), "cannot be looked at: file name too long"},
	} {
		_, err := Parse("every.yaml", []byte(c.key+": "+at(c.name)), everySchema())
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: %v, want %q", c.key, c.name, err, c.want)
		}
	}
	two := fmt.Sprintf("machines:\n  a: {ip: 10.0.0.1, disk: %s}\n  b: {ip: 10.0.0.2, disk: %s}\n", at("file"), at("link"))
	if _, err := Parse("every.yaml", []byte(two), everySchema()); err == nil || !strings.Contains(err.Error(), "is the same as") {
		t.Errorf("two ways to one disk are let pass: %v", err)
	}
}

func TestDefaultsMustHoldOnThisHostToo(t *testing.T) {
	s := &Schema{Name: "x", Fields: []Field{{Key: "qemu_img", Type: FilePath{Executable: true}, Optional: true, Default: "/no/such/qemu-img"}}}
	_, err := Parse("x.yaml", []byte("{}"), s)
	if err == nil || !strings.Contains(err.Error(), `x.yaml:1:1: qemu_img: the file does not have this key, and its default does not hold on this host: "/no/such/qemu-img" does not exist`) {
		t.Errorf("got %v", err)
	}
	if _, err := (Options{Static: true}).Parse("x.yaml", []byte("{}"), s); err != nil {
		t.Errorf("static: %v", err)
	}
}

func TestFilesThatCannotBeReadAreToldApart(t *testing.T) {
	dir := t.TempDir()
	fifo, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "large")
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(large, nil, 0o600), os.Truncate(large, MaxSize+1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "qemu.yaml"):         "the configuration file " + dir + "/qemu.yaml cannot be opened: no such file or directory",
		filepath.Join(dir, "no/such/qemu.yaml"): "the configuration file " + dir + "/no/such/qemu.yaml is not there (" + dir + " is as far as the path exists): no such file or directory",
		dir:                                     dir + " is a directory, not a file with a configuration",
		fifo:                                    fifo + " is a named pipe, not a file with a configuration",
		"/dev/zero":                             "/dev/zero is a device, not a file with a configuration",
		large:                                   large + " is 4194305 bytes long, which is no configuration: at most 4194304 are read",
	} {
		if _, err := Load(path, everySchema()); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if _, err := Load(filepath.Join(dir, "qemu.yaml"), everySchema()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if doc, err := Load("testdata/good/kvm.yaml", withoutHost(kvmSchema())); err != nil || doc.Name() != "testdata/good/kvm.yaml" || doc.Schema().Name != "kvm" {
		t.Errorf("a right file: %v", err)
	}
}

// withoutHost lets a file's interface be any.
func withoutHost(s *Schema) *Schema {
	for i := range s.Fields {
		if _, is := s.Fields[i].Type.(NetworkInterface); is {
			s.Fields[i].Type = NetworkInterface{}
		}
	}
	return s
}

// Texts that cannot be YAML, or that are made to cost time or memory. Each must be over soon, with the problem named.
// worked is for how long processors have worked for this program.
func worked(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func TestHostileFilesAreRefusedSoon(t *testing.T) {
	deepAliases := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 30; i++ {
		ref := fmt.Sprintf("*a%d", i-1)
		deepAliases += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Join([]string{ref, ref, ref, ref, ref, ref, ref, ref, ref}, ", "))
	}
	var wide strings.Builder
	wide.WriteString("base: &b {")
	for i := range 20000 {
		fmt.Fprintf(&wide, "k%d: 1, ", i)
	}
	wide.WriteString("}\nmachines:\n")
	for i := range 20000 {
		fmt.Fprintf(&wide, "  m%d: {<<: *b}\n", i)
	}
	var mergeChain strings.Builder
	mergeChain.WriteString("x0: &x0 {k: 1}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&mergeChain, "x%d: &x%d {<<: [*x%d, *x%d]}\n", i, i, i-1, i-1)
	}
	mergeChain.WriteString("machines: {m: *x39}\n")
	for _, c := range []struct{ name, file, want string }{
		{"NUL", "text: a\x00b\n", "every.yaml:1:8: there is a NUL byte here"},
		{"binary", "\x7fELF\x02\x01\x01\x00\x00", "every.yaml:1:1: there is a character here that YAML does not permit (U+007F)"},
		{"qcow2", "QFI\xfb\x00\x00\x00\x03", "every.yaml:1:4: the byte 0xfb here is not UTF-8 text"},
		{"Latin-1", "text: a\nlower: caf\xe9\n", "every.yaml:2:11: the byte 0xe9 here is not UTF-8 text"},
		{"UTF-16", "\xff\xfet\x00e\x00", "every.yaml:1:1: the file is encoded as UTF-16"},
		{"invisible line break", "text: a\u2028lower: b\n", "every.yaml:1:8: there is an invisible line break here (U+2028)"},
		{"bell", "text: a\r\nlower: \a\r\n", "every.yaml:2:8: there is a character here that YAML does not permit (U+0007)"},
		{"second byte order mark", "\uFEFF\uFEFFtext: a", "every.yaml:1:1: there is a character here that YAML does not permit (U+FEFF)"},
		{"too large", strings.Repeat("#", MaxSize+1), "every.yaml: the file is 4194305 bytes long"},
		{"deep brackets", "tags: " + strings.Repeat("[", 1<<20), "every.yaml:1:107: the file is nested deeper here"},
		{"deep sections", strings.Repeat("a: {", 1<<18), "the file is nested deeper here"},
		{"deep lists", strings.Repeat("- ", 1<<20), "the file is nested deeper here"},
		{"deep indentation", func() string {
			var b strings.Builder
			for i := range 2000 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(), "every.yaml:101:102: the file is nested deeper here"},
		{"references of references", deepAliases + "labels: *a29\n", "labels: this is a list, but a section"},
		{"references many times", wide.String(), "every.yaml:1:7: the references in this file multiply it to more than 500000 values"},
		{"merges of merges", mergeChain.String(), "multiply it to more than 500000 values"},
		{"a list in itself", "tags: &t [a, *t]\n", "every.yaml:1:14: tags[1]: this is a list, but a text is wanted"},
		{"a section in itself", "labels: &l {a: *l}\n", "labels.a: this is a section with keys of its own, but a text is wanted"},
		{"machines in themselves", "machines: &m {a: *m}\n", "every.yaml:1:15: machines.a.ip: this key is missing"},
		{"a hundred thousand unknown keys", func() string {
			var b strings.Builder
			for i := range 100000 {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String() + "port: x\n"
		}(), `every.yaml:100001:7: port: "x" is not a whole number`},
		{"a long key", strings.Repeat("k", 1<<20) + ": 1\nport: x\n", `port: "x" is not a whole number`},
		{"a long value", "port: " + strings.Repeat("1", 2<<20) + "\n", "port: this value is 2097152 bytes long, and at most 65536 make sense"},
		{"a value of the longest length", "port: " + strings.Repeat("1", 64<<10) + "\n", "is out of range"},
		{"a long line", "{" + strings.Repeat("a: b, ", 200000) + "}", "this key is already on line 1"},
		{"escapes for a terminal", "port: \"\\e]0;title\\a\"\n", `port: "\x1b]0;title\a" is not a whole number`},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := worked(t)
			_, err := Parse("every.yaml", []byte(c.file), everySchema())
			// Ten times what the slowest needs with the race detector on a slow machine. It is a bound, not a measure: of work, so that it
			// does not matter who else works on the machine.
			if took := worked(t) - start; took > 30*time.Second {
				t.Errorf("it took %v of the processor's time", took)
			}
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("the error is %T: %v", err, err)
			}
			if text := problems.Error(); !strings.Contains(text, c.want) {
				t.Errorf("got %.2000s\nwant %s", text, c.want)
			} else if len(text) > 1<<20 || bytes.ContainsAny([]byte(text), "\x00\x07\x1b\r") {
				t.Errorf("the message has %d bytes, or characters that a terminal obeys", len(text))
			}
		})
	}
}

func TestEveryBadMachineIsKnownEvenWhenNotEveryProblemIsListed(t *testing.T) {
	var b strings.Builder
	b.WriteString("machines:\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "  m%d: {ip: 10.0.%d.%d, port: %d, colour: blue, port: 1}\n", i, i/250, i%250, i%2)
	}
	doc, err := Parse("every.yaml", []byte(b.String()), everySchema())
	if err == nil || doc.Err() != nil {
		t.Fatalf("error %.200v; the file's own %v", err, doc.Err())
	}
	for i, m := range doc.Machines() {
		if m.Err() == nil {
			t.Fatalf("machine %d has no error", i)
		}
	}
	if text := doc.Problems().Error(); !strings.Contains(text, "more problems, which are not listed") {
		t.Error("nothing says that problems are left out")
	} else if last := doc.Problems()[len(doc.Problems())-1]; !strings.Contains(last.Problem, "not listed") {
		t.Errorf("it is not said at the end, but %q", last.Problem)
	}
}

func TestInStrictModeAMachineWithAWarningIsBadEvenWhenItIsNotListed(t *testing.T) {
	data := bytes.ReplaceAll(manyMachines(1000), []byte("    port:"), []byte("    colour: blue\n    port:"))
	doc, err := Options{Strict: true}.Parse("every.yaml", data, everySchema())
	if err == nil {
		t.Fatal("there is no error")
	}
	for i, m := range doc.Machines() {
		if m.Err() == nil {
			t.Fatalf("machine %d has no error", i)
		}
	}
}

func TestTwoThousandMachinesLoadAtOnce(t *testing.T) {
	doc, err := Parse("every.yaml", manyMachines(2000), everySchema())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Machines()); n != 2000 || doc.Machines()[1999].Name != "machine_1999" {
		t.Errorf("%d machines", n)
	}
}

func manyMachines(n int) []byte {
	var b bytes.Buffer
	b.WriteString("# many\nmachines:\n")
	for i := range n {
		fmt.Fprintf(&b, "  machine_%d:\n    # its address\n    ip: 10.%d.%d.%d\n    mac: 52:54:00:00:%02x:%02x\n    disk: /no/such/machine_%d/disk.qcow2\n    port: 8000\n", i, i>>16, i>>8&255, i&255, i>>8, i&255, i)
	}
	return b.Bytes()
}

func BenchmarkTwoThousandMachines(b *testing.B) {
	data, schema := manyMachines(2000), everySchema()
	for b.Loop() {
		if _, err := Parse("every.yaml", data, schema); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzParse holds that no file makes the loader panic, that what is said about it is safe to print and has its
// place, that a sensitive value is never said, and that a document which is given can be read.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*", "testdata/broken/*/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			text, _, _ := strings.Cut(string(data), wantMark)
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("password: hunter2\nport: x\n"))
	f.Add([]byte("login: {user: [a], token: \"hunter2\"}\npassword: [hunter2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		defer func() {
			if took := time.Since(start); took > 10*time.Second {
				t.Fatalf("%d bytes took %v", len(data), took)
			}
		}()
		for _, s := range []*Schema{qemuSchema(), everySchema()} {
			doc, err := Options{Static: true}.Parse("f.yaml", data, s)
			var problems Problems
			if err != nil && !errors.As(err, &problems) {
				t.Fatalf("%T: %v", err, err)
			}
			for _, d := range problems {
				lines := strings.Split(strings.TrimPrefix(string(data), "\uFEFF"), "\n")
				if d.Line < 0 || d.Line > 1+len(lines)+strings.Count(string(data), "\r") || d.Line == 0 && len(data) <= MaxSize {
					t.Fatalf("line %d of %d", d.Line, len(lines))
				}
				if strings.ContainsFunc(d.Detail(), func(r rune) bool { return r != '\n' && r != '\uFFFD' && !printable(r) }) {
					t.Fatalf("not safe to print: %q", d.Detail())
				}
			}
			if doc == nil {
				continue
			}
			if said := doc.Problems().Error(); s.Name == "every" && strings.Contains(doc.String("password"), "hunter2") &&
				strings.Count(string(data), "hunter2") == 1 && strings.Contains(said, "hunter2") {
				t.Fatalf("the sensitive value is said: %s", said)
			}
			for _, m := range doc.Machines() {
				_, _, _ = m.String("ip"), m.Err(), m.Position("ip")
			}
		}
	})
}
