//go:build linux

package qemu

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/internal/vmstate"
	"github.com/machineries/machineries/machinery"
)

// writeTo has another QEMU open an image for writing, until end is called.
func writeTo(t *testing.T, path, format string) (pid int, end func()) {
	t.Helper()
	sock := filepath.Join(scratch(t), "q")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "16", "-nodefaults", "-display", "none", "-S",
		"-drive", "file="+path+",format="+format+",if=ide", "-qmp", "unix:"+sock)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(end)
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, `{"execute":"qmp_capabilities"}`); err != nil {
		t.Fatal(err)
	}
	// Its greeting comes before its disks are open, its answer after that.
	lines := bufio.NewScanner(c)
	for lines.Scan() && !strings.Contains(lines.Text(), `"return"`) {
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, end
}

// onQcow2 gives a machine a qcow2 disk above its raw one. QEMU minds writers of a base in that format alone.
func (s *site) onQcow2(vm *MachineConfig, snaps snapshots) {
	s.t.Helper()
	upper := filepath.Join(s.dir, "upper.qcow2")
	if err := qcow2.CreateOverlay(upper, vm.Disk, "raw", int64(len(snaps.disk))); err != nil {
		s.t.Fatal(err)
	}
	vm.Disk = upper
}

func TestABaseThatIsOpenForWritingFailsTheStart(t *testing.T) {
	snaps := realSnapshots(t)
	for what, deep := range map[string]bool{"the disk itself": false, "what the disk is based on": true} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			vm := s.add("vm", snaps.disk, snaps.running)
			written := vm.Disk
			if deep {
				s.onQcow2(vm, snaps)
			}
			pid, end := writeTo(t, written, "raw")
			m := s.open(machinery.Options{})
			err := m.RestoreStart(limit(t), "vm")
			mustKind(t, err, machinery.ErrHypervisor)
			for _, want := range []string{`"vm"`, written, fmt.Sprintf("process %d", pid)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %s", err, want)
				}
			}
			mustState(t, m, "vm", machinery.StateError, reasonStartFailed)
			end()
			s.clean()
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatalf("once nobody writes to it: %v", err)
			}
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}

// The other one opens the base between the driver's look at it and the end of the load: the emulator is a script that waits for a
// file before it becomes QEMU.
func TestAMachineThatQEMUCannotTakeIntoUseIsAFailedStartAndNotPaused(t *testing.T) {
	snaps := realSnapshots(t)
	for name, snapshot := range map[string][]byte{"saved running": snaps.running, "saved paused": snaps.paused, "saved fresh": snaps.fresh} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			vm := s.add("vm", snaps.disk, snapshot)
			s.onQcow2(vm, snaps)
			signal := filepath.Join(s.dir, "go")
			s.script("while [ ! -e " + signal + " ]; do sleep 0.02; done; exec qemu-system-x86_64 \"$@\"")
			m := s.open(machinery.Options{})
			done := make(chan error, 1)
			go func() { done <- m.RestoreStart(limit(t), "vm") }()
			overlay := m.frame.Named("vm").overlays[0]
			for deadline := time.Now().Add(10 * time.Second); !fileExists(overlay); {
				if time.Now().After(deadline) {
					t.Fatal("no disposable disk is made")
				}
				time.Sleep(5 * time.Millisecond) // a file appears without a sign
			}
			_, end := writeTo(t, vm.Disk, "qcow2")
			if err := os.WriteFile(signal, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			err := <-done
			mustKind(t, err, machinery.ErrHypervisor)
			for _, want := range []string{`"vm"`, overlay, vm.Disk, `Failed to get shared "write" lock`} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v lacks %s", err, want)
				}
			}
			t.Log(err)
			mustState(t, m, "vm", machinery.StateError, reasonStartFailed)
			end()
			s.clean()
		})
	}
}

func TestARestoredMachineHasItsLocks(t *testing.T) {
	snaps := realSnapshots(t)
	for name, snapshot := range map[string][]byte{"running": snaps.running, "paused": snaps.paused, "fresh": snaps.fresh} {
		s := newSite(t)
		s.add("vm", snaps.disk, snapshot)
		m := s.open(machinery.Options{})
		if err := m.RestoreStart(limit(t), "vm"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := m.frame.Named("vm")
		if !disposable.InUse(v.overlays[0]) {
			t.Errorf("%s: QEMU has no locks", name)
		}
		if why := v.inactive(v.overlays, ""); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if err := m.Stop(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(v.overlays[0], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if why := v.inactive(v.overlays, ""); why == "" {
			t.Errorf("%s: a disk without locks is taken for one with", name)
		}
		if why := v.inactive([]string{"/nonexistent"}, "x: Failed to get shared \"write\" lock\nIs another process using the image [y]?"); why == "" {
			t.Errorf("%s: QEMU's words are not seen", name)
		}
		os.Remove(v.overlays[0])
	}
}

func TestAMachineThatTakesNoLocksMayStandPaused(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	args := machineArgs()
	args[len(args)-1] += ",file.locking=off"
	s.add("vm", snaps.disk, snaps.paused, args...)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAQEMUThatStandsForWantOfItsDisksIsNotTakenOverAsPaused(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	vm := s.add("vm", snaps.disk, snaps.running)
	s.onQcow2(vm, snaps)
	m := s.open(machinery.Options{})
	_, end := writeTo(t, vm.Disk, "qcow2")
	// What a driver leaves that dies just after the load: QEMU, and a ledger in the phase of starting.
	v := m.frame.Named("vm")
	h, _, _, err := v.claim(machinery.OpRestoreStart)
	if err != nil {
		t.Fatal(err)
	}
	base, err := checkDisk(vm.Disk)
	if err != nil {
		t.Fatal(err)
	}
	own, err := disposable.Make(v.overlays[0], base)
	if err != nil {
		t.Fatal(err)
	}
	disposable.Release(own)
	r := newRun(v, h, ledger{Machine: "vm", Phase: phaseStarting, Overlays: v.overlays})
	feed, err := newFeed(v.conf.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	boot, _ := process.BootID()
	args := append(v.commandLine(), incoming()...)
	var files []*os.File
	for _, name := range []string{qmpSocket, readSocket} {
		f, err := h.socket(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if r.proc, err = process.Spawn(m.config.QEMU, args, append(files, feed.file), nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	if err := r.note(func(l *ledger) {
		l.Boot, l.Args, l.Digest, l.PID, l.Start = boot, len(args), process.Digest(args), r.proc.PID, r.proc.Start
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.loaded(limit(t)); err != nil {
		t.Fatal(err)
	}
	feed.end()
	r.let()
	h.Unlock()
	mustState(t, m, "vm", machinery.StateError, reasonStranger)
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	end()
	s.clean()
}

func TestWhatIsWrongWithAPackedSnapshotIsSaidInItsOwnWords(t *testing.T) {
	pack := func(name string, data []byte) []byte { return packed(t, data)[name] }
	gz := pack("gzip", []byte(stateBegin+strings.Repeat("x", 4000)))
	gz[len(gz)-6] ^= 0xff
	// A frame that says it needs a window of 2 GiB: no single segment, exponent 21.
	wide := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00}
	for what, c := range map[string]struct {
		data      []byte
		want, not string
	}{
		"gzip, too short":   {pack("gzip", []byte("QEVM")), "is cut short: a memory snapshot has more than 4 bytes", "end mark"},
		"lz4, too short":    {pack("lz4", []byte("QEVM")), "is cut short: a memory snapshot has more than 4 bytes", "end mark"},
		"zstd, too short":   {pack("zstd", []byte("QEVM")), "is cut short: a memory snapshot has more than 4 bytes", "end mark"},
		"gzip, no machine":  {pack("gzip", []byte("QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x03q35\x00\x00")), "has nothing of a machine in it", "end mark"},
		"gzip, damaged":     {gz, "damaged: gzip: ", "gzip: gzip"},
		"zstd, wide window": {wide, "not supported", "damaged"},
	} {
		packing, err := vmstate.Recognise(c.data)
		if err != nil {
			t.Fatal(err)
		}
		err = unpack(io.Discard, bytes.NewReader(c.data), packing)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.not) {
			t.Errorf("%s: %v, want %q and not %q", what, err, c.want, c.not)
		}
	}
}
