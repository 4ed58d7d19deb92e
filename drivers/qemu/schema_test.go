//go:build linux

package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// cuckooYAML is a qemu.yaml as Cuckoo3 writes it, for the files of a site.
func cuckooYAML(s *site) string {
	m := s.config.Machines
	text := fmt.Sprintf("interface: lo\ndisposable_copy_dir: \nbinaries:\n    qemu_img: %s\n    qemu_system_x86_64: %s\nmachines:\n", s.config.QEMU, s.config.QEMU)
	for i, vm := range m {
		text += fmt.Sprintf("    %s:\n        qcow2_path: %s\n        snapshot_path: %s\n        machineinfo_path: %s\n        ip: 192.168.30.%d\n        platform: Windows\n        os_version: 10\n        architecture: AMD64\n        tags:\n            - adobereader11\n            - office\n", vm.Name, vm.Disk, vm.Snapshot, vm.Info, 101+i)
	}
	return text
}

func (s *site) openFile(text string) (machinery.Machinery, error) {
	s.t.Helper()
	var r machinery.Registry
	if err := r.Register(Driver()); err != nil {
		s.t.Fatal(err)
	}
	m, err := r.Open(context.Background(), s.write("qemu.yaml", []byte(text)), machinery.Options{RuntimeDir: s.runtime})
	if err == nil {
		s.t.Cleanup(func() { m.Close() })
	}
	return m, err
}

func TestCuckoo3sFileOpensUnchanged(t *testing.T) {
	s := newSite(t)
	disk, snapshot := append(bootSector(), make([]byte, 512)...), []byte(stateBegin)
	s.add("win10_1", disk, snapshot)
	s.add("win10_2", disk, snapshot)
	m, err := s.openFile(cuckooYAML(s))
	if err != nil {
		t.Fatal(err)
	}
	list := m.Machines()
	if len(list) != 2 {
		t.Fatalf("the machines are %v", list)
	}
	got := fmt.Sprintf("%+v", list[1])
	want := fmt.Sprintf("%+v", machinery.Machine{Name: "win10_2", IP: "192.168.30.102", Platform: "windows", OSVersion: "10", Architecture: "amd64",
		Interface: "lo", AgentPort: 8000, Tags: []string{"adobereader11", "office"}})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	list[1].Tags[0] = "changed"
	if m.Machines()[1].Tags[0] != "adobereader11" {
		t.Error("a caller can change the driver's machines")
	}
	mustState(t, m, "win10_1", machinery.StatePoweroff, "")
}

func TestAMachineThatTheFileHasWrongIsListedWithThePlace(t *testing.T) {
	s := newSite(t)
	disk, snapshot := append(bootSector(), make([]byte, 512)...), []byte(stateBegin)
	s.add("good", disk, snapshot)
	bad := s.add("bad", disk, snapshot)
	os.Remove(bad.Snapshot)
	m, err := s.openFile(cuckooYAML(s))
	if err != nil {
		t.Fatal(err)
	}
	status := mustState(t, m, "bad", machinery.StateError, reasonConfig)
	if want := filepath.Join(s.dir, "qemu.yaml:"); !strings.Contains(status.Detail, want) || !strings.Contains(status.Detail, bad.Snapshot) {
		t.Errorf("the detail does not say where: %s", status.Detail)
	}
	mustState(t, m, "good", machinery.StatePoweroff, "")
}

func TestTwoMachinesWithOneDiskAreNamedWithTheirPlaces(t *testing.T) {
	s := newSite(t)
	disk, snapshot := append(bootSector(), make([]byte, 512)...), []byte(stateBegin)
	s.add("one", disk, snapshot)
	two := s.add("two", disk, snapshot)
	os.Remove(two.Disk)
	if err := os.Link(s.config.Machines[0].Disk, two.Disk); err != nil {
		t.Fatal(err)
	}
	m, err := s.openFile(cuckooYAML(s))
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{"one": "two", "two": "one"} {
		status := mustState(t, m, name, machinery.StateError, reasonConfig)
		if !regexp.MustCompile(`machine "` + other + `" \(.*qemu\.yaml:\d+:\d+\)`).MatchString(status.Detail) {
			t.Errorf("%s: the detail does not name the other and its place: %s", name, status.Detail)
		}
	}
}

func TestTheTemplateHasEveryKeyOfTheSchemaWithAComment(t *testing.T) {
	if err := conftemplates.Check(Template, schema); err != nil {
		t.Error(err)
	}
}

func TestEveryKeyOfTheSchemaIsDocumented(t *testing.T) {
	var walk func(fields []config.Field)
	walk = func(fields []config.Field) {
		for _, f := range fields {
			if f.Doc == "" {
				t.Errorf("%s has no documentation", f.Key)
			}
			switch typ := f.Type.(type) {
			case config.Section:
				walk(typ.Fields)
			case config.Machines:
				walk(typ.Fields)
			}
		}
	}
	walk(schema.Fields)
}

func TestTheDriverBringsNoTestFrameworkAndNoFlags(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not installed")
	}
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for _, never := range []string{"testing", "flag", "github.com/onsi/", "github.com/machineries/machineries/fakes", "github.com/machineries/machineries/conformance"} {
			if dep == never || strings.HasSuffix(never, "/") && strings.HasPrefix(dep, never) || strings.HasPrefix(dep, never+"/") {
				t.Errorf("the driver imports %s", dep)
			}
		}
	}
}

func TestArgumentsAreAllowedInTheConfigurationFileAsItsMessageSays(t *testing.T) {
	s := newSite(t)
	disk := append(bootSector(), make([]byte, 512)...)
	for i, name := range []string{"refused", "allowed", "other"} {
		s.add(name, disk, append([]byte(stateBegin), byte(i)), machineArgs("-gdb", "tcp::1234", "-netdev", "user,id=n,hostfwd=tcp::22-:22")...)
	}
	text := strings.Replace(cuckooYAML(s), "machines:\n", "allow_arguments: -netdev user hostfwd\nsandbox: no\nfile_quota: 3\nmachines:\n", 1)
	text = regexp.MustCompile(`(?m)^( +(?:allowed|other):\n)( +)`).ReplaceAllString(text, "$1${2}allow_arguments: [\"-gdb\"]\n$2")
	m, err := s.openFile(text)
	if err != nil {
		t.Fatal(err)
	}
	if c := m.(*Machinery).config; !c.NoSandbox || c.FileQuota != 3<<20 {
		t.Errorf("the configuration is %+v", c)
	}
	status := mustState(t, m, "refused", machinery.StateError, reasonConfig)
	if !regexp.MustCompile(`add "-gdb" to allow_arguments of the machine \(.*qemu\.yaml:\d+:\d+\)$`).MatchString(status.Detail) || strings.Contains(status.Detail, "hostfwd") {
		t.Errorf("the detail is %s", status.Detail)
	}
	mustState(t, m, "allowed", machinery.StatePoweroff, "")
	mustState(t, m, "other", machinery.StatePoweroff, "")
}
