//go:build linux

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// script makes the site's emulator a shell script.
func (s *site) script(text string) {
	s.t.Helper()
	s.config.QEMU = s.write("qemu", []byte("#!/bin/sh\n"+text))
	if err := os.Chmod(s.config.QEMU, 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// startFails starts the machine "vm", whose start has to fail with all of the words, and checks that nothing is left but the
// reason.
func startFails(t *testing.T, s *site, kind error, want ...string) {
	t.Helper()
	m := s.open(machinery.Options{})
	began := time.Now()
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, kind)
	for _, word := range append(want, `"vm"`) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error lacks %q: %v", word, err)
		}
	}
	t.Logf("after %v: %v", time.Since(began).Round(time.Millisecond), err)
	s.clean()
	for range 2 {
		if status := mustState(t, m, "vm", machinery.StateError, reasonStartFailed); status.Detail != err.Error() {
			t.Errorf("the status says %q, the error was %q", status.Detail, err)
		}
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Errorf("Stop after a failed start: %v", err)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrStateReached)
	s.clean()
}

func TestASnapshotThatCannotBeLoadedFailsTheStartAtOnceWithQEMUsWords(t *testing.T) {
	snaps := realSnapshots(t)
	half := snaps.paused[:len(snaps.paused)/2]
	scribbled := bytes.Clone(snaps.paused)
	for i := 64; i < len(scribbled); i++ {
		scribbled[i] = byte(i * 7)
	}
	file := []string{"vm0/snapshot"}
	t.Run("cut short", func(t *testing.T) {
		s := newSite(t)
		s.add("vm", snaps.disk, half)
		startFails(t, s, machinery.ErrHypervisor, append(file, "exit status 1", "load of migration failed", "cut short: it does not end with")...)
	})
	t.Run("scribbled over", func(t *testing.T) {
		s := newSite(t)
		s.add("vm", snaps.disk, scribbled)
		startFails(t, s, machinery.ErrHypervisor, append(file, "exit status 1", "load of migration failed")...)
	})
	t.Run("of other hardware", func(t *testing.T) {
		s := newSite(t)
		s.add("vm", snaps.disk, snaps.paused, append(machineArgs(), "-m", "32")...)
		startFails(t, s, machinery.ErrHypervisor, append(file, "Size mismatch")...)
	})
	for pack, data := range packed(t, half) {
		if pack == "raw" {
			continue
		}
		t.Run("cut short before it was packed with "+pack, func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, data)
			startFails(t, s, machinery.ErrHypervisor, append(file, "load of migration failed")...)
		})
	}
	for pack, data := range packed(t, snaps.paused) {
		if pack == "raw" {
			continue
		}
		t.Run(pack+" cut short", func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, data[:len(data)/2])
			startFails(t, s, machinery.ErrHypervisor, append(file, "cut short")...)
		})
		t.Run(pack+" with nothing but its first bytes", func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, data[:8])
			startFails(t, s, machinery.ErrHypervisor, append(file, "cut short")...)
		})
		t.Run(pack+" with a wrong byte", func(t *testing.T) {
			s := newSite(t)
			wrong := bytes.Clone(data)
			wrong[len(wrong)/2] ^= 0xff
			s.add("vm", snaps.disk, wrong)
			startFails(t, s, machinery.ErrHypervisor, file...)
		})
	}
	for pack, data := range packed(t, nil) {
		if pack == "raw" {
			continue
		}
		t.Run(pack+" with nothing in it", func(t *testing.T) {
			s := newSite(t)
			s.add("vm", snaps.disk, data)
			if len(data) == 0 {
				t.Skip("this packer makes an empty file of nothing, which another test has")
			}
			startFails(t, s, machinery.ErrHypervisor, append(file, "nothing in it")...)
		})
	}
	t.Run("gzip with a wrong checksum at its end", func(t *testing.T) {
		s := newSite(t)
		wrong := packed(t, snaps.running)["gzip"]
		wrong[len(wrong)-6] ^= 0xff
		s.add("vm", snaps.disk, wrong)
		startFails(t, s, machinery.ErrHypervisor, append(file, "damaged", "checksum")...)
	})
}

func TestAnEmulatorThatDoesNotBecomeOneFailsTheStartWithItsWords(t *testing.T) {
	snaps := realSnapshots(t)
	for name, c := range map[string]struct {
		script string
		kind   error
		want   []string
	}{
		"exits at once":          {"echo out of luck >&2; exit 7", machinery.ErrHypervisor, []string{"exit status 7", "out of luck"}},
		"says it on stdout":      {"echo out of luck; exit 7", machinery.ErrHypervisor, []string{"exit status 7", "out of luck"}},
		"is no QEMU":             {"echo what is -accel? >&2; exit 1", machinery.ErrHypervisor, []string{"/qemu) ended (exit status 1)", "what is -accel?"}},
		"exits and says nothing": {"exit 0", machinery.ErrHypervisor, []string{"exit status 0", "said nothing"}},
		"is killed":              {"kill -9 $$", machinery.ErrHypervisor, []string{"killed by signal 9"}},
		"prints a megabyte":      {"i=0; while [ $i -lt 2000 ]; do printf '%0512d\\n' $i; i=$((i+1)); done; echo that was it >&2; exit 3", machinery.ErrHypervisor, []string{"exit status 3", "that was it"}},
		"dies in a child":        {"(sleep 60) & exit 5", machinery.ErrHypervisor, []string{"exit status 5"}},
		"closes what it got":     {"exec 3>&- 4>&- 5>&-; sleep 60", machinery.ErrHypervisor, []string{"vm0/snapshot"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.script(c.script)
			s.add("vm", snaps.disk, snaps.paused)
			startFails(t, s, c.kind, c.want...)
		})
	}
	t.Run("is not a program", func(t *testing.T) {
		s := newSite(t)
		s.config.QEMU = s.write("qemu", []byte{0, 1, 2, 3})
		if err := os.Chmod(s.config.QEMU, 0o700); err != nil {
			t.Fatal(err)
		}
		s.add("vm", snaps.disk, snaps.paused)
		startFails(t, s, machinery.ErrHypervisor, "exec format error", s.config.QEMU)
	})
	t.Run("has an interpreter that does not exist", func(t *testing.T) {
		s := newSite(t)
		s.config.QEMU = s.write("qemu", []byte("#!/nonexistent/sh\n"))
		if err := os.Chmod(s.config.QEMU, 0o700); err != nil {
			t.Fatal(err)
		}
		s.add("vm", snaps.disk, snaps.paused)
		startFails(t, s, machinery.ErrHypervisor, s.config.QEMU, "interpreter")
	})
	t.Run("hangs until the caller's time is over", func(t *testing.T) {
		s := newSite(t)
		s.script("echo stuck in the mud >&2; sleep 60")
		s.add("vm", snaps.disk, snaps.paused)
		m := s.open(machinery.Options{})
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		err := m.RestoreStart(ctx, "vm")
		mustKind(t, err, machinery.ErrInterrupted)
		if !strings.Contains(err.Error(), "stuck in the mud") || strings.Count(err.Error(), "deadline exceeded") != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		s.clean()
	})
	t.Run("never opens the monitor", func(t *testing.T) {
		s := newSite(t)
		s.script("sleep 60")
		s.config.LoadTimeout = 300 * time.Millisecond
		s.add("vm", snaps.disk, snaps.paused)
		startFails(t, s, machinery.ErrHypervisor, "300ms")
	})
	t.Run("refuses an argument", func(t *testing.T) {
		s := newSite(t)
		s.add("vm", snaps.disk, snaps.paused, append(machineArgs(), "-device", "no-such-device")...).AllowArguments = []string{"-device no-such-device"}
		startFails(t, s, machinery.ErrHypervisor, "no-such-device", "exit status 1")
	})
}

func TestAMegabyteOfWarningsHoldsNothingUp(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.script("i=0; while [ $i -lt 2000 ]; do printf '%0512d\\n' $i >&2; i=$((i+1)); done; exec qemu-system-x86_64 \"$@\"")
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAMachineThatCannotBeUsedStaysListedWithTheReason(t *testing.T) {
	disk := append(bootSector(), make([]byte, 512)...)
	snapshot := []byte(stateBegin + "…")
	long := strings.Repeat("x", 300)
	for what, c := range map[string]struct {
		change func(s *site, m *MachineConfig)
		want   []string
	}{
		"no disk":             {func(s *site, m *MachineConfig) { os.Remove(m.Disk) }, []string{"vm0/disk", "no such file"}},
		"a directory as disk": {func(s *site, m *MachineConfig) { m.Disk = s.dir }, []string{"not a regular file but a directory"}},
		"a device as disk":    {func(s *site, m *MachineConfig) { m.Disk = "/dev/zero" }, []string{"/dev/zero", "a device"}},
		"an empty disk":       {func(s *site, m *MachineConfig) { os.Truncate(m.Disk, 0) }, []string{"vm0/disk", "empty"}},
		"a disk that is none": {func(s *site, m *MachineConfig) { os.WriteFile(m.Disk, make([]byte, 4096), 0o600) }, []string{"vm0/disk", "boot record"}},
		"a disk of VMware's":  {func(s *site, m *MachineConfig) { os.WriteFile(m.Disk, []byte("KDMV"+long), 0o600) }, []string{"vmdk"}},
		"a broken qcow2":      {func(s *site, m *MachineConfig) { os.WriteFile(m.Disk, []byte("QFI\xfb\x00\x00\x00\x03"+long), 0o600) }, []string{"vm0/disk"}},
		"no snapshot":         {func(s *site, m *MachineConfig) { os.Remove(m.Snapshot) }, []string{"vm0/snapshot", "no such file"}},
		"an empty snapshot":   {func(s *site, m *MachineConfig) { os.Truncate(m.Snapshot, 0) }, []string{"vm0/snapshot", "it is empty"}},
		"a garbage snapshot":  {func(s *site, m *MachineConfig) { os.WriteFile(m.Snapshot, []byte(long), 0o600) }, []string{"vm0/snapshot", "78 78 78", "not a memory snapshot"}},
		"another stream":      {func(s *site, m *MachineConfig) { os.WriteFile(m.Snapshot, []byte("QEVM\x00\x00\x00\x02"), 0o600) }, []string{"a migration stream of version 2"}},
		"nothing of a machine": {func(s *site, m *MachineConfig) {
			os.WriteFile(m.Snapshot, []byte("QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x03q35"+strings.Repeat("\x00", 20)), 0o600)
		}, []string{"it has nothing of a machine in it"}},
		"no machineinfo":       {func(s *site, m *MachineConfig) { os.Remove(m.Info) }, []string{"vm0/machineinfo.json", "no such file"}},
		"a broken machineinfo": {func(s *site, m *MachineConfig) { os.WriteFile(m.Info, []byte("{\n]"), 0o600) }, []string{"vm0/machineinfo.json:2:1: "}},
		"refused arguments":    {func(s *site, m *MachineConfig) { m.Args = []string{"-S", "-hda", placeholder} }, []string{`"-S"`}},
		"no arguments":         {func(s *site, m *MachineConfig) { m.Args = []string{} }, []string{placeholder}},
		"nothing at all":       {func(s *site, m *MachineConfig) { m.Disk, m.Snapshot, m.Info = "", "", "" }, []string{"no disk", "no snapshot", "neither"}},
		"no place for disposable disks": {func(s *site, m *MachineConfig) {
			s.config.DisposableDir = ""
			if os.Getuid() == 0 {
				s.t.Skip("root may write everywhere")
			}
			os.Chmod(filepath.Dir(m.Disk), 0o500)
		}, []string{"disposable"}},
		"its own disk as snapshot": {func(s *site, m *MachineConfig) { m.Snapshot = m.Disk }, []string{"own copy"}},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			c.change(s, s.add("vm", disk, snapshot))
			s.add("other", disk, snapshot)
			m := s.open(machinery.Options{})
			if got := machinery.Names(m.Machines()); len(got) != 2 || got[0] != "vm" {
				t.Fatalf("the machines are %q", got)
			}
			status := mustState(t, m, "vm", machinery.StateError, reasonConfig)
			for _, err := range []error{m.RestoreStart(limit(t), "vm"), m.HandlePaused(limit(t), "vm"), m.Stop(limit(t), "vm")} {
				mustKind(t, err, machinery.ErrConfig)
				for _, word := range c.want {
					if !strings.Contains(err.Error(), word) || !strings.Contains(status.Detail, word) {
						t.Errorf("%q is not in the error %v and the detail %q", word, err, status.Detail)
					}
				}
			}
			mustState(t, m, "other", machinery.StatePoweroff, "")
			s.clean()
		})
	}
}

func TestMachinesThatShareADiskOrASnapshotAreBothRefusedAndNamed(t *testing.T) {
	disk := append(bootSector(), make([]byte, 512)...)
	snapshot := []byte(stateBegin + "…")
	s := newSite(t)
	s.add("one", disk, snapshot)
	s.add("two", disk, snapshot)
	s.add("three", disk, snapshot)
	s.add("four", disk, snapshot)
	link := filepath.Join(s.dir, "link")
	if err := os.Symlink(s.config.Machines[0].Disk, link); err != nil {
		t.Fatal(err)
	}
	s.config.Machines[1].Disk = link
	os.Remove(s.config.Machines[3].Snapshot)
	if err := os.Link(s.config.Machines[2].Snapshot, s.config.Machines[3].Snapshot); err != nil {
		t.Fatal(err)
	}
	m := s.open(machinery.Options{})
	for name, other := range map[string]string{"one": "two", "two": "one", "three": "four", "four": "three"} {
		err := m.RestoreStart(limit(t), name)
		mustKind(t, err, machinery.ErrConfig)
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", other)) || !strings.Contains(err.Error(), s.dir+"/vm") {
			t.Errorf("%s: the error does not name %q and the file: %v", name, other, err)
		}
	}
}

func TestNamesThatLookAlikeAsFilesAreDifferentMachines(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	names := []string{"a/b", "a_b", "a b", "a\nb", "ä", strings.Repeat("long", 100), strings.Repeat("long", 100) + "er", "..", "%s;$(id)'\""}
	for _, name := range names {
		s.add(name, snaps.disk, snaps.running)
	}
	m := s.open(machinery.Options{})
	for _, name := range names {
		if err := m.RestoreStart(limit(t), name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		mustState(t, m, name, machinery.StateRunning, "")
	}
	if err := m.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestPathsMayHaveAnyCharacters(t *testing.T) {
	snaps := realSnapshots(t)
	for _, name := range []string{"with blank", `quo"te'`, "semi;touch pwned", "com,ma,,s", "new\nline", "json:{", "file:x", "ünïcode", "%s%d", "$(id)`id`", "-S"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			dir := filepath.Join(s.dir, name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			s.dir = dir
			s.add("vm", snaps.disk, packed(t, snaps.running)["gzip"])
			s.config.DisposableDir = "" // beside the disk
			for _, args := range [][]string{
				machineArgs(),
				append(machineArgs()[:9], "-blockdev", `{"driver":"qcow2","node-name":"d","file":{"driver":"file","filename":"`+placeholder+`"}}`, "-device", "ide-hd,drive=d"),
				append(machineArgs()[:9], "-hda", placeholder),
			} {
				s.config.Machines[0].Args = args
				m := s.open(machinery.Options{})
				if err := m.RestoreStart(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
				mustState(t, m, "vm", machinery.StateRunning, "")
				if err := m.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			}
			if entries, _ := os.ReadDir(filepath.Join(dir, "vm0")); len(entries) != 3 {
				t.Errorf("beside the disk are %v", entries)
			}
		})
	}
}

func TestNewFailsWhereNothingCanWork(t *testing.T) {
	disk, snapshot := bootSector(), []byte(stateBegin)
	for what, c := range map[string]struct {
		change func(s *site, o *machinery.Options)
		kind   error
		want   string
	}{
		"a relative runtime directory":       {func(s *site, o *machinery.Options) { o.RuntimeDir = "run" }, machinery.ErrConfig, "absolute"},
		"a runtime directory that is a file": {func(s *site, o *machinery.Options) { o.RuntimeDir = s.config.Machines[0].Disk }, machinery.ErrConfig, "not a directory"},
		"a runtime directory that is open": {func(s *site, o *machinery.Options) {
			o.RuntimeDir = filepath.Join(s.dir, "open")
			os.Mkdir(o.RuntimeDir, 0o700)
			os.Chmod(o.RuntimeDir, 0o755)
		}, machinery.ErrConfig, "chmod 700"},
		"a runtime directory that is a link": {func(s *site, o *machinery.Options) {
			os.Mkdir(filepath.Join(s.dir, "real"), 0o700)
			o.RuntimeDir = filepath.Join(s.dir, "link")
			os.Symlink(filepath.Join(s.dir, "real"), o.RuntimeDir)
		}, machinery.ErrConfig, "symbolic link"},
		"a runtime directory in one of everybody's": {func(s *site, o *machinery.Options) {
			o.RuntimeDir = filepath.Join(s.dir, "all", "run")
			os.Mkdir(filepath.Dir(o.RuntimeDir), 0o700)
			os.Chmod(filepath.Dir(o.RuntimeDir), 0o777)
		}, machinery.ErrConfig, "written to by everybody"},
		"a runtime directory with a long path": {func(s *site, o *machinery.Options) { o.RuntimeDir = filepath.Join(s.dir, strings.Repeat("x", 80)) }, machinery.ErrConfig, "107 bytes"},
		"two machines of one name":             {func(s *site, o *machinery.Options) { s.add("vm", disk, snapshot) }, machinery.ErrConfig, `"vm"`},
		"a machine without a name":             {func(s *site, o *machinery.Options) { s.add("", disk, snapshot) }, machinery.ErrConfig, "number 2"},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			s.add("vm", disk, snapshot)
			o := machinery.Options{RuntimeDir: s.runtime}
			c.change(s, &o)
			m, err := New(context.Background(), s.config, o)
			if err == nil {
				m.Close()
				t.Fatal("New succeeds")
			}
			mustKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not say %q", err, c.want)
			}
		})
	}
}

// A full disk is a small file system of the test's own, which only root can make.
func TestOnAFullDiskTheStartFailsAndNothingIsLeft(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	snaps := realSnapshots(t)
	for what, use := range map[string]func(s *site, full string){
		"of disposable disks":    func(s *site, full string) { s.config.DisposableDir = full },
		"of runtime directories": func(s *site, full string) { s.runtime = filepath.Join(full, "run") },
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			full := filepath.Join(s.dir, "full")
			if err := os.Mkdir(full, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("none", full, "tmpfs", 0, "size=64k"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(full, unix.MNT_DETACH) })
			use(s, full)
			s.add("vm", snaps.disk, snaps.running)
			m := s.open(machinery.Options{})
			fill := filepath.Join(full, "fill")
			if err := os.WriteFile(fill, make([]byte, 64<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
				os.WriteFile(fill+"2", make([]byte, 64<<10), 0o600)
			}
			err := m.RestoreStart(limit(t), "vm")
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("RestoreStart on a full disk: %v", err)
			}
			t.Log(err)
			for _, name := range []string{"fill", "fill2"} {
				os.Remove(filepath.Join(full, name))
			}
			s.clean()
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatalf("RestoreStart once there is room: %v", err)
			}
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}
