//go:build linux

package qemu

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// bootSectorAt is where firmware puts the boot sector; a dump of a machine that has booted holds it there.
const bootSectorAt = 0x7c00

// memoryIn reads guest memory from an ELF dump.
func memoryIn(t *testing.T, path string, at uint64, n int) []byte {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Paddr <= at && at+uint64(n) <= p.Paddr+p.Filesz {
			data := make([]byte, n)
			if _, err := p.ReadAt(data, int64(at-p.Paddr)); err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
	t.Fatalf("%s has no memory at %#x", path, at)
	return nil
}

// big is a machine whose dump takes long enough to be in the midst of it.
func big() []string {
	args := machineArgs()
	for i, arg := range args {
		if arg == "-m" {
			args[i+1] = "512"
		}
	}
	return args
}

// dumping begins a dump and returns when QEMU is at it.
func dumping(t *testing.T, m *Machinery, ctx context.Context, path, format string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- m.DumpMemoryFormat(ctx, "vm", path, format) }()
	r := m.frame.Named("vm").run
	waitFor(t, "QEMU is dumping the memory", func() bool {
		c, err := r.master(limit(t))
		if err != nil {
			return false
		}
		var progress struct {
			Status    string
			Completed int64
		}
		err = c.Execute(limit(t), "query-dump", nil, &progress)
		return err == nil && progress.Status == "active" && progress.Completed > 0
	})
	return done
}

func TestADumpIsTheWholeMemoryAndTheMachineGoesOnAsBefore(t *testing.T) {
	snaps := realSnapshots(t)
	for name, c := range map[string]struct {
		snapshot []byte
		state    machinery.State
	}{"running": {snaps.running, machinery.StateRunning}, "paused": {snaps.paused, machinery.StatePaused}, "never run": {snaps.fresh, machinery.StatePaused}} {
		t.Run(name, func(t *testing.T) {
			s, m := restored(t, c.snapshot)
			before := mustState(t, m, "vm", c.state, "")
			if c.state == machinery.StateRunning {
				booted := func() bool {
					first := filepath.Join(s.dir, "first")
					defer os.Remove(first)
					if err := m.DumpMemory(limit(t), "vm", first); err != nil {
						t.Fatal(err)
					}
					return bytes.Equal(memoryIn(t, first, bootSectorAt, 512), bootSector())
				}
				waitFor(t, "the machine has booted, as its memory shows", booted)
			}
			path := filepath.Join(s.dir, "dump")
			if err := m.DumpMemory(limit(t), "vm", path); err != nil {
				t.Fatal(err)
			}
			if after := mustState(t, m, "vm", c.state, ""); after != before {
				t.Errorf("it was %s, and is %s", before, after)
			}
			mustState(t, s.open(machinery.Options{}), "vm", c.state, "")
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || info.Size() < 16<<20 {
				t.Errorf("mode %v, size %d, %v", info.Mode(), info.Size(), err)
			}
			memoryIn(t, path, 0, 640<<10)
			if c.state == machinery.StatePaused {
				if err := m.HandlePaused(limit(t), "vm"); err != nil {
					t.Errorf("the machine cannot be resumed after a dump: %v", err)
				}
			}
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}

func TestADumpIsCompressedOnRequestAndAnUnknownFormatIsRefused(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running)
	path := filepath.Join(s.dir, "dump")
	for _, format := range []string{"zip", "kdump-lzo"} { // the second one is known to QEMU, and not built into Debian's
		err := m.DumpMemoryFormat(limit(t), "vm", path, format)
		mustKind(t, err, machinery.ErrConfig)
		if !strings.Contains(err.Error(), "kdump-zlib") {
			t.Errorf("the error does not say which formats there are: %v", err)
		}
	}
	if err := m.DumpMemoryFormat(limit(t), "vm", path, "kdump-zlib"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, []byte("makedumpfile")) {
		t.Errorf("the dump begins with %.12q, %v", data, err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
}

func TestWhileAMachineIsDumpedItIsPausedAndNothingElseMayResumeIt(t *testing.T) {
	s, m := booted(t, big()...)
	second := s.open(machinery.Options{})
	path := filepath.Join(s.dir, "dump")
	done := dumping(t, m, limit(t), path, "")
	mustState(t, m, "vm", machinery.StatePaused, reasonDump)
	mustState(t, second, "vm", machinery.StatePaused, reasonDump)
	mustKind(t, second.DumpMemory(limit(t), "vm", path+"2"), machinery.ErrBusy)
	resumed := m.HandlePaused(limit(t), "vm") // waits for its turn
	mustKind(t, resumed, machinery.ErrStateReached)
	if !fileExists(path) { // it is there before the dump's turn is over
		t.Error("HandlePaused did not wait for the dump")
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustState(t, second, "vm", machinery.StateRunning, "")
	if info, err := os.Stat(path); err != nil || info.Size() < 512<<20 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestADumpWhoseContextEndsIsEndedAtOnceAndTheMachineGoesOn(t *testing.T) {
	for _, format := range []string{"elf", "kdump-zlib"} {
		t.Run(format, func(t *testing.T) { endsWithItsContext(t, format) })
	}
}

func endsWithItsContext(t *testing.T, format string) {
	s, m := booted(t, big()...)
	dir := filepath.Join(s.dir, "dumps")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := dumping(t, m, ctx, filepath.Join(dir, "dump"), format)
	cancel()
	began := time.Now()
	err := <-done
	if took := time.Since(began); took > spoilTime {
		t.Errorf("it took %v", took)
	}
	mustKind(t, err, machinery.ErrInterrupted)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error does not match the context's: %v", err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if err := m.DumpMemory(limit(t), "vm", filepath.Join(dir, "dump")); err != nil {
		t.Errorf("the next dump: %v", err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
}

func TestADumpThatQEMUDoesNotEndIsGivenUpAndItsMachineIsNoErrorAfterwards(t *testing.T) {
	s, m := booted(t, big()...)
	ctx, cancel := context.WithCancel(context.Background())
	path := filepath.Join(s.dir, "dump")
	done := dumping(t, m, ctx, path, "kdump-zlib")
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cancel()
	began := time.Now()
	mustKind(t, <-done, machinery.ErrInterrupted)
	if took := time.Since(began); took > spoilTime+time.Second {
		t.Errorf("it took %v", took)
	}
	mustState(t, m, "vm", machinery.StateError, reasonNoAnswer)
	if err := syscall.Kill(m.pid("vm"), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the machine runs again, and is no error meanwhile", func() bool {
		status, err := m.State(limit(t), "vm")
		if err != nil || status.State != machinery.StatePaused && status.State != machinery.StateRunning {
			t.Fatalf("%s: %s, %v", status, status.Detail, err)
		}
		return status.State == machinery.StateRunning
	})
	if fileExists(path) {
		t.Error("there is a file")
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestStopAndCloseEndADump(t *testing.T) {
	for name, end := range map[string]func(m *Machinery) error{
		"stop":  func(m *Machinery) error { return m.Stop(context.Background(), "vm") },
		"close": func(m *Machinery) error { return m.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, m := booted(t, big()...)
			dir := filepath.Join(s.dir, "dumps")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			done := dumping(t, m, limit(t), filepath.Join(dir, "dump"), "")
			began := time.Now()
			if err := end(m); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			mustKind(t, <-done, machinery.ErrInterrupted)
			if left := names(t, dir); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if name == "close" {
				m = s.open(machinery.Options{})
				mustState(t, m, "vm", machinery.StateRunning, "")
				if err := m.Stop(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
			}
			s.clean()
		})
	}
}

func TestADumpThatDoesNotFitLeavesNothingAndTheMachineGoesOn(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	s, m := restored(t, realSnapshots(t).running)
	small := filepath.Join(s.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Errorf("the small file system is still in use: %v", err)
		}
	}()
	for range 3 { // what is left of one would be in the way of the next
		err := m.DumpMemory(limit(t), "vm", filepath.Join(small, "dump"))
		mustKind(t, err, machinery.ErrHypervisor)
		if !strings.Contains(err.Error(), "No space left on device") {
			t.Errorf("the error lacks QEMU's words: %v", err)
		}
		if left := names(t, small); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		mustState(t, m, "vm", machinery.StateRunning, "")
	}
}

func TestADumpOfAMachineThatIsOffOrDoesNotAnswerIsRefused(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	path := filepath.Join(s.dir, "dump")
	mustKind(t, m.DumpMemory(limit(t), "vm", path), machinery.ErrUnexpectedState)
	s.clean()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, m.DumpMemory(limit(t), "vm", ""), machinery.ErrConfig)
	mustKind(t, m.DumpMemory(limit(t), "vm", s.dir), machinery.ErrConfig)
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	mustKind(t, m.DumpMemory(limit(t), "vm", path), machinery.ErrConnection)
	if fileExists(path) {
		t.Error("there is a file")
	}
}

func TestAMachineThatSomeoneElsePausedCanBeDumpedAndStaysAnError(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running)
	stranger(t, m, "stop", nil)
	before := mustState(t, m, "vm", machinery.StateError, reasonStranger)
	if err := m.DumpMemory(limit(t), "vm", filepath.Join(s.dir, "dump")); err != nil {
		t.Fatal(err)
	}
	if after := mustState(t, m, "vm", machinery.StateError, reasonStranger); after != before {
		t.Errorf("it was %s, and is %s", before, after)
	}
}

func TestAQEMUThatDiesInADumpIsSaid(t *testing.T) {
	s, m := booted(t, big()...)
	path := filepath.Join(s.dir, "dump")
	done := dumping(t, m, limit(t), path, "")
	if err := syscall.Kill(m.pid("vm"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := <-done
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), "signal 9") || fileExists(path) {
		t.Errorf("the error is %v", err)
	}
	waitFor(t, "the machine is off", func() bool {
		status, err := m.State(limit(t), "vm")
		return err == nil && status.State == machinery.StatePoweroff
	})
}

func TestALostEventOfADumpIsMadeUpForByAsking(t *testing.T) {
	s, m := booted(t, big()...)
	done := dumping(t, m, limit(t), filepath.Join(s.dir, "dump"), "")
	c, err := m.frame.Named("vm").run.master(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // the next connection is made when QEMU is asked how far it is
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
}

func TestTheEndOfADumpIsReadFromQEMUsEvent(t *testing.T) {
	for text, want := range map[string]string{
		`{"result": {"total": 268697600, "status": "completed", "completed": 268697600}}`:                                                            "",
		`{"result": {"total": 268697600, "status": "failed", "completed": 0}, "error": "dump: failed to write elf header: No space left on device"}`: "dump: failed to write elf header: No space left on device",
	} {
		r := newRun(&vm{}, nil, ledger{})
		r.dumping = true
		r.dumpCompleted(monitor.Event{Name: "DUMP_COMPLETED", Data: json.RawMessage(text)})
		got := ""
		if err := <-r.dumped; err != nil {
			got = err.Error()
		}
		if got != want || r.dumping {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestWhatThisDriversDumpDoesToAMachineIsNoError(t *testing.T) {
	for _, c := range []struct {
		state, standing string
		dumping         bool
		want            machinery.Status
	}{
		{"save-vm", "", true, machinery.Status{State: machinery.StatePaused, Reason: reasonDump}},
		{"running", "", true, machinery.Status{State: machinery.StateRunning}},
		{"paused", "paused", true, machinery.Status{State: machinery.StatePaused, Reason: reasonFromSnapshot}},
	} {
		if got, err := statusOfRun(c.state, c.standing, c.dumping); err != nil || got != c.want {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
	if got, err := statusOfRun("save-vm", "", false); err != nil || got.State != machinery.StateError {
		t.Errorf("a dump of someone else: %+v, %v", got, err)
	}
}
