//go:build linux

package kvm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/machinery"
)

// diagnosed are the findings about a configuration and its host.
func (s *site) diagnosed(c Config) []machinery.Finding {
	s.t.Helper()
	return diagnose(limit(s.t), c, machinery.DiagnoseOptions{Options: machinery.Options{RuntimeDir: s.bench.RuntimeDir()}})
}

// wrong are the findings of those that are not well, each as a line.
func wrong(found []machinery.Finding) []string {
	var lines []string
	for _, f := range found {
		if f.Level != machinery.LevelOK {
			lines = append(lines, fmt.Sprintf("%s|%s|%s|%s|%s", f.Area, f.Subject, f.Level, f.What, f.Do))
		}
	}
	return lines
}

// mustFind fails the test unless there is just one thing that is not well, of that level and with all of the words.
func mustFind(t *testing.T, found []machinery.Finding, level machinery.Level, words ...string) {
	t.Helper()
	lines := wrong(found)
	if len(lines) != 1 || !strings.Contains(lines[0], "|"+string(level)+"|") {
		t.Fatalf("found:\n%s\nwant one %s", strings.Join(lines, "\n"), level)
	}
	for _, word := range words {
		if !strings.Contains(lines[0], word) {
			t.Errorf("it lacks %q:\n%s", word, lines[0])
		}
	}
}

// recordable has a configuration record by what every host has, and reach its machines by what every host has.
func recordable(c Config) Config {
	c.Tcpdump, c.Capture, c.Interface = "/nowhere/tcpdump", CaptureFilterDump, "lo"
	return c
}

func TestEachFaultOfAnInstallationIsFoundWithWhatToDo(t *testing.T) {
	s := newSite(t, "fake", conformance.MachineSpec{Name: "vm"})
	sound := recordable(s.config)
	found := s.diagnosed(sound)
	if lines := wrong(found); len(lines) != 0 {
		t.Fatalf("of a sound installation:\n%s", strings.Join(lines, "\n"))
	}
	var areas []string
	for _, f := range found {
		if len(areas) == 0 || areas[len(areas)-1] != f.Area {
			areas = append(areas, f.Area)
		}
	}
	if got, want := strings.Join(areas, ", "), "hypervisor, directories, network, traffic capture, machines, left-overs"; got != want {
		t.Errorf("the areas are %s, want %s", got, want)
	}
	for name, c := range map[string]struct {
		fault func(t *testing.T, c *Config)
		level machinery.Level
		words []string
	}{
		"no libvirt": {func(t *testing.T, c *Config) { c.URI = "qemu:///system?socket=" + filepath.Join(t.TempDir(), "none") },
			machinery.LevelProblem, []string{"hypervisor|", "no such file", "no machine was looked at", "apt-get install libvirt-daemon-system"}},
		"a URI that is none": {func(_ *testing.T, c *Config) { c.URI = "nonsense" },
			machinery.LevelProblem, []string{"hypervisor|nonsense|", "not a libvirt URI"}},
		"no domain": {func(_ *testing.T, c *Config) { c.Machines[0].Label = "nosuch" },
			machinery.LevelProblem, []string{`machines|vm|`, `no domain "nosuch"`, "virsh define", "libvirt has "}},
		"no label": {func(_ *testing.T, c *Config) { c.Machines[0].Label = "" },
			machinery.LevelProblem, []string{"machines|vm|", "no domain is named"}},
		"no snapshot": {func(_ *testing.T, c *Config) { c.Machines[0].Snapshot = "nosuch" },
			machinery.LevelProblem, []string{"machines|vm|", `no snapshot "nosuch"`, "virsh snapshot-create-as"}},
		"a memory image that is none": {func(t *testing.T, c *Config) {
			c.Machines[0].Snapshot, c.Machines[0].Memory = "", filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(c.Machines[0].Memory, []byte("hello"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, machinery.LevelProblem, []string{"machines|vm|", "no memory image of libvirt's", "virsh save"}},
		"no directory for disposable disks": {func(t *testing.T, c *Config) {
			image := filepath.Join(t.TempDir(), "image")
			c.DisposableDir, c.Machines = "/nowhere/disposable", []MachineConfig{{Name: "vm", Label: "x", Memory: image}}
			c.URI = "nonsense" // so that the machine is not looked at
		}, "", nil},
		"no interface": {func(_ *testing.T, c *Config) { c.Interface = "nosuch0" },
			machinery.LevelProblem, []string{"network|nosuch0|", "this host has"}},
		"no tcpdump": {func(_ *testing.T, c *Config) { c.Capture = CaptureTcpdump },
			machinery.LevelProblem, []string{"traffic capture|/nowhere/tcpdump|", "apt-get install tcpdump"}},
	} {
		t.Run(name, func(t *testing.T) {
			faulty := sound
			faulty.Machines = append([]MachineConfig(nil), sound.Machines...)
			c.fault(t, &faulty)
			found := s.diagnosed(faulty)
			if c.level == "" {
				if lines := wrong(found); len(lines) != 2 || !strings.Contains(lines[1], "directories|/nowhere/disposable|problem|it is not there") {
					t.Errorf("found: %q", lines)
				}
				return
			}
			mustFind(t, found, c.level, c.words...)
		})
	}
}

func TestWhatTheDomainNeedsOfTheHostIsLookedAt(t *testing.T) {
	const text = `<domain type='kvm'><name>x</name><devices>
<disk type='file' device='disk'><source file='%s'/><target dev='vda'/></disk>
<interface type='network'><source network='%s'/></interface><interface type='bridge'><source bridge='%s'/></interface></devices></domain>`
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newIn(noRuntimeDir, Config{}, machinery.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.hypervisor = hypervisorQEMU
	networks := map[string]network{"on": {"virbr0", true}, "off": {"virbr1", false}}
	for _, c := range []struct {
		disk, network, bridge string
		kvm                   bool
		user                  *owner
		level                 machinery.Level
		words                 []string
	}{
		{disk, "on", "lo", true, &owner{0, 0}, "", nil},
		{disk, "on", "lo", false, nil, machinery.LevelProblem, []string{"of type kvm", "no KVM", "kvm_intel"}},
		{disk, "off", "lo", true, nil, machinery.LevelProblem, []string{`network "off", which is not active`, "virsh -c 'qemu:///system' net-start off", "net-autostart off"}},
		{disk, "none", "lo", true, nil, machinery.LevelProblem, []string{`network "none", which there is not`, "virsh net-define"}},
		{disk, "on", "nosuch0", true, nil, machinery.LevelProblem, []string{"bridge nosuch0"}},
		{disk + "x", "on", "lo", true, nil, machinery.LevelProblem, []string{"disk vda is not there: " + disk + "x", "virsh edit"}},
		{disk, "on", "lo", true, &owner{65534, 65534}, machinery.LevelWarning, []string{"65534", "may not enter", "chmod o+x", "/var/lib/libvirt/images"}},
	} {
		var domain domainXML
		if err := parseXML(fmt.Sprintf(text, c.disk, c.network, c.bridge), &domain); err != nil {
			t.Fatal(err)
		}
		x := &examination{d: d, kvm: c.kvm, user: c.user, networks: networks}
		x.surroundings(machinery.Finding{Area: machinery.AreaMachines, Subject: "vm"}, domain)
		if c.level != "" {
			mustFind(t, x.Found, c.level, c.words...)
		} else if lines := wrong(x.Found); len(lines) != 0 {
			t.Errorf("found: %q", lines)
		}
	}
}

func TestKVMIsInLibvirtsCapabilitiesOrNot(t *testing.T) {
	const text = `<capabilities><guest><arch name='x86_64'><domain type='qemu'/>%s</arch></guest></capabilities>`
	for more, want := range map[string]bool{"": false, "<domain type='kvm'/>": true, "<domain": false} {
		if got := canKVM(fmt.Sprintf(text, more)); got != want {
			t.Errorf("with %q: %v", more, got)
		}
	}
}

func TestARealLibvirtIsDiagnosed(t *testing.T) {
	s := newSite(t, "qemu", conformance.MachineSpec{Name: "vm"}, conformance.MachineSpec{Name: "image", Kind: conformance.SnapshotMemory})
	for _, f := range s.diagnosed(recordable(s.config)) {
		if f.Level == machinery.LevelProblem {
			t.Errorf("%+v", f)
		}
		t.Logf("%s %s: %s: %s", f.Area, f.Level, f.Subject, f.What)
	}
}
