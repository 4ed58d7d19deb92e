package vmcloak

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/internal/vmstate/vmstatetest"
)

// args are those that VMCloak gives QEMU, in their present form.
var args = []string{
	"-nodefaults", "-M", "q35", "-vga", "std", "-rtc", "base=localtime,driftfix=slew", "-enable-kvm", "-cpu", "host", "-smp", "2", "-m", "2048",
	"-netdev", "type=bridge,br=br0,id=net0", "-device", "rtl8139,netdev=net0,mac=52:54:00:00:00:01,bus=pcie.0,addr=3",
	"-device", "ich9-ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,unit=0,drive=disk,bootindex=2",
	"-drive", "file=%DISPOSABLE_DISK_PATH%,format=qcow2,if=none,id=disk", "-device", "usb-ehci,id=ehci", "-display", "none",
}

// info is a machineinfo.json as VMCloak writes it, after changes to it.
func info(t testing.TB, change func(whole, machine map[string]any)) []byte {
	t.Helper()
	machine := map[string]any{
		"name": "win10_1", "ip": "192.168.30.101", "agent_port": 8000, "os_name": "windows", "os_version": "10", "architecture": "amd64",
		"tags": []string{"dotnet"}, "bridge": "br0", "mac": "52:54:00:00:00:01", "gateway": "192.168.30.1", "netmask": "255.255.255.0",
		"disk": "disk.qcow2", "memory_snapshot": "memory.snapshot", "start_args": args,
	}
	whole := map[string]any{"vmcloak_version": nil, "machinery": "qemu", "machinery_version": "7.2.22", "machine": machine}
	if change != nil {
		change(whole, machine)
	}
	data, err := json.MarshalIndent(whole, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// stream is the memory snapshot of a machine.
func stream(machineType string) []byte { return vmstatetest.Stream(machineType, 5000) }

// machine is the directory of a machine that is well.
func machine(t *testing.T, in, name string, change func(whole, machine map[string]any)) string {
	t.Helper()
	dir := filepath.Join(in, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, InfoName), info(t, func(whole, machine map[string]any) {
		machine["name"] = name
		if change != nil {
			change(whole, machine)
		}
	}))
	write(t, filepath.Join(dir, "memory.snapshot"), stream("pc-q35-7.2"))
	if err := qcow2.Create(filepath.Join(dir, "disk.qcow2"), qcow2.Options{VirtualSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAMachineOfVMCloakIsReadWhole(t *testing.T) {
	dir := machine(t, t.TempDir(), "win10_1", nil)
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := &Machine{
		Info: Info{
			MachineryVersion: "7.2.22", Name: "win10_1", IP: "192.168.30.101", AgentPort: 8000, OSName: "windows", OSVersion: "10", Architecture: "amd64",
			Tags: []string{"dotnet"}, Bridge: "br0", MAC: "52:54:00:00:00:01", Disk: "disk.qcow2", Snapshot: "memory.snapshot", StartArgs: args,
		},
		Dir: dir, InfoPath: dir + "/machineinfo.json", DiskPath: dir + "/disk.qcow2", SnapshotPath: dir + "/memory.snapshot",
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if found := m.Check(t.Context(), Options{QEMU: "7.2.22"}); len(found) > 0 {
		t.Errorf("nothing is wrong with it, and this is said: %q", found)
	}
}

func TestWhatIsWrongWithAMachineinfoIsSaidWithItsPlace(t *testing.T) {
	change := func(f func(whole, machine map[string]any)) string { return string(info(t, f)) }
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty":          {"", []string{"x.json:1:1: this is not JSON: unexpected end of JSON input"}},
		"cut short":      {"{\n  \"machinery\": \"qe", []string{"x.json:2:19: this is not JSON: unexpected end"}},
		"not JSON":       {"{\n  \"machinery\": qemu}", []string{"x.json:2:16: this is not JSON: invalid character 'q'"}},
		"text after it":  {"{}\n x", []string{"x.json:2:2: this is not JSON"}},
		"not UTF-8":      {"{\"machinery\": \"\xff\"}", []string{"x.json:1:16: the file is not UTF-8 text"}},
		"a list":         {"[]", []string{"x.json:1:1: the file must hold an object, and holds a list"}},
		"twice":          {`{"machinery": "qemu", "machinery": "kvm"}`, []string{`x.json:1:23: the key "machinery" is there twice`}},
		"too deep":       {strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), []string{"nested more than 32 deep"}},
		"too long":       {strings.Repeat(" ", 2<<20), []string{"x.json: the file is longer than 1048576 bytes"}},
		"no machine":     {`{"machinery": "qemu"}`, []string{`x.json:1:1: "machine" is missing`}},
		"machine null":   {`{"machinery": "qemu", "machine": null}`, []string{`x.json:1:34: "machine" must be an object, and is null`}},
		"made by hand":   {`{"machine": {"start_args": ["-m", "64"]}}`, []string{"x.json:1:13: this machineinfo.json has arguments for QEMU and nothing else", `"machinery machine add"`}},
		"half by hand":   {`{"machine": {"name": "a", "start_args": ["-m", "64"]}}`, []string{`"machinery" is missing`, `"machine.ip" is missing`, `"machine.tags" is missing`, `"machine.disk" is missing`, `"machine.memory_snapshot" is missing`, `"machine.bridge" is missing`}},
		"virtualbox":     {change(func(w, m map[string]any) { w["machinery"] = "virtualbox" }), []string{`this is a machine of "virtualbox": only machines of VMCloak's QEMU can be imported`}},
		"a number":       {change(func(w, m map[string]any) { m["os_version"] = 10 }), []string{`"machine.os_version" must be a string, and is a number; write "10"`}},
		"no address":     {change(func(w, m map[string]any) { m["ip"] = "192.168.30" }), []string{`"machine.ip" must be an address such as "192.168.30.101", and is "192.168.30"`}},
		"an empty name":  {change(func(w, m map[string]any) { m["name"] = " " }), []string{`"machine.name" must have a value, and is empty`}},
		"name null":      {change(func(w, m map[string]any) { m["name"] = nil }), []string{`"machine.name" must have a value, and is null`}},
		"port 0":         {change(func(w, m map[string]any) { m["agent_port"] = 0 }), []string{`"machine.agent_port" must be a whole number from 1 to 65535, and is 0`}},
		"half a port":    {change(func(w, m map[string]any) { m["agent_port"] = 8000.5 }), []string{"and is 8000.5"}},
		"port text":      {change(func(w, m map[string]any) { m["agent_port"] = "8000" }), []string{"and is a string"}},
		"tags text":      {change(func(w, m map[string]any) { m["tags"] = "a" }), []string{`"machine.tags" must be a list of strings, and is a string`}},
		"no arguments":   {change(func(w, m map[string]any) { m["start_args"] = []string{} }), []string{`"machine.start_args" must not be empty`}},
		"argument":       {change(func(w, m map[string]any) { m["start_args"] = []any{"-m", 64, "a\x00b"} }), []string{`element 2 of "machine.start_args" must be a string, and is a number; write "64"`, `element 3 of "machine.start_args" has a NUL character`}},
		"many arguments": {change(func(w, m map[string]any) { m["start_args"] = make([]string, 5000) }), []string{"more than 4096 elements"}},
		"a long one":     {change(func(w, m map[string]any) { m["start_args"] = []string{strings.Repeat("x", 1<<17)} }), []string{"is longer than 131071 bytes"}},
		"disk elsewhere": {change(func(w, m map[string]any) { m["disk"] = "../other/disk.qcow2" }), []string{`"machine.disk" must be the name of a file in the same directory, and is "../other/disk.qcow2"`}},
		"disk snapshot":  {change(func(w, m map[string]any) { m["disk"] = m["memory_snapshot"] }), []string{`"machine.disk" is "memory.snapshot", which is another of the machine's files`}},
		"disk info":      {change(func(w, m map[string]any) { m["disk"] = InfoName }), []string{`"machine.disk" is "machineinfo.json", which is another of the machine's files`}},
		"disk dots":      {change(func(w, m map[string]any) { m["disk"] = ".." }), []string{`"machine.disk" must be the name of a file`}},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := Parse("x.json", []byte(c.text))
			if err == nil {
				t.Fatalf("it was read: %+v", info)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it should say %q:\n%v", want, err)
				}
			}
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "x.json:") {
					t.Errorf("this line has no place: %s", line)
				}
			}
		})
	}
	if _, err := Parse("x", info(t, func(w, m map[string]any) { w["machinery"] = "libvirt" })); !errors.Is(err, ErrOtherMachinery) {
		t.Errorf("%v should be ErrOtherMachinery", err)
	}
}

func TestWhatIsNotNeededMayBeAbsentOrNull(t *testing.T) {
	got, err := Parse("x", append([]byte("\xef\xbb\xbf"), info(t, func(w, m map[string]any) {
		delete(w, "machinery_version")
		delete(m, "mac")
		m["tags"], m["bridge"] = nil, nil
		m["later"] = map[string]any{"a": []int{1}}
	})...))
	if err != nil {
		t.Fatal(err)
	}
	if got.MachineryVersion != "" || got.MAC != "" || got.Tags != nil || got.Bridge != "" {
		t.Errorf("%+v", got)
	}
}

func TestFindTakesAMachineOrADirectoryOfThem(t *testing.T) {
	in := t.TempDir()
	b, a := machine(t, in, "b", nil), machine(t, in, "a", nil)
	if err := os.Mkdir(filepath.Join(in, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(in, "file"), nil)
	for path, want := range map[string][]string{in: {a, b}, a: {a}, filepath.Join(b, InfoName): {b}} {
		if got, err := Find(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	// A file that came to lie above the machines hides none of them.
	write(t, filepath.Join(in, InfoName), []byte("{}"))
	if got, err := Find(in); err != nil || !slices.Equal(got, []string{in, a, b}) {
		t.Errorf("with a file above them: %q, %v", got, err)
	}
	for path, want := range map[string]string{
		filepath.Join(in, "empty"): "there is no machineinfo.json in",
		filepath.Join(in, "none"):  "no such file or directory",
		filepath.Join(in, "file"):  "is not a directory",
	} {
		if got, err := Find(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestWhatWillNotWorkIsSaid(t *testing.T) {
	cut := func(how string, n int) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			data := vmstatetest.Packed(t, how, stream("pc-q35-7.2"))
			write(t, dir+"/memory.snapshot", data[:max(0, len(data)-n)])
		}
	}
	snapshot := func(data string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { write(t, dir+"/memory.snapshot", []byte(data)) }
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	arguments := func(more ...string) func(whole, machine map[string]any) {
		return func(_, machine map[string]any) { machine["start_args"] = slices.Concat(args, more) }
	}
	for name, c := range map[string]struct {
		info  func(whole, machine map[string]any)
		files func(t *testing.T, dir string)
		want  []string
	}{
		"empty snapshot":     {nil, snapshot(""), []string{"memory.snapshot is empty"}},
		"snapshot of a byte": {nil, snapshot("Q"), []string{"is cut short: a memory snapshot has more than 1 bytes"}},
		"only a header":      {nil, snapshot("QEVM\x00\x00\x00\x03"), []string{"is cut short: a memory snapshot has more than 8 bytes"}},
		"another version":    {nil, snapshot("QEVM\x00\x00\x00\x02\x07\x00\x00\x00\x01"), []string{"a migration stream of version 2"}},
		"no snapshot":        {nil, snapshot("MZ\x90\x00text"), []string{"it begins with 4d 5a 90 00"}},
		"gzip of a text": {nil, func(t *testing.T, dir string) {
			write(t, dir+"/memory.snapshot", vmstatetest.Packed(t, "gzip", []byte("some text")))
		}, []string{"what is in it begins with 73 6f"}},
		"gzip of nothing":       {nil, func(t *testing.T, dir string) { write(t, dir+"/memory.snapshot", vmstatetest.Packed(t, "gzip", nil)) }, []string{"has nothing in it"}},
		"raw, a byte short":     {nil, cut("raw", 1), []string{"is cut short: it does not end with the description"}},
		"raw, half":             {nil, cut("raw", 20000), []string{"is cut short: it does not end with the description"}},
		"gzip, a byte short":    {nil, cut("gzip", 1), []string{"is cut short: gzip ends before its end mark"}},
		"gzip, only its header": {nil, snapshot("\x1f\x8b\x08\x00"), []string{"is cut short: gzip ends before its end mark"}},
		"lz4, bytes short":      {nil, cut("lz4", 12), []string{"is cut short: lz4"}},
		"zstd, a byte short":    {nil, cut("zstd", 1), []string{"is cut short: zstd"}},
		"no snapshot file":      {nil, remove("memory.snapshot"), []string{"memory.snapshot: there is no such file"}},
		"no disk":               {nil, remove("disk.qcow2"), []string{"the disk cannot be used: ", "disk.qcow2: there is no such file"}},
		"empty disk":            {nil, func(t *testing.T, dir string) { write(t, dir+"/disk.qcow2", nil) }, []string{"disk.qcow2 is empty"}},
		"disk without header":   {nil, func(t *testing.T, dir string) { write(t, dir+"/disk.qcow2", make([]byte, 1024)) }, []string{"the disk ", "is no qcow2 image, as VMCloak makes them, and would be taken for a raw one"}},
		"disk that is broken":   {nil, func(t *testing.T, dir string) { write(t, dir+"/disk.qcow2", []byte("QFI\xfb\x00\x00\x00\x09")) }, []string{"the disk cannot be used"}},
		"no backing file": {nil, func(t *testing.T, dir string) {
			remove("disk.qcow2")(t, dir)
			if err := qcow2.CreateOverlay(dir+"/disk.qcow2", "/nowhere/base.qcow2", "qcow2", 1<<20); err != nil {
				t.Fatal(err)
			}
		}, []string{`is based on "/nowhere/base.qcow2", which cannot be used: no such file or directory`, "qemu-img rebase"}},
		"a disk that is a directory": {nil, func(t *testing.T, dir string) {
			remove("disk.qcow2")(t, dir)
			if err := os.Mkdir(dir+"/disk.qcow2", 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not a regular file"}},
		"another major version":  {func(w, m map[string]any) { w["machinery_version"] = "6.2.0" }, nil, []string{"made by QEMU 6.2.0, and QEMU 7.2.22 is installed", "-M q35 is another machine in each version"}},
		"a version that is none": {func(w, m map[string]any) { w["machinery_version"] = "banana" }, nil, []string{`says that QEMU "banana" made its snapshot, which is no version`}},
		"another machine type":   {nil, func(t *testing.T, dir string) { write(t, dir+"/memory.snapshot", stream("pc-q35-6.2")) }, []string{`of the machine type pc-q35-6.2, and -M q35 is pc-q35-7.2 in QEMU 7.2, which does not load it; write "-M", "pc-q35-6.2"`}},
		"another type in gzip": {nil, func(t *testing.T, dir string) {
			write(t, dir+"/memory.snapshot", vmstatetest.Packed(t, "gzip", stream("pc-q35-6.2")))
		}, []string{"pc-q35-6.2"}},
		"realtime":               {arguments("-realtime", "mlock=off"), nil, []string{`QEMU has no argument "-realtime mlock=off" any more; write -overcommit`}},
		"two dashes":             {arguments("--localtime", "-S"), nil, []string{`"--localtime" any more; write -rtc base=localtime`}},
		"ide-drive":              {arguments("-device", "ide-drive,bus=ahci.0,drive=disk"), nil, []string{`"-device ide-drive,bus=ahci.0,drive=disk" any more; write ide-hd`}},
		"vlan":                   {arguments("-net", "nic,vlan=0"), nil, []string{"-netdev"}},
		"no disk in the command": {func(w, m map[string]any) { m["start_args"] = []string{"-m", "64"} }, nil, []string{"%DISPOSABLE_DISK_PATH%", "machine type pc-q35-7.2, and the machine without -M is pc-i440fx-7.2"}},
		"a copied directory":     {func(w, m map[string]any) { m["name"] = "other" }, nil, []string{`its directory is called "m", and its machineinfo.json says that it is "other"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := machine(t, t.TempDir(), "m", c.info)
			if c.files != nil {
				c.files(t, dir)
			}
			m, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Join(m.Check(t.Context(), Options{QEMU: "7.2.22"}), "\n")
			for _, want := range c.want {
				if !strings.Contains(found, want) {
					t.Errorf("it should say %q:\n%s", want, found)
				}
			}
			if n := strings.Count(found, "\n") + 1; n > len(c.want) {
				t.Errorf("more is said than is wrong:\n%s", found)
			}
		})
	}
}

func TestWhatIsWellIsLeftInPeace(t *testing.T) {
	for name, c := range map[string]struct {
		qemu     string
		info     func(whole, machine map[string]any)
		snapshot []byte
	}{
		"gzip":         {"7.2.22", nil, vmstatetest.Packed(t, "gzip", stream("pc-q35-7.2"))},
		"lz4":          {"7.2.22", nil, vmstatetest.Packed(t, "lz4", stream("pc-q35-7.2"))},
		"zstd":         {"7.2.22", nil, vmstatetest.Packed(t, "zstd", stream("pc-q35-7.2"))},
		"QEMU unknown": {"", func(w, m map[string]any) { w["machinery_version"] = "5.0.0" }, stream("pc-q35-5.0")},
		"no version":   {"7.2.22", func(w, m map[string]any) { w["machinery_version"] = nil }, stream("pc-q35-7.2")},
		"the same type, by its version": {"8.0.1", func(w, m map[string]any) {
			w["machinery_version"], m["start_args"] = "8.1", append([]string{"-machine", "accel=kvm,type=pc-q35-7.2"}, slices.Concat(args[:1], args[3:])...)
		}, stream("pc-q35-7.2")},
		"a type that only others have":   {"8.2.0", func(w, m map[string]any) { w["machinery_version"] = "8.2.0" }, stream("pc-q35-noble")},
		"-enable-kvm in both its forms":  {"7.2.22", func(w, m map[string]any) { m["start_args"] = slices.Concat(args, []string{"--enable-kvm"}) }, stream("pc-q35-7.2")},
		"no type in an old kind of file": {"7.2.22", nil, slices.Concat([]byte("QEVM\x00\x00\x00\x03"), bytes.Repeat([]byte{1}, 20), stream("x")[8:])},
	} {
		t.Run(name, func(t *testing.T) {
			dir := machine(t, t.TempDir(), "m", c.info)
			write(t, dir+"/memory.snapshot", c.snapshot)
			m, err := Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			if found := m.Check(t.Context(), Options{QEMU: c.qemu}); len(found) > 0 {
				t.Errorf("%q", found)
			}
		})
	}
}

func TestADriversWordsAreAskedForWithoutWhatIsSaidAlready(t *testing.T) {
	m, err := Read(machine(t, t.TempDir(), "m", func(_, m map[string]any) { m["start_args"] = []string{"-realtime", "mlock=off", "-gdb", "tcp::1"} }))
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	found := m.Check(t.Context(), Options{Review: func(args []string, disk string) []string {
		asked = append(slices.Clone(args), disk)
		return []string{"-gdb lets others in"}
	}})
	if want := []string{"-gdb", "tcp::1", m.DiskPath}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
	if len(found) != 2 || found[1] != "-gdb lets others in" {
		t.Errorf("%q", found)
	}
}

func TestQuickReadsOnlyTheBeginningOfWhatIsPacked(t *testing.T) {
	dir := machine(t, t.TempDir(), "m", nil)
	data := vmstatetest.Packed(t, "gzip", stream("pc-q35-7.2"))
	write(t, dir+"/memory.snapshot", data[:len(data)-1])
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if found := m.Check(t.Context(), Options{Quick: true}); len(found) != 0 {
		t.Errorf("%q", found)
	}
}

func TestAFileOfAnotherUserIsNamedWithBoth(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := machine(t, t.TempDir(), "m", nil)
	if err := os.Chown(dir+"/disk.qcow2", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := m.Check(t.Context(), Options{})
	if len(found) != 1 || !strings.Contains(found[0], dir+"/disk.qcow2 belongs to uid 12345") || !strings.Contains(found[0], "this runs as root (uid 0)") {
		t.Errorf("%q", found)
	}
}

func FuzzMachineInfo(f *testing.F) {
	f.Add(info(f, nil))
	f.Add([]byte(`{"machinery": "qemu", "machine": {"start_args": ["-m"], "agent_port": 1e3, "tags": null}}`))
	f.Add([]byte(strings.Repeat("[", 50) + strings.Repeat("]", 50)))
	f.Add([]byte("{\"\\ud800\": \"\xff\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Parse("x", data)
		switch {
		case (info == nil) == (err == nil):
			t.Fatalf("%v, %v", info, err)
		case err != nil:
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "x:") {
					t.Errorf("no place: %q", line)
				}
			}
			return
		}
		if info.Name == "" || info.AgentPort < 1 || info.AgentPort > 65535 || len(info.StartArgs) == 0 || strings.ContainsAny(info.Disk+info.Snapshot, "/\x00") {
			t.Errorf("this was let through: %+v", info)
		}
		if !json.Valid(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
			t.Error("this is not JSON")
		}
	})
}
