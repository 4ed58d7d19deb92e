//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/internal/require"
)

// qemuConfig is a qemu.yaml without machines, whose emulator says a version and can do nothing else.
func qemuConfig(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	emulator := filepath.Join(dir, "emulator")
	if err := os.WriteFile(emulator, []byte("#!/bin/sh\necho QEMU emulator version 7.2.22\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("# Ours.\ninterface: lo # of the host\ndisposable_copy_dir: %s\nbinaries: {qemu_img: %s, qemu_system_x86_64: %[2]s}\nmachines:\n", dir, emulator)
	path := filepath.Join(dir, "qemu.yaml")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// cloaked makes the directory of a machine as VMCloak does, with its last number in its addresses.
func cloaked(t *testing.T, in, name string, number int, change func(whole, machine map[string]any)) string {
	t.Helper()
	dir := filepath.Join(in, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	machine := map[string]any{
		"name": name, "ip": fmt.Sprint("192.168.30.", number), "agent_port": 8000, "os_name": "Windows", "os_version": "1.10", "architecture": "amd64",
		"tags": []string{"dotnet", "no"}, "bridge": "lo", "mac": fmt.Sprintf("52:54:00:00:00:%02x", number), "disk": "disk.qcow2", "memory_snapshot": "memory.snapshot",
		"start_args": []string{"-M", "q35", "-m", "64", "-drive", "file=%DISPOSABLE_DISK_PATH%,format=qcow2"},
	}
	whole := map[string]any{"machinery": "qemu", "machinery_version": "7.2.22", "machine": machine}
	if change != nil {
		change(whole, machine)
	}
	data, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"machineinfo.json": string(data),
		"memory.snapshot":  "QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x0apc-q35-7.2 and all that\x00\x06\x00\x00\x00\x02{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "disk.qcow2")); err != nil {
		if err := qcow2.Create(filepath.Join(dir, "disk.qcow2"), qcow2.Options{VirtualSize: 1 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnImportCanBeRepeatedAndTakenBack(t *testing.T) {
	path, vms := qemuConfig(t), t.TempDir()
	before := readFile(t, path)
	one, two := cloaked(t, vms, "win10_1", 1, nil), cloaked(t, vms, "win10_2", 2, func(_, m map[string]any) { m["bridge"], m["tags"] = nil, nil })

	dry := runCLI(t, "machine", "import", "-c", path, "--dry-run", vms)
	dry.want(t, 0, "stderr")
	if want := "win10_1: would be added\nwin10_2: would be added\n"; dry.out != want || readFile(t, path) != before {
		t.Errorf("--dry-run says %q, want %q; the file is now\n%s", dry.out, want, readFile(t, path))
	}
	first := runCLI(t, "machine", "import", "-c", path, vms, one)
	first.want(t, 0, "stderr")
	if want := "win10_1: added\nwin10_2: added\n"; first.out != want {
		t.Errorf("it says %q, want %q", first.out, want)
	}
	after := readFile(t, path)
	want := before + fmt.Sprintf(`  win10_1:
    qcow2_path: %[1]s/disk.qcow2
    snapshot_path: %[1]s/memory.snapshot
    machineinfo_path: %[1]s/machineinfo.json
    ip: 192.168.30.1
    mac_address: "52:54:00:00:00:01"
    platform: Windows
    os_version: "1.10"
    architecture: amd64
    agent_port: 8000
    tags:
      - dotnet
      - "no"
  win10_2:
    qcow2_path: %[2]s/disk.qcow2
    snapshot_path: %[2]s/memory.snapshot
    machineinfo_path: %[2]s/machineinfo.json
    ip: 192.168.30.2
    mac_address: "52:54:00:00:00:02"
    platform: Windows
    os_version: "1.10"
    architecture: amd64
    agent_port: 8000
    tags:
`, one, two)
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v (%v)", info.Mode(), err)
	}
	runCLI(t, "config", "check", "--strict", path).want(t, 0, "stderr")

	again := runCLI(t, "machine", "import", "-c", path, vms)
	again.want(t, 0, "stderr")
	if want := "win10_1: there already\nwin10_2: there already\n"; again.out != want || readFile(t, path) != after {
		t.Errorf("a second time it says %q, want %q; the file is now\n%s", again.out, want, readFile(t, path))
	}
	removed := runCLI(t, "machine", "remove", "-c", path, "--runtime-dir", filepath.Join(vms, "run"), "win10_1", "win10_2", "win10_1")
	removed.want(t, 0, "")
	says(t, removed.err, "has no machine any more")
	says(t, removed.out, "win10_1: removed from "+path, "win10_2: removed from "+path)
	if diff := cmp.Diff(before, readFile(t, path)); diff != "" {
		t.Errorf("-before +now:\n%s", diff)
	}
	for _, file := range []string{"disk.qcow2", "memory.snapshot", "machineinfo.json"} {
		if _, err := os.Stat(filepath.Join(one, file)); err != nil {
			t.Errorf("a file of the machine is gone: %v", err)
		}
	}
}

func TestThoseThatCanBeAreImportedAndTheOthersNamed(t *testing.T) {
	path, vms := qemuConfig(t), t.TempDir()
	cloaked(t, vms, "a", 1, nil)
	cloaked(t, vms, "bridge", 2, func(_, m map[string]any) { m["bridge"] = "nope0" })
	copied := cloaked(t, vms, "copied", 1, nil)
	cloaked(t, vms, "odd", 3, func(w, m map[string]any) {
		w["machinery_version"] = "6.2.0"
		m["start_args"] = append(m["start_args"].([]string), "-realtime", "mlock=off", "-gdb", "tcp::1", "-S")
	})
	if err := os.Remove(filepath.Join(cloaked(t, vms, "diskless", 5, nil), "disk.qcow2")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cloaked(t, vms, "short", 4, nil), "memory.snapshot"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cloaked(t, vms, "vbox", 6, func(w, _ map[string]any) { w["machinery"] = "virtualbox" })
	r := runCLI(t, "machine", "import", "-c", path, vms, "/nowhere")
	r.want(t, exitFailed, "")
	if want := "a: added\nodd: added\nshort: added\n"; r.out != want {
		t.Errorf("it says %q, want %q", r.out, want)
	}
	says(t, r.err,
		`machinery: bridge: not imported: `+path+`: machines.bridge.interface: there is no network interface "nope0" on this host`, "with --static it is added all the same",
		`machines.copied.ip: "192.168.30.1" is already the ip of machines.a (line 10)`,
		`machinery: diskless: not imported: `, `disk.qcow2" does not exist`,
		`machinery: odd: warning: its snapshot was made by QEMU 6.2.0, and QEMU 7.2.22 is installed`,
		`machinery: odd: warning: QEMU has no argument "-realtime mlock=off" any more`,
		`machinery: odd: warning: argument "-S" is refused: `,
		`machinery: odd: warning: argument "-gdb tcp::1" needs your word: `,
		`machinery: short: warning: `, "memory.snapshot is empty",
		`this is a machine of "virtualbox": only machines of VMCloak's QEMU can be imported`,
		"machinery: /nowhere: not imported: /nowhere cannot be opened: no such file or directory")
	if strings.Contains(r.err, "diskless: warning") {
		t.Errorf("a disk that is not there is told twice:\n%s", r.err)
	}
	if n := strings.Count(r.err, "-realtime"); n != 1 {
		t.Errorf("an argument that is gone is spoken of %d times:\n%s", n, r.err)
	}

	static := runCLI(t, "machine", "import", "-c", path, "--static", filepath.Join(vms, "bridge"))
	static.want(t, 0, "stderr")
	says(t, readFile(t, path), "    interface: nope0\n")

	before := readFile(t, path)
	cloaked(t, vms, "a", 9, func(_, m map[string]any) { m["tags"] = []string{"office"} })
	other := runCLI(t, "machine", "import", "-c", path, filepath.Join(vms, "a"))
	other.want(t, exitFailed, "stdout")
	const want = `machinery: a: not imported: there is another machine of that name, on line 6, which was left alone:
  ip is "192.168.30.1" there, and "192.168.30.9" here
  mac_address is "52:54:00:00:00:01" there, and "52:54:00:00:00:09" here
  tags is "dotnet, no" there, and "office" here
  to have both, say --name; to have this one instead, remove the other first
`
	if diff := cmp.Diff(want, other.err); diff != "" || readFile(t, path) != before {
		t.Errorf("-want +got:\n%s\nthe file is now\n%s", diff, readFile(t, path))
	}
	cloaked(t, vms, "copied", 8, nil)
	named := runCLI(t, "machine", "import", "-c", path, "--json", "--name", "mine", copied)
	named.want(t, 0, "stderr")
	if all := decode[[]imported](t, named.out); len(all) != 1 || all[0].Name != "mine" || all[0].Result != "added" || len(all[0].Warnings) != 0 || all[0].Directory != copied {
		t.Errorf("%+v", all)
	}
	both := runCLI(t, "machine", "import", "-c", path, "--name", "mine", vms)
	both.want(t, exitUsage, "stdout")
}

func TestWhatAUserWroteBesidesIsNoDifference(t *testing.T) {
	path, dir := qemuConfig(t), cloaked(t, t.TempDir(), "a", 1, nil)
	runCLI(t, "machine", "import", "-c", path, dir).want(t, 0, "stderr")
	text := readFile(t, path)
	text = strings.Replace(text, "    platform: Windows\n", "    platform: windows # ours\n    interface: lo\n    allow_arguments: [-gdb]\n", 1)
	text = strings.Replace(text, "    agent_port: 8000\n", "", 1)
	text = strings.Replace(text, `"52:54:00:00:00:01"`, `"52:54:00:00:00:01" # the card`, 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runCLI(t, "machine", "import", "-c", path, dir)
	r.want(t, 0, "stderr")
	if r.out != "a: there already\n" || readFile(t, path) != text {
		t.Errorf("%s\n%s", r.out, readFile(t, path))
	}
}

func TestAnImportWithWhiteSpaceOrALinkCanBeRepeated(t *testing.T) {
	path, vms := qemuConfig(t), t.TempDir()
	dir := cloaked(t, vms, "a", 1, func(_, m map[string]any) { m["bridge"], m["os_name"] = "lo ", " Windows" })
	if err := os.Symlink(dir, filepath.Join(vms, "link")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a: added\n", "a: there already\n"} {
		r := runCLI(t, "machine", "import", "-c", path, vms)
		r.want(t, 0, "stderr")
		if r.out != want {
			t.Errorf("it says %q, want %q", r.out, want)
		}
	}
}

func TestAddTellsAllThatIsWrongAndWritesNothing(t *testing.T) {
	path := qemuConfig(t)
	before := readFile(t, path)
	r := runCLI(t, "machine", "add", "-c", path, "n", "ip=1.2.3.4", "qcow2_path=/nowhere", "agent_port=99999", "interface=nope0", "platform=")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "machines.n.snapshot_path: it is not given", "machines.n.machineinfo_path: it is not given", "machines.n.os_version: it is not given",
		"machines.n.architecture: it is not given", "machines.n.tags: it is not given", "Add, for example: tags=exampletag1,exampletag2",
		"machines.n.platform: its value is empty", "write, for example: platform=windows", `machines.n.agent_port: "99999" is out of range`,
		`machines.n.qcow2_path: "/nowhere" does not exist`, `machines.n.interface: there is no network interface "nope0"`)
	if readFile(t, path) != before {
		t.Errorf("the file was changed:\n%s", readFile(t, path))
	}
	r = runCLI(t, "machine", "add", "-c", path, "n")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "machines.n: it is given no values", "os_version=10 architecture=amd64 tags=exampletag1,exampletag2")
	for _, name := range []string{"../n", "..", "a/b", "n ", "a\nb", "-n", "", "*n"} {
		r := runCLI(t, "machine", "add", "-c", path, "--static", "--", name, "qcow2_path=/a", "snapshot_path=/c", "machineinfo_path=/d", "ip=1.2.3.4", "platform=windows", "os_version=1.10", "architecture=amd64", "tags=a,b")
		r.want(t, exitUsage, "stdout")
		says(t, r.err, "a name has letters, digits, dots, dashes and underscores")
	}
	runCLI(t, "machine", "add", "-c", path, "n", "=x").want(t, exitUsage, "stdout")
	if readFile(t, path) != before {
		t.Errorf("the file was changed:\n%s", readFile(t, path))
	}
	values := []string{"machine", "add", "-c", path, "--static", "new", "qcow2_path=/a b", "snapshot_path=/c", "machineinfo_path=/d", "ip=1.2.3.4", "platform=windows", "os_version=1.10", "architecture=amd64", "tags=a,b", "tags=no"}
	added := runCLI(t, values...)
	added.want(t, 0, "stderr")
	if want := "new: added to " + path + "\n"; added.out != want {
		t.Errorf("it says %q, want %q", added.out, want)
	}
	if diff := cmp.Diff(before+`  new:
    qcow2_path: /a b
    snapshot_path: /c
    machineinfo_path: /d
    ip: 1.2.3.4
    platform: windows
    os_version: "1.10"
    architecture: amd64
    tags:
      - a
      - b
      - "no"
`, readFile(t, path)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	twice := runCLI(t, values...)
	twice.want(t, exitFailed, "stdout")
	says(t, twice.err, path+`:6:3: the machine "new" is here already`)
}

func TestWhatElseIsWrongWithAFileIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvm.yaml")
	if err := os.WriteFile(path, []byte("interface: lo\nmachines:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runCLI(t, "machine", "add", "-c", path, "m", "label=m", "ip=10.1.0.1", "platform=linux", "os_version=12", "architecture=amd64", "tags=")
	r.want(t, 0, "")
	if want := "config check " + path; !strings.Contains(strings.Join(strings.Fields(r.err), " "), want) {
		t.Errorf("a file without a dsn: %s", r.err)
	}
	runCLI(t, "machine", "list", "-c", path).want(t, exitFailed, "")
	r = runCLI(t, "machine", "remove", "--force", "-c", path, "m")
	r.want(t, 0, "")
	if !strings.Contains(r.err, "no machine any more") {
		t.Errorf("the last machine: %s", r.err)
	}
}

func TestMachineListHasTheMachinesOfTheFile(t *testing.T) {
	needDriver(t, "kvm")
	path := configFile(t, "kvm.yaml", kvmFile)
	r := runCLI(t, "machine", "list", "-c", path)
	r.want(t, 0, "stderr")
	if want := "NAME     LINE  SYSTEM              ADDRESS          TAGS\nwin10_1  5     windows 1.10 amd64  192.168.122.101  office no\n"; r.out != want {
		t.Errorf("%q, want %q", r.out, want)
	}
	all := decode[map[string]map[string]any](t, runCLI(t, "machine", "list", "-c", path, "--json").out)
	if all["win10_1"]["label"] != "win: 10" || all["win10_1"]["agent_port"] != 8000.0 {
		t.Errorf("%v", all)
	}
	none := filepath.Join(filepath.Dir(path), "qemu.yaml")
	for _, command := range []string{"list", "add", "remove", "import"} {
		r := runCLI(t, "machine", command, "-c", none)
		r.want(t, exitFailed, "stdout")
		says(t, r.err, "there is no configuration file "+none, `"machinery config init `+filepath.Dir(path)+`"`)
	}
}

func TestAMachineThatRunsIsNotRemoved(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "a"}, conformance.MachineSpec{Name: "b"})
	before := readFile(t, s.bench.ConfigPath())
	remove := func(more ...string) result {
		return runCLI(t, append([]string{"machine", "remove", "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir()}, more...)...)
	}
	s.vm("start", "a").want(t, 0, "stderr")
	r := remove("b", "a")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: "a" is running and was not removed; switch it off first, with "machinery vm stop"`)
	unknown := remove("b", "c")
	unknown.want(t, exitUsage, "stdout")
	says(t, unknown.err, `there is no machine "c"; the configuration has "a", "b"`)
	if readFile(t, s.bench.ConfigPath()) != before {
		t.Error("the file was changed")
	}
	s.state("a", "running")
	s.vm("stop", "a").want(t, 0, "stderr")
	remove("a").want(t, 0, "stderr")
	if names := runCLI(t, "machine", "list", "-c", s.bench.ConfigPath()).out; strings.Contains(names, "\na ") || !strings.Contains(names, "\nb ") {
		t.Errorf("the file has\n%s", names)
	}
	s.nothingLeft()
}

func TestAMachineThatAProgramHoldsIsNotRemoved(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "slow", Faults: []conformance.Fault{{Kind: conformance.FaultSlowStart, Delay: patience}}})
	interrupt := startSlowly(t, s, "slow")
	r := runCLI(t, "machine", "remove", "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir(), "slow")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `machinery: "slow" is held by process `, "wait until that lets go of it, or end it")
	interrupt().want(t, exitFailed, "stdout")
	s.nothingLeft()
}

func TestWithoutItsDriverAMachineIsRemovedByForceAlone(t *testing.T) {
	needDriver(t, "kvm")
	path := configFile(t, "kvm.yaml", strings.NewReplacer("qemu:///system", "qemu+unix:///system?socket=/nowhere/socket", "lo0", "lo").Replace(kvmFile))
	r := runCLI(t, "machine", "remove", "-c", path, "win10_1")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "/nowhere/socket", "if you know that it is off, say --force")
	runCLI(t, "machine", "remove", "-c", path, "--force", "win10_1").want(t, 0, "")
	if text := readFile(t, path); strings.Contains(text, "win10_1") {
		t.Errorf("it is still there:\n%s", text)
	}
}

func TestNamesAreCompletedWithoutTheDriver(t *testing.T) {
	needDriver(t, "kvm")
	path := configFile(t, "kvm.yaml", strings.NewReplacer("qemu:///system", "qemu+unix:///system?socket=/nowhere/socket", "lo0", "lo").Replace(kvmFile))
	for _, c := range []struct{ args, want []string }{
		{[]string{"remove", "-c", path, ""}, []string{"win10_1\n"}},
		{[]string{"add", "-c", path, "new", "label=x", ""}, []string{"ip=\n", "tags=\n"}},
	} {
		r := runCLI(t, append([]string{"__complete", "machine"}, c.args...)...)
		if r.status != 0 {
			t.Fatalf("%+v", r)
		}
		says(t, r.out, c.want...)
		if strings.Contains(r.out, "label=") {
			t.Errorf("a value that was given is offered again:\n%s", r.out)
		}
	}
}

func TestAnImportedMachineRunsOnTheHostsQEMU(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64", "qemu-img")
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "made")
	runCLI(t, "vm", "example", made).want(t, 0, "stderr")
	var example struct {
		Machine struct {
			StartArgs []string `json:"start_args"`
		} `json:"machine"`
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(made, "example1", "machineinfo.json"))), &example); err != nil {
		t.Fatal(err)
	}
	vm := cloaked(t, dir, "win10_1", 1, func(w, m map[string]any) { m["start_args"], w["machinery_version"] = example.Machine.StartArgs, nil })
	for _, file := range []string{"disk.qcow2", "memory.snapshot"} {
		if err := os.Rename(filepath.Join(made, "example1", file), filepath.Join(vm, file)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(made, "qemu.yaml")
	text := readFile(t, path)
	runCLI(t, "machine", "remove", "-c", path, "--runtime-dir", filepath.Join(dir, "run"), "example1").want(t, 0, "")
	r := runCLI(t, "machine", "import", "-c", path, vm)
	r.want(t, 0, "stderr")
	at := []string{"win10_1", "-c", path, "--runtime-dir", filepath.Join(dir, "run")}
	started := runCLI(t, append([]string{"vm", "start"}, at...)...)
	defer runCLI(t, append([]string{"vm", "stop"}, at...)...)
	started.want(t, 0, "stderr")
	says(t, started.out, "win10_1: running\n")
	refused := runCLI(t, append([]string{"machine", "remove"}, at...)...)
	refused.want(t, exitFailed, "stdout")
	says(t, refused.err, "is running and was not removed")
	if now := readFile(t, path); !strings.Contains(now, "  win10_1:") || strings.Contains(now, "  example1:") || !strings.Contains(text, "  example1:") {
		t.Errorf("the file has\n%s", readFile(t, path))
	}
}

func TestOnlyAFileThatIsFoundAgainByItsNameIsEdited(t *testing.T) {
	path := qemuConfig(t)
	before := readFile(t, path)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := command(t, "machine", "add", "-c", "/dev/stdin", "--driver", "qemu", "--static", "n", "qcow2_path=/a", "snapshot_path=/c", "machineinfo_path=/d", "ip=1.2.3.4", "platform=windows", "os_version=10", "architecture=amd64", "tags=")
	cmd.Stdin = file
	r := finish(t, cmd)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "/dev/stdin is no file that can be replaced")
	if readFile(t, path) != before {
		t.Errorf("the file was changed:\n%s", readFile(t, path))
	}
	dangling := filepath.Join(t.TempDir(), "qemu.yaml")
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"machine", "list", "-c", dangling}, {"config", "check", dangling}, {"config", "show", dangling}, {"doctor", "-c", dangling}, {"vm", "state", "-c", dangling}} {
		r := runCLI(t, args...)
		r.want(t, exitFailed, "stdout")
		says(t, r.err, "is a symbolic link to nowhere, where there is no file")
	}
	r = runCLI(t, "config", "init", filepath.Dir(dangling), "qemu")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "qemu.yaml cannot be written: it is a symbolic link that leads to no file")
	r = runCLI(t, "config", "check", "")
	r.want(t, exitFailed, "stdout")
	says(t, r.err, "the name of the configuration file is empty")
}

func TestAMachineWhoseNameCannotBeOneIsNotImported(t *testing.T) {
	path := qemuConfig(t)
	before := readFile(t, path)
	dir := cloaked(t, t.TempDir(), "a b", 1, nil)
	r := runCLI(t, "machine", "import", "-c", path, dir)
	r.want(t, exitFailed, "stdout")
	says(t, r.err, `a machine cannot be called "a b"`, "--name gives it another")
	if readFile(t, path) != before {
		t.Errorf("the file was changed:\n%s", readFile(t, path))
	}
	runCLI(t, "machine", "import", "-c", path, "--name", "ab", dir).want(t, 0, "stderr")
}
