package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const kvmFile = `# Two machines.
dsn: qemu:///system
interface: lo0   # of the host
machines:
  win10_1:
    label: "win: 10"
    ip: 192.168.122.101
    platform: Windows
    os_version: 1.10
    architecture: amd64
    mac_address: 10:20:30:40:50:10
    tags: [office, no]
`

// ourDrivers are the names of the drivers that the command has here.
func ourDrivers(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, d := range platformDrivers() {
		names = append(names, d.Name)
	}
	if len(names) == 0 {
		t.Skip("this platform has no drivers")
	}
	return names
}

func needDriver(t *testing.T, name string) {
	t.Helper()
	if !slices.Contains(ourDrivers(t), name) {
		t.Skip("this platform has no driver " + name)
	}
}

// configFile writes a configuration for a driver.
func configFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigShowHasTheValuesAsTheDriverGetsThem(t *testing.T) {
	needDriver(t, "kvm")
	r := runCLI(t, "config", "show", "--static", configFile(t, "kvm.yaml", kvmFile))
	r.want(t, 0, "stderr")
	const want = `dsn: qemu:///system
interface: lo0
runtime_dir:
disposable_copy_dir:
load_timeout: 3m  # default
stop_timeout: 17s  # default
call_timeout: 10s  # default
capture: tcpdump  # default
tcpdump: /usr/bin/tcpdump  # default
machines:
  win10_1:
    label: 'win: 10'
    ip: 192.168.122.101
    platform: windows
    os_version: "1.10"
    mac_address: "10:20:30:40:50:10"
    snapshot:
    memory_path:
    interface:
    agent_port: 8000  # default
    architecture: amd64
    tags:
      - office
      - "no"
`
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	shown := runCLI(t, "config", "show", "--static", configFile(t, "kvm.yaml", r.out))
	shown.want(t, 0, "stderr")
	if diff := cmp.Diff(strings.ReplaceAll(r.out, "  # default", ""), strings.ReplaceAll(shown.out, "  # default", "")); diff != "" {
		t.Errorf("what is shown does not read as what it was:\n%s", diff)
	}
	all := decode[map[string]any](t, runCLI(t, "config", "show", "--static", "--json", configFile(t, "kvm.yaml", kvmFile)).out)
	if got := all["machines"].(map[string]any)["win10_1"].(map[string]any)["agent_port"]; got != 8000.0 {
		t.Errorf("agent_port is %v", got)
	}
}

func TestConfigCheckTellsOfAllFilesAndFailsForOne(t *testing.T) {
	needDriver(t, "kvm")
	good, bad := configFile(t, "kvm.yaml", kvmFile), configFile(t, "kvm.yaml", strings.Replace(kvmFile, "dsn: qemu", "dns: qemu", 1))
	r := runCLI(t, "config", "check", "--static", good, bad)
	r.want(t, exitFailed, "stderr")
	want := good + ": 1 machine, no problem\n" + bad + `:2:1: dsn: this key is missing
    2 | dns: qemu:///system
      | ^
      hint: is "dns" on line 2 meant to be it?
` + bad + `:2:1: warning: dns: this key is unknown, and has no effect
    2 | dns: qemu:///system
      | ^
      hint: did you mean "dsn"?
` + bad + ": 1 machine, 1 error and 1 warning\n"
	if diff := cmp.Diff(want, r.out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	all := decode[[]checkedFile](t, runCLI(t, "config", "check", "--static", "--json", good, bad, "/nowhere/kvm.yaml").out)
	if len(all) != 3 || !all[0].OK || all[1].OK || len(all[1].Problems) != 2 || all[1].Problems[0].Line != 2 || all[2].Error == "" {
		t.Errorf("%+v", all)
	}
	// Of a file that is no driver's is said so, and the others are checked.
	other, schema := configFile(t, "kvn.yaml", "{}"), configFile(t, "kvm.schema.json", "{}")
	mixed := runCLI(t, "config", "check", "--static", other, good)
	mixed.want(t, exitUsage, "")
	says(t, mixed.err, `there is no driver "kvn"`)
	runCLI(t, "config", "check", "--static", schema, good).want(t, 0, "stderr")
	says(t, mixed.out, good+": 1 machine, no problem\n")
	warned := configFile(t, "kvm.yaml", kvmFile+"    colour: red\n")
	runCLI(t, "config", "check", "--static", warned).want(t, 0, "stderr")
	runCLI(t, "config", "check", "--static", "--strict", warned).want(t, exitFailed, "stderr")
}

func TestConfigSchemaIsTheDriversOwn(t *testing.T) {
	for _, name := range ourDrivers(t) {
		r := runCLI(t, "config", "schema", name)
		r.want(t, 0, "stderr")
		if schema := decode[map[string]any](t, r.out); schema["title"] != name+".yaml" {
			t.Errorf("the schema of %s is for %v", name, schema["title"])
		}
		page := runCLI(t, "config", "schema", name, "--reference")
		page.want(t, 0, "stderr")
		have, err := os.ReadFile("../../docs/config-" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(have), page.out); diff != "" {
			t.Errorf("docs/config-%s.md is not what the schema says; \"make catalogue\" writes it (-have +want):\n%s", name, diff)
		}
	}
}

func TestConfigInitWritesExamplesThatLoadAndOverwritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "conf")
	first := runCLI(t, "config", "init", dir)
	first.want(t, 0, "stderr")
	var files []string
	for _, name := range ourDrivers(t) {
		path := filepath.Join(dir, name+".yaml")
		files = append(files, path)
		if !strings.Contains(first.out, path+" was written\n") {
			t.Errorf("%s is not said to be written:\n%s", path, first.out)
		}
	}
	checked := runCLI(t, append([]string{"config", "check", "--static", "--strict"}, files...)...)
	checked.want(t, 0, "stderr")
	if strings.Count(checked.out, "1 machine, no problem") != len(files) {
		t.Errorf("the examples are not without problems:\n%s", checked.out)
	}
	if err := os.WriteFile(files[0], []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[len(files)-1]); err != nil {
		t.Fatal(err)
	}
	again := runCLI(t, "config", "init", "--schemas", dir)
	again.want(t, 0, "stderr")
	if text, err := os.ReadFile(files[0]); err != nil || string(text) != "mine" || !strings.Contains(again.out, files[0]+" is there already, and was left alone; for editors to find the schema, put this line at its top:\n  # yaml-language-server: $schema=") {
		t.Errorf("a file that was there is %q (%v):\n%s", text, err, again.out)
	}
	last := ourDrivers(t)[len(ourDrivers(t))-1]
	if text, err := os.ReadFile(files[len(files)-1]); err != nil || !strings.HasPrefix(string(text), "# yaml-language-server: $schema="+last+".schema.json\n") {
		t.Errorf("the new file does not name its schema: %.100s (%v)", text, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2*len(files) {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestConfigInitSaysWhyItCannotWrite(t *testing.T) {
	file := configFile(t, "file", "")
	r := runCLI(t, "config", "init", file)
	r.want(t, exitFailed, "stdout")
	if want := "machinery: the directory " + file + " cannot be made: not a directory\n"; r.err != want {
		t.Errorf("%q, want %q", r.err, want)
	}
}
