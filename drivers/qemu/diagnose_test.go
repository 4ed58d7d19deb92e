//go:build linux

package qemu

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// diagnosed are the findings about a site's machines and their host.
func (s *site) diagnosed(deep bool) []machinery.Finding {
	s.t.Helper()
	return diagnose(limit(s.t), s.config, machinery.DiagnoseOptions{Options: machinery.Options{RuntimeDir: s.runtime}, Deep: deep}, true)
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

// sound is a site with a machine whose files are well, and an emulator that says its version.
func sound(t *testing.T) (*site, *MachineConfig) {
	s := newSite(t)
	s.script("echo 'QEMU emulator version 7.2.22'\n")
	s.config.QEMUImg = s.config.QEMU
	m := s.add("vm", append(bootSector(), make([]byte, 1<<20-512)...), []byte(stateBegin+"\x00\x00\x00\x03\x07\x00\x00\x00\x03q35\x00\x06\x00\x00\x00\x02{}"))
	m.IP, m.Interface = "127.0.0.1", "lo"
	return s, m
}

func TestADiagnosisOfASoundInstallationFindsNothingAndLeavesNothing(t *testing.T) {
	s, _ := sound(t)
	before := names(t, s.dir)
	found := s.diagnosed(true)
	// No guest runs in a shell script.
	if lines := wrong(found); len(lines) != 1 || !strings.Contains(lines[0], "no guest runs with -accel tcg") {
		t.Errorf("found:\n%s", strings.Join(lines, "\n"))
	}
	found = s.diagnosed(false)
	if lines := wrong(found); len(lines) != 0 {
		t.Errorf("found:\n%s", strings.Join(lines, "\n"))
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
	if after := names(t, s.dir); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("there was %v, and there is %v", before, after)
	}
}

func TestEachFaultOfAnInstallationIsFoundWithWhatToDo(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		fault func(t *testing.T, s *site, m *MachineConfig)
		level machinery.Level
		words []string
	}{
		"no emulator": {func(t *testing.T, s *site, _ *MachineConfig) {
			s.config.QEMUImg = "/bin/true"
			must(t, os.Remove(s.config.QEMU))
		},
			machinery.LevelProblem, []string{"/qemu|", "it is not there", "apt-get install qemu-system-x86"}},
		"an old emulator": {func(_ *testing.T, s *site, _ *MachineConfig) { s.script("echo 'QEMU emulator version 5.2.0'\n") },
			machinery.LevelProblem, []string{"5.2.0", "6.0"}},
		"another program": {func(_ *testing.T, s *site, _ *MachineConfig) { s.script("echo hello\n") },
			machinery.LevelProblem, []string{"hello"}},
		"no qemu-img": {func(_ *testing.T, s *site, _ *MachineConfig) { s.config.QEMUImg = "/nowhere/qemu-img" },
			machinery.LevelWarning, []string{"/nowhere/qemu-img", "snapshots cannot be made", "apt-get install qemu-utils"}},
		"no directory for disposable disks": {func(t *testing.T, s *site, _ *MachineConfig) { must(t, os.Remove(s.config.DisposableDir)) },
			machinery.LevelProblem, []string{"/disposable|", "it is not there", "beside each machine's disk"}},
		"an open runtime directory": {func(t *testing.T, s *site, _ *MachineConfig) { must(t, os.Mkdir(s.runtime, 0o755)) },
			machinery.LevelProblem, []string{"chmod 700", "runtime_dir"}},
		"no interface": {func(_ *testing.T, _ *site, m *MachineConfig) { m.Interface = "nosuch0" },
			machinery.LevelProblem, []string{"nosuch0", "this host has"}},
		"no disk": {func(t *testing.T, _ *site, m *MachineConfig) { must(t, os.Remove(m.Disk)) },
			machinery.LevelProblem, []string{"machines|vm|", "the disk cannot be used", "no such file", "correct its path"}},
		"no snapshot": {func(t *testing.T, _ *site, m *MachineConfig) { must(t, os.Remove(m.Snapshot)) },
			machinery.LevelProblem, []string{"machines|vm|", "the snapshot cannot be used", "no such file", "machinery vm snapshot create"}},
		"a snapshot of an old machine type": {func(t *testing.T, _ *site, m *MachineConfig) {
			must(t, os.WriteFile(m.Snapshot, []byte(stateBegin+"\x07\x00\x00\x00\x03old and so on\x00"), 0o600))
		}, machinery.LevelWarning, []string{"machines|vm|", "/snapshot may be cut short", "if the guest starts well"}},
		"an argument that QEMU has not any more": {func(_ *testing.T, _ *site, m *MachineConfig) {
			m.Args = append(machineArgs(), "-realtime", "mlock=off")
		},
			machinery.LevelProblem, []string{"machines|vm|", `no argument "-realtime mlock=off" any more; write -overcommit`, "correct "}},
		"a snapshot of another machine type": {func(t *testing.T, _ *site, m *MachineConfig) {
			m.Args = append(machineArgs(), "-M", "q35")
			must(t, os.WriteFile(m.Snapshot, []byte("QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x0apc-q35-6.2 and so on\x00\x06\x00\x00\x00\x02{}"), 0o600))
		}, machinery.LevelProblem, []string{"machines|vm|", "its snapshot is of the machine type pc-q35-6.2, and -M q35 is pc-q35-7.2 in QEMU 7.2, which does not load it", `write "-M", "pc-q35-6.2"`, "put that into "}},
		"an empty snapshot": {func(t *testing.T, _ *site, m *MachineConfig) { must(t, os.Truncate(m.Snapshot, 0)) },
			machinery.LevelProblem, []string{"machines|vm|", "it is empty", "machinery vm snapshot create"}},
		"a snapshot that is cut short": {func(t *testing.T, _ *site, m *MachineConfig) {
			must(t, os.WriteFile(m.Snapshot, []byte(stateBegin+"\x00\x00\x00\x03\x07\x00\x00\x00\x03q35 and so on"), 0o600))
		}, machinery.LevelProblem, []string{"machines|vm|", "/snapshot is cut short", "make it anew"}},
		"a snapshot that is none": {func(t *testing.T, _ *site, m *MachineConfig) {
			must(t, os.WriteFile(m.Snapshot, []byte("hello"), 0o600))
		},
			machinery.LevelProblem, []string{"it is not a memory snapshot of QEMU"}},
		"arguments that are none": {func(t *testing.T, _ *site, m *MachineConfig) { must(t, os.WriteFile(m.Info, []byte("{}"), 0o600)) },
			machinery.LevelProblem, []string{"machineinfo.json", `"machine" is missing`}},
		"arguments that anybody may change": {func(t *testing.T, _ *site, m *MachineConfig) { must(t, os.Chmod(m.Info, 0o666)) },
			machinery.LevelWarning, []string{"may be written to by everybody (mode 0666)", "chmod o-w"}},
		"a disk that is newer than its snapshot": {func(t *testing.T, _ *site, m *MachineConfig) {
			must(t, os.Chtimes(m.Snapshot, time.Time{}, time.Now().Add(-time.Hour)))
		}, machinery.LevelWarning, []string{"/disk was written to on", "its snapshot was made on", "vm snapshot seal"}},
		"a disk that somebody writes to": {func(t *testing.T, s *site, m *MachineConfig) {
			f, err := os.OpenFile(m.Disk, os.O_RDWR, 0)
			must(t, err)
			t.Cleanup(func() { f.Close() })
			// As QEMU locks an image that it writes to: byte 101.
			must(t, unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 101, Len: 1}))
		}, machinery.LevelProblem, []string{"is open for writing in another QEMU"}},
		"a network that QEMU does not see": {func(t *testing.T, _ *site, m *MachineConfig) {
			m.Args = machineArgs("-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no,vhost=on")
		}, machinery.LevelWarning, []string{"traffic capture", "vhost", "vm"}},
		"a disposable disk that a reboot has left": {func(t *testing.T, s *site, _ *MachineConfig) {
			d, err := newIn(s.runtime, s.config, machinery.Options{})
			must(t, err)
			must(t, os.WriteFile(d.frame.All()[0].overlays[0], nil, 0o600))
		}, machinery.LevelWarning, []string{"left-overs|vm|", "a disposable disk of which no run tells", "vm sweep"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := sound(t)
			c.fault(t, s, m)
			mustFind(t, s.diagnosed(false), c.level, c.words...)
		})
	}
}

func TestOfAMachineWhoseRuntimeDirectoryCannotBeLookedIntoIsNotSaidWhatItDoes(t *testing.T) {
	s, _ := sound(t)
	if err := os.Mkdir(s.runtime, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.diagnosed(false) {
		if f.Area == machinery.AreaMachines && (f.Level != machinery.LevelOK || !strings.HasSuffix(f.What, "; whether it runs cannot be told without its runtime directory")) {
			t.Errorf("%+v", f)
		}
	}
}

func TestFilesAreReadThroughOnRequestAlone(t *testing.T) {
	s, m := sound(t)
	d := s.open(machinery.Options{})
	if _, err := d.SealSnapshot(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	deep := func() []machinery.Finding {
		var found []machinery.Finding
		for _, f := range s.diagnosed(true) {
			if f.Area == machinery.AreaMachines {
				found = append(found, f)
			}
		}
		return found
	}
	if lines := wrong(s.diagnosed(false)); len(lines) != 0 {
		t.Errorf("found: %q", lines)
	}
	if err := os.Chtimes(m.Disk, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	mustFind(t, s.diagnosed(false), machinery.LevelWarning, "/disk has another time", "--deep")
	if lines := wrong(deep()); len(lines) != 0 {
		t.Errorf("of a copy: %q", lines)
	}
	if err := os.WriteFile(m.Disk, append(bootSector(), bytes.Repeat([]byte{1}, 1<<20-512)...), 0o600); err != nil {
		t.Fatal(err)
	}
	mustFind(t, deep(), machinery.LevelProblem, "/disk has changed since the snapshot was made", "content")

	s, m = sound(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := fmt.Fprint(z, stateBegin, strings.Repeat("abcdef", 1000), "\x00\x06\x00\x00\x00\x02{}"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for cut, want := range map[int]string{0: "", 5: "is cut short"} {
		if err := os.WriteFile(m.Snapshot, packed.Bytes()[:packed.Len()-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if lines := wrong(s.diagnosed(false)); len(lines) != 0 {
			t.Errorf("without having read it: %q", lines)
		}
		if want != "" {
			mustFind(t, deep(), machinery.LevelProblem, want, "make it anew")
		} else if lines := wrong(deep()); len(lines) != 0 {
			t.Errorf("of a whole one: %q", lines)
		}
	}
}

func TestASnapshotOfANewerQEMUIsWarnedOf(t *testing.T) {
	s, _ := sound(t)
	d := s.open(machinery.Options{})
	path, err := d.SealSnapshot(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for by, newer := range map[string]bool{"QEMU 7.2.22": false, "QEMU 7.3.0": true, "QEMU 8.0.0": true, "QEMU 6.9.9": false, "who knows": false} {
		if err := os.WriteFile(path, bytes.Replace(text, []byte(`"version": 1,`), []byte(`"version": 1, "hypervisor": "`+by+`",`), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := s.diagnosed(false); newer {
			mustFind(t, found, machinery.LevelWarning, by, "7.2.22")
		} else if lines := wrong(found); len(lines) != 0 {
			t.Errorf("by %s: %q", by, lines)
		}
	}
}

func TestARunningMachineIsDiagnosedAndGoesOn(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.config.QEMUImg = s.config.QEMU
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	pid := m.pid("vm")
	if lines := wrong(s.diagnosed(false)); len(lines) != 0 {
		t.Errorf("found: %q", lines)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	// Nobody holds it, and its QEMU dies.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); unix.Kill(pid, 0) == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // until somebody has reaped it; nothing tells of that
	}
	mustFind(t, s.diagnosed(false), machinery.LevelWarning, "left-overs|vm|", "left over: its QEMU (process", s.runtime, "vm sweep")
	other := s.open(machinery.Options{})
	if err := other.Sweep(limit(t), one(t, other).ID, false); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAGuestIsTriedOnTheRealQEMU(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64")
	s := newSite(t)
	for _, noSandbox := range []bool{false, true} {
		if err := tryGuest(limit(t), s.config.QEMU, "tcg", noSandbox); err != nil {
			t.Errorf("without a sandbox: %v: %v", noSandbox, err)
		}
	}
	if err := tryGuest(limit(t), s.config.QEMU, "none", false); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("with an accelerator that there is not: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tryGuest(ended, s.config.QEMU, "tcg", false); err == nil {
		t.Error("a guest ran after the end")
	}
	if checkKVM() != nil {
		t.Skip("KVM cannot be opened here")
	}
	found := diagnose(limit(t), s.config, machinery.DiagnoseOptions{Options: machinery.Options{RuntimeDir: s.runtime}}, false)
	if len(found) < 2 || found[1].Subject != deviceKVM {
		t.Fatalf("found: %+v", found)
	}
	t.Logf("%s: %s", found[1].Level, found[1].What)
}

func TestAProgramThatIsNoQEMUIsNoTrial(t *testing.T) {
	s := newSite(t)
	for text, want := range map[string]string{
		"exit 0":                        "ended without an error",
		"echo broken >&2; exit 1":       "exit status 1: broken",
		"echo \"no 'sandbox'\"; exit 1": "'sandbox'",
	} {
		s.script(text + "\n")
		if err := tryGuest(limit(t), s.config.QEMU, "kvm", false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTheMemoryOfAMachineIsReadFromItsArguments(t *testing.T) {
	for line, want := range map[string]int64{
		"-M q35": 128 << 20, "-m 2048": 2 << 30, "-m 4G": 4 << 30, "--m size=512M,slots=2": 512 << 20, "-m slots=2,size=1g": 1 << 30,
		"-m 1T": 1 << 40, "-m 4096k": 4 << 20, "-m much": 0, "-m": 128 << 20, "-m 1 -m 2": 2 << 20,
	} {
		v := &vm{args: &commandArgs{args: strings.Split(line, " ")}}
		if got := v.memory(); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
	s, _ := sound(t)
	o := machinery.DiagnoseOptions{Options: machinery.Options{RuntimeDir: s.runtime}, DumpDir: "/nowhere/dumps"}
	mustFind(t, diagnose(limit(t), s.config, o, true), machinery.LevelProblem, "directories|/nowhere/dumps|", "it is not there")
	o.DumpDir = s.dir
	if lines := wrong(diagnose(limit(t), s.config, o, true)); len(lines) != 0 {
		t.Errorf("found: %q", lines)
	}
}
