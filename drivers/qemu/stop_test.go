//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// restored is a driver with one machine, "vm", that has been restored.
func restored(t *testing.T, snapshot []byte, change ...func(*site)) (*site, *Machinery) {
	t.Helper()
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snapshot)
	for _, c := range change {
		c(s)
	}
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	return s, m
}

func (d *Machinery) pid(name string) int {
	v := d.frame.Named(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.run.proc.PID
}

// stranger is a connection to the machine's second monitor, as somebody else would have.
func stranger(t *testing.T, m *Machinery, command string, args any) {
	t.Helper()
	c, err := monitor.Dial(limit(t), filepath.Join(m.frame.Named("vm").dir, readSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(limit(t), command, args, nil); err != nil && !errors.Is(err, monitor.ErrDisconnected) {
		t.Fatal(err)
	}
}

func TestAQEMUThatDoesNotAnswerIsAnErrorAndIsStoppedByForce(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running, func(s *site) { s.config.QuitTimeout = 100 * time.Millisecond })
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	status := mustState(t, m, "vm", machinery.StateError, reasonNoAnswer)
	if took := time.Since(began); took > stateTime+500*time.Millisecond {
		t.Errorf("State took %v", took)
	}
	if !strings.Contains(status.Detail, fmt.Sprint(m.pid("vm"))) {
		t.Errorf("the detail does not name the process: %s", status.Detail)
	}
	short, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if status, err := m.State(short, "vm"); err != nil || status.Reason != reasonNoAnswer {
		t.Errorf("State with little time: %v, %v", status, err)
	}
	mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
	mustKind(t, m.RestoreStart(limit(t), "vm"), machinery.ErrUnexpectedState)
	if err := syscall.Kill(m.pid("vm"), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 100*time.Millisecond+time.Second {
		t.Errorf("Stop took %v", took)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	s.clean()
}

func TestAContextThatEndsMakesStopKillAtOnce(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running, func(s *site) { s.config.QuitTimeout = time.Hour })
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := m.Stop(ctx, "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, m, "vm", machinery.StatePoweroff, "")
	s.clean()
}

func TestAnImpatientStopHurriesTheOneBeforeIt(t *testing.T) {
	s, m := restored(t, realSnapshots(t).running, func(s *site) { s.config.QuitTimeout = time.Hour })
	if err := syscall.Kill(m.pid("vm"), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- m.Stop(context.Background(), "vm") }()
	waitFor(t, "the first Stop has begun", func() bool {
		status, err := m.State(context.Background(), "vm")
		return err == nil && status.State == machinery.StateStopping
	})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	mustKind(t, m.Stop(ctx, "vm"), machinery.ErrStateReached)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	s.clean()
}

// slow makes the emulator take so long to start that a test can do something meanwhile.
func slow(s *site) { s.script("sleep 20; exec qemu-system-x86_64 \"$@\"") }

// starting begins a RestoreStart that takes long, and waits until it is under way.
func starting(t *testing.T, m *Machinery, ctx context.Context) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- m.RestoreStart(ctx, "vm") }()
	v := m.frame.Named("vm")
	waitFor(t, "QEMU is started", func() bool {
		l, err := readLedger(v.dir)
		return err == nil && l != nil && l.PID != 0
	})
	mustState(t, m, "vm", machinery.StateStarting, reasonLoading)
	return done
}

func TestStopEndsAStartAndIsNilForIt(t *testing.T) {
	snaps := realSnapshots(t)
	for pack, data := range packed(t, snaps.paused) {
		t.Run(pack, func(t *testing.T) {
			s := newSite(t)
			slow(s)
			s.add("vm", snaps.disk, data)
			m, other := s.open(machinery.Options{}), s.open(machinery.Options{})
			start := starting(t, m, context.Background())
			mustState(t, other, "vm", machinery.StateStarting, reasonLoading)
			queued := make(chan error, 1)
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			go func() { queued <- m.RestoreStart(ctx, "vm") }()
			err := <-queued
			mustKind(t, err, machinery.ErrInterrupted)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v does not match context.DeadlineExceeded", err)
			}
			began := time.Now()
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("Stop took %v", took)
			}
			mustKind(t, <-start, machinery.ErrInterrupted)
			mustState(t, m, "vm", machinery.StatePoweroff, "")
			mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrStateReached)
			s.clean()
		})
	}
}

func TestAStartWhoseContextEndsIsUndone(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	slow(s)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	ctx, cancel := context.WithCancelCause(context.Background())
	start := starting(t, m, ctx)
	why := errors.New("the user has gone home")
	cancel(why)
	err := <-start
	mustKind(t, err, machinery.ErrInterrupted)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("%v does not match context.Canceled and its cause", err)
	}
	s.clean()
	mustState(t, m, "vm", machinery.StateError, reasonStartFailed)
	mustKind(t, m.RestoreStart(ctx, "vm"), machinery.ErrInterrupted)
}

func TestCloseEndsAStartAndWhatWaitsForIt(t *testing.T) {
	snaps := realSnapshots(t)
	for what, end := range map[string]func(m *Machinery) error{
		"Close":    (*Machinery).Close,
		"Shutdown": func(m *Machinery) error { return m.Shutdown(context.Background()) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			slow(s)
			s.add("vm", snaps.disk, snaps.paused)
			m := s.open(machinery.Options{})
			start := starting(t, m, context.Background())
			queued := make(chan error, 1)
			go func() { queued <- m.HandlePaused(context.Background(), "vm") }()
			waitFor(t, "the second operation waits", func() bool {
				return m.frame.Named("vm").turns.Waiting() == 1
			})
			if err := end(m); err != nil {
				t.Fatal(err)
			}
			mustKind(t, <-start, machinery.ErrInterrupted)
			mustKind(t, <-queued, machinery.ErrClosed)
			s.clean()
		})
	}
}

func TestAMachineThatGoesOffByItselfIsClearedUpWithoutBeingAsked(t *testing.T) {
	snaps := realSnapshots(t)
	for what, c := range map[string]struct {
		off    func(t *testing.T, m *Machinery)
		reason string
	}{
		"told to quit by someone": {func(t *testing.T, m *Machinery) { stranger(t, m, "quit", nil) }, "someone else told QEMU to quit"},
		"killed":                  {func(t *testing.T, m *Machinery) { syscall.Kill(m.pid("vm"), syscall.SIGKILL) }, "QEMU ended: killed by signal 9 (killed)"},
		"sent a signal":           {func(t *testing.T, m *Machinery) { syscall.Kill(m.pid("vm"), syscall.SIGTERM) }, "someone else sent QEMU a signal to end"},
	} {
		t.Run(what, func(t *testing.T) {
			s, m := restored(t, snaps.running)
			r := m.frame.Named("vm").run
			c.off(t, m)
			<-r.proc.Gone
			mustState(t, m, "vm", machinery.StatePoweroff, c.reason)
			waitFor(t, "nothing is left", func() bool { return m.frame.Named("vm").held() == nil })
			s.clean()
			mustState(t, m, "vm", machinery.StatePoweroff, c.reason)
			mustKind(t, m.Stop(limit(t), "vm"), machinery.ErrStateReached)
			mustKind(t, m.HandlePaused(limit(t), "vm"), machinery.ErrUnexpectedState)
			for range 3 { // and when it goes off just before the next start, that is no obstacle
				if err := m.RestoreStart(limit(t), "vm"); err != nil {
					t.Fatal(err)
				}
				p := m.frame.Named("vm").run.proc
				p.Kill()
				<-p.Gone
			}
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			s.clean()
		})
	}
}

// held is the run that the driver holds.
func (v *vm) held() *run {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.run
}

// offSector is a guest that switches itself off when it boots: mov dx,0x604; mov ax,0x2000; out dx,ax; again: hlt; jmp again.
func offSector() []byte {
	b := make([]byte, 1<<20)
	copy(b, []byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd})
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestAGuestThatSwitchesItselfOffIsPoweroff(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", offSector(), snaps.paused)
	m := s.open(machinery.Options{})
	for range 2 {
		if err := m.RestoreStart(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		if err := m.HandlePaused(limit(t), "vm"); err != nil {
			t.Fatal(err)
		}
		if _, err := machinery.WaitState(limit(t), m, "vm", machinery.StatePoweroff); err != nil {
			t.Fatal(err)
		}
		mustState(t, m, "vm", machinery.StatePoweroff, "the guest switched itself off")
	}
	waitFor(t, "nothing is left", func() bool { return m.frame.Named("vm").held() == nil })
	s.clean()
}

func TestStopNeverLeavesAMachineOnWhateverElseIsDoneMeanwhile(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	for i := range 3 {
		s.add(fmt.Sprint("vm", i), snaps.disk, packed(t, snaps.paused)[[]string{"raw", "gzip", "zstd"}[i]])
	}
	m := s.open(machinery.Options{})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for i := range 12 {
		name := fmt.Sprint("vm", i%3)
		random := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				short, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(80))*time.Millisecond)
				var err error
				switch what := random.IntN(10); {
				case what < 4:
					err = m.RestoreStart(short, name)
				case what < 5:
					err = m.HandlePaused(short, name)
				case what < 7:
					err = m.Stop(short, name)
				case what < 8:
					if r := m.frame.Named(name).held(); r != nil {
						r.proc.Kill()
					}
				default:
					_, err = m.State(short, name)
				}
				cancel()
				switch machinery.KindOf(err) {
				case nil, machinery.ErrUnexpectedState, machinery.ErrStateReached, machinery.ErrInterrupted:
				case machinery.ErrHypervisor, machinery.ErrConnection:
					if !strings.Contains(err.Error(), "QEMU ended (killed") && !strings.Contains(err.Error(), "cannot be told to go on") {
						t.Error(err)
					}
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for i := range 3 {
		name := fmt.Sprint("vm", i)
		if err := m.Stop(limit(t), name); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			t.Error(err)
		}
		mustState(t, m, name, machinery.StatePoweroff, "")
	}
	s.clean()
}
