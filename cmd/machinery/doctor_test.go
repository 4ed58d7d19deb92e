//go:build linux

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/machineries/machineries/conformance"
)

// doctor runs the doctor on the machines' own configuration.
func (s *site) doctor(args ...string) result {
	s.t.Helper()
	return runCLI(s.t, append([]string{"doctor", "-c", s.bench.ConfigPath(), "--runtime-dir", s.bench.RuntimeDir()}, args...)...)
}

// changing is what is another on each host or in each run: users, paths and sizes.
var changing = strings.NewReplacer("\n             ", " ")

func TestTheDoctorTellsOfEachCheckOnALineAndInAreas(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10"})
	r := s.doctor()
	r.want(t, 0, "stderr")
	narrow(t, "doctor", strings.ReplaceAll(r.out, filepath.Dir(s.bench.ConfigPath()), ""))
	text := changing.Replace(r.out)
	for _, c := range [][2]string{{`/tmp/[^ :]*/`, "DIR/"}, {`(?m)^(    ok       ).*: user .*$`, "${1}USER"}, {`[0-9.]+ [KMGT]iB are free`, "ROOM are free"}, {`\(raw\) of [0-9]+ KiB`, "(raw) of SIZE"}} {
		text = regexp.MustCompile(c[0]).ReplaceAllString(text, c[1])
	}
	const want = `  user
    ok       USER

qemu: DIR/qemu.yaml
  configuration
    ok       DIR/qemu.yaml: 1 machine, no mistake
  hypervisor
    ok       DIR/qemu-system-x86_64: QEMU 7.2.22
    ok       DIR/qemu-img: it can be run
  directories
    ok       DIR/run: for what belongs to running machines; it is made when it is needed
    ok       DIR/overlays: ROOM are free; 1 machine has its disposable disk there, and could write 1.0 MiB at most
  network
    ok       lo: up
  traffic capture
    ok       filter-dump: QEMU records itself, which needs no rights
  machines
    ok       win10: poweroff; disk qcow2 of 1.0 MiB, snapshot (raw) of SIZE
  left-overs
    ok       runs: nothing is left over of any

no problem.
`
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if entries, err := os.ReadDir(s.bench.RuntimeDir()); err == nil {
		t.Errorf("it made the runtime directory, with %v", entries)
	}
	s.nothingLeft()
}

func TestTheDoctorSaysWhatToDoAndFailsForAProblemAlone(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10"})
	s.vm("restore", "win10").want(t, 0, "stderr")
	s.doctor().want(t, 0, "stderr")
	path := s.bench.Saved("win10").Files["machineinfo"]
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	r := s.doctor()
	r.want(t, 0, "stderr")
	says(t, changing.Replace(r.out), "    warning  win10: "+path+" may be written to by everybody (mode 0666)", " do: close it with chmod o-w "+path, "\n1 warning.\n")
	s.vm("stop", "win10").want(t, 0, "stderr")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(readFile(t, s.bench.ConfigPath()), "interface: lo", "interface: nosuch0\ncolour: red", 1)
	file := configFile(t, "qemu.yaml", broken)
	r = runCLI(t, "doctor", "-c", file, "--runtime-dir", s.bench.RuntimeDir())
	r.want(t, exitFailed, "stderr")
	says(t, changing.Replace(r.out), "    problem  nosuch0: there is no such network interface on this host", " do: make it, or name another one: this host has lo",
		"colour: this key is unknown, and has no effect", "\n1 problem and 1 warning.\n")
	if n := strings.Count(r.out, "nosuch0"); n != 1 {
		t.Errorf("the interface is named %d times:\n%s", n, r.out)
	}
	r = s.doctor("--dumps", "/nowhere/dumps")
	r.want(t, exitFailed, "stderr")
	says(t, changing.Replace(r.out), "    problem  /nowhere/dumps: it is not there", " do: make it, or name another directory")
	report := decode[doctorReport](t, runCLI(t, "doctor", "-c", file, "--json").out)
	if report.OK || report.Problems != 1 || report.Warnings != 1 || len(report.Parts) != 2 || report.Parts[1].Driver != "qemu" || report.Parts[1].File != file {
		t.Errorf("%+v", report)
	}
	s.nothingLeft()
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// in runs the command in a directory.
func in(t *testing.T, dir string, args ...string) result {
	t.Helper()
	cmd := command(t, args...)
	cmd.Dir = dir
	return finish(t, cmd)
}

func TestTheDoctorFindsConfigurationsInTheWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	in(t, dir, "doctor").want(t, exitUsage, "stdout")
	r := in(t, dir, "doctor", "qemu", "--runtime-dir", filepath.Join(dir, "run"))
	if r.status == exitUsage {
		t.Fatalf("without a configuration:\n%s%s", r.out, r.err)
	}
	says(t, changing.Replace(r.out), "qemu.yaml: it is not in the current directory, so no machine was looked at", `do: name one with -c, or write one with "machinery config init ."`)
	for _, name := range []string{"kvm.yaml", "qemu.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("a: [\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = in(t, dir, "doctor")
	r.want(t, exitFailed, "stderr")
	says(t, r.out, "\nkvm: kvm.yaml\n", "\nqemu: qemu.yaml\n", "\n2 problems and 2 warnings.\n")
	r = in(t, dir, "doctor", "kvm")
	r.want(t, exitFailed, "stderr")
	if strings.Contains(r.out, "qemu") {
		t.Errorf("it was asked for kvm:\n%s", r.out)
	}
}

func TestTheDoctorFindsMachinesThatTwoConfigurationsHave(t *testing.T) {
	const machine = `
machines:
  win10_1: {label: a, ip: 192.168.122.101, mac_address: "52:54:00:AA:00:01", platform: windows, os_version: 10, architecture: amd64, tags: []}
  win10_2: {label: b, ip: 192.168.122.102, platform: windows, os_version: 10, architecture: amd64, tags: []}
`
	socket := "dsn: qemu:///system?socket=" + filepath.Join(t.TempDir(), "none") + "\ninterface: lo"
	one := configFile(t, "kvm.yaml", socket+machine)
	two := configFile(t, "kvm.yaml", socket+strings.NewReplacer("win10_1", "other", "122.101", "122.103", "AA", "aa", "122.102", "122.104").Replace(machine))
	both := decode[doctorReport](t, runCLI(t, "doctor", "--json", "-c", one, "-c", two, "-c", filepath.Dir(one)+"/./kvm.yaml").out)
	if len(both.Parts) != 3 {
		t.Fatalf("%d parts", len(both.Parts))
	}
	var told []string
	for _, f := range both.Parts[0].Findings {
		if f.Area == areaTogether {
			told = append(told, f.Subject+": "+f.What)
		}
	}
	if diff := cmp.Diff([]string{
		two + ":4:3: its network card's address 52:54:00:aa:00:01 is also that of the machine at " + one + ":4:3",
		two + ":5:3: its name win10_2 is also that of the machine at " + one + ":5:3",
	}, told); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	alone := decode[doctorReport](t, runCLI(t, "doctor", "--json", "-c", one).out)
	for _, f := range alone.Parts[0].Findings {
		if f.Area == areaTogether {
			t.Errorf("of one alone: %+v", f)
		}
	}
}

func TestTheDoctorSaysWhenItDidNotLookAtEverything(t *testing.T) {
	s := newSite(t, conformance.MachineSpec{Name: "win10"})
	r := s.doctor("--timeout", "1ns")
	r.want(t, exitFailed, "")
	says(t, r.err, "machinery: doctor: not everything was looked at: --timeout 1ns is over")
	says(t, r.out, "Not everything was looked at; so far no problem.")
	report := decode[doctorReport](t, s.doctor("--timeout", "1ns", "--json").out)
	if report.OK || !strings.Contains(report.Error, "--timeout 1ns is over") {
		t.Errorf("in JSON: %t, %q", report.OK, report.Error)
	}
}

func TestTheDoctorNamesAUserAsSudoTakesOne(t *testing.T) {
	for uid, want := range map[int]string{0: "root", 1234567: "'#1234567'"} {
		if got := sudoUser(uid); got != want {
			t.Errorf("%d: %s, want %s", uid, got, want)
		}
	}
}
