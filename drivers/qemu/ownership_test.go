//go:build linux

package qemu

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

func TestWhileOneDriverHoldsAMachineAnotherGetsBusyAndMayRead(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	first, second := s.open(machinery.Options{}), s.open(machinery.Options{})
	if err := first.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"RestoreStart": second.RestoreStart(limit(t), "vm"),
		"Stop":         second.Stop(limit(t), "vm"),
		"HandlePaused": second.HandlePaused(limit(t), "vm"),
	} {
		mustKind(t, err, machinery.ErrBusy)
		if !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("%s: %v does not name the holder", what, err)
		}
	}
	for range 20 {
		mustState(t, second, "vm", machinery.StatePaused, reasonFromSnapshot)
		mustState(t, first, "vm", machinery.StatePaused, reasonFromSnapshot)
	}
	if err := first.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, second, "vm", machinery.StateRunning, "")
	if err := first.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, second, "vm", machinery.StatePoweroff, "")
	if err := second.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustKind(t, first.Stop(limit(t), "vm"), machinery.ErrBusy)
	if err := second.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestTheNextDriverTakesOverWhatCloseLeftRunning(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	next := func() *Machinery { return s.open(machinery.Options{}) }
	m := next()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	shut := func(m *Machinery) {
		t.Helper()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatalf("the second Close: %v", err)
		}
		_, err := m.State(limit(t), "vm")
		mustKind(t, err, machinery.ErrClosed)
		mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrClosed)
		mustKind(t, m.Shutdown(limit(t)), machinery.ErrClosed)
	}
	shut(m)

	m = next()
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrStateReached)
	shut(m)

	m = next()
	mustState(t, m, "vm", machinery.StateRunning, "")
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrStateReached)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	s.clean()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Shutdown(limit(t)); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

// startChild starts another process with a driver on the site and waits until it has done what it is told.
func startChild(t *testing.T, s *site, what string, waitDone bool) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+s.dir+"|"+what)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if waitDone && line != "done: <nil>\n" {
		t.Fatalf("the other process says %q", line)
	}
	return cmd
}

func killChild(cmd *exec.Cmd) {
	cmd.Process.Kill()
	cmd.Wait()
}

func TestAfterTheDriversDeathTheNextOneFindsTheMachine(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	child := startChild(t, s, "restore", true)
	m := s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	err := m.Stop(limit(t), "vm")
	mustKind(t, err, machinery.ErrBusy)
	if !strings.Contains(err.Error(), fmt.Sprint(child.Process.Pid)) {
		t.Errorf("%v does not name the holder %d", err, child.Process.Pid)
	}
	killChild(child)
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAfterADeathDuringTheStartNothingIsLostOrLeft(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	// A QEMU that takes a while before it is one.
	s.write("qemu", []byte("#!/bin/sh\nsleep 0.3\nexec qemu-system-x86_64 \"$@\"\n"))
	if err := os.Chmod(filepath.Join(s.dir, "qemu"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.config.QEMU = filepath.Join(s.dir, "qemu")
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 200 * time.Millisecond, 320 * time.Millisecond, 500 * time.Millisecond} {
		child := startChild(t, s, "start for ever", false)
		time.Sleep(after) // the moment of the death is what is tried out
		killChild(child)
		m := s.open(machinery.Options{})
		status, err := m.State(limit(t), "vm")
		t.Logf("after %v: %v, %v", after, status, err)
		if err := m.Stop(limit(t), "vm"); machinery.KindOf(err) != nil && machinery.KindOf(err) != machinery.ErrStateReached {
			t.Fatalf("Stop after a death %v into the start: %v", after, err)
		}
		s.clean()
		m.Close()
	}
}

func TestMachinesEndWithTheirDriverWhereThatIsAskedFor(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	killChild(startChild(t, s, "restore and end", true))
	m := s.open(machinery.Options{EndMachines: true})
	waitFor(t, "QEMU ends with the driver's process", func() bool {
		status, err := m.State(limit(t), "vm")
		return err == nil && status.State == machinery.StatePoweroff
	})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

// waitFor waits for a condition of which there is no sign.
func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) { // between two looks at what has no event
		if time.Now().After(deadline) {
			t.Fatalf("after 10 s it is still not so that %s", what)
		}
	}
}

// ledgerOf changes a machine's ledger as another time or host would have left it.
func changeLedger(t *testing.T, m *Machinery, name string, change func(l *ledger)) {
	t.Helper()
	path := filepath.Join(m.frame.Named(name).dir, stateFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var l ledger
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	change(&l)
	if data, err = json.Marshal(l); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// bystander is a process that has nothing to do with any machine.
func bystander(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", append([]string{"300"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killChild(cmd) })
	return cmd
}

func mustLive(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if _, err := attachNow(cmd.Process.Pid); err != nil {
		t.Errorf("the bystander %d does not live any more: %v", cmd.Process.Pid, err)
	}
}

// attachNow is whether a process lives, and is no zombie.
func attachNow(pid int) (uint64, error) {
	start, err := process.StartTime(pid)
	if err != nil {
		return 0, err
	}
	p, err := process.Attach(pid, start)
	if err != nil {
		return 0, err
	}
	p.Release()
	return start, nil
}

func TestAStrangerWithTheSameProcessIDIsLeftAlone(t *testing.T) {
	snaps := realSnapshots(t)
	stranger := bystander(t)
	start, err := attachNow(stranger.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func(*ledger){
		"another start time":   func(l *ledger) { l.PID = stranger.Process.Pid },
		"another command line": func(l *ledger) { l.PID, l.Start = stranger.Process.Pid, start },
	}
	for what, change := range changes {
		for _, runs := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, QEMU runs: %v", what, runs), func(t *testing.T) {
				s := newSite(t)
				s.add("vm", snaps.disk, snaps.paused)
				m := s.open(machinery.Options{})
				if err := m.RestoreStart(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
				pid := m.pid("vm")
				if err := m.Close(); err != nil {
					t.Fatal(err)
				}
				changeLedger(t, m, "vm", change)
				m = s.open(machinery.Options{})
				if runs {
					// Found by its command line.
					mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
					if err := m.HandlePaused(limit(t), "vm"); err != nil {
						t.Fatal(err)
					}
					if got := m.pid("vm"); got != pid {
						t.Errorf("process %d was taken over, want %d", got, pid)
					}
					if err := m.Stop(limit(t), "vm"); err != nil {
						t.Fatal(err)
					}
				} else {
					endProcess(t, pid)
					mustState(t, m, "vm", machinery.StatePoweroff, "")
					mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrStateReached)
				}
				mustLive(t, stranger)
				s.clean()
			})
		}
	}
}

// endProcess kills a process of this test's machines and waits for its end.
func endProcess(t *testing.T, pid int) {
	t.Helper()
	start, err := process.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := process.Attach(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	p.Kill()
	if !p.Wait(cleanupTime) {
		t.Errorf("process %d does not end", pid)
	}
}

func TestALedgerFromAnotherBootMeansNoProcessOfThisOne(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	pid := m.pid("vm")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	changeLedger(t, m, "vm", func(l *ledger) { l.Boot = "00000000-0000-0000-0000-000000000000" })
	m = s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrStateReached)
	if _, err := attachNow(pid); err != nil {
		t.Errorf("the process was ended, though by the ledger it is another boot's: %v", err)
	}
	// Its disk is in use, so that it is not removed, neither by Stop nor by a start that finds it.
	overlay := m.frame.Named("vm").overlays[0]
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), overlay) || !fileExists(overlay) {
		t.Errorf("%v does not name %s, or that was removed", err, overlay)
	}
	endProcess(t, pid) // the ledger does not name it any more, so that it is this test's to end
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAQEMUThatAWrapperStartedInsteadOfBecomingItIsFoundAfterBothDriverAndWrapperDied(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	s.write("qemu", []byte("#!/bin/sh\nqemu-system-x86_64 \"$@\"\nexit $?\n"))
	if err := os.Chmod(filepath.Join(s.dir, "qemu"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.config.QEMU = filepath.Join(s.dir, "qemu")
	killChild(startChild(t, s, "restore", true))
	m := s.open(machinery.Options{})
	l, err := readLedger(m.frame.Named("vm").dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(l.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil { // the wrapper alone
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func TestAQEMUWhoseIDWasNeverNotedIsFoundByItsCommandLine(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	pid := m.pid("vm")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// As if the driver had died between starting QEMU and noting that it had.
	changeLedger(t, m, "vm", func(l *ledger) { l.PID, l.Start, l.Phase, l.Standing = 0, 0, phaseStarting, "" })
	m = s.open(machinery.Options{})
	mustState(t, m, "vm", machinery.StatePaused, reasonFromSnapshot)
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := m.HandlePaused(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if got := m.pid("vm"); got != pid {
		t.Errorf("process %d was taken over, want %d", got, pid)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}

func mustStart(t *testing.T) uint64 {
	start, err := process.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return start
}

func TestALedgerThatCannotBeUnderstoodIsLeftAloneAndNamed(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	dir := m.frame.Named("vm").dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, stateFile)
	text := func(text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	elsewhere := filepath.Join(s.dir, "elsewhere")
	s.write("elsewhere", []byte("{}"))
	for what, put := range map[string]func() error{
		"cut off":              text("{"),
		"of another version":   text(`{"version": 99}`),
		"empty":                text(""),
		"of wrong types":       text(`{"version": 1, "pid": "one"}`),
		"too long":             text(`{"machine": "` + strings.Repeat("x", 2<<20) + `"}`),
		"a symbolic link":      func() error { return os.Symlink(elsewhere, path) },
		"a pipe nobody writes": func() error { return unix.Mkfifo(path, 0o600) },
		"a directory":          func() error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(what, func(t *testing.T) {
			if err := put(); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.State(limit(t), "vm")
			for _, err := range []error{err, m.RestoreStart(limit(t), "vm"), m.Stop(limit(t), "vm")} {
				mustKind(t, err, machinery.ErrHypervisor)
				if !strings.Contains(err.Error(), path) {
					t.Errorf("%v does not name %s", err, path)
				}
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
				t.Errorf("the ledger was changed: %v, %v", after, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func TestAStartThatMeetsAQEMUInTheMomentOfItsEndGoesOn(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	// The machine is found off by the question that follows on finding its process.
	if err := m.frame.Named("vm").notOff(limit(t), machinery.OpRestoreStart); err != nil {
		t.Errorf("a machine that is off is refused: %v", err)
	}
	for range 5 {
		killChild(startChild(t, s, "restore and end", true)) // the kernel ends QEMU with it, a moment later
		if err := m.RestoreStart(limit(t), "vm"); err != nil {
			if strings.Contains(err.Error(), "poweroff") {
				t.Fatalf("a machine that is off is refused: %v", err)
			}
			// QEMU was not dead yet, and answered.
			mustKind(t, err, machinery.ErrUnexpectedState)
			_ = m.Stop(limit(t), "vm")
			continue
		}
		if err := m.Stop(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
	}
	s.clean()
}
