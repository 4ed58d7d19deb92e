package monitor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp/raw"
	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/internal/require"
)

// realQEMU is a QEMU process in the state prelaunch, that listens on path.
type realQEMU struct {
	path   string
	cmd    *exec.Cmd
	exited chan struct{}
	stderr *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startQEMU starts a QEMU on a socket that is listening already, so that there is nothing to poll for.
func startQEMU(t testing.TB, args ...string) *realQEMU {
	t.Helper()
	require.Tool(t, "qemu", "qemu-system-x86_64")
	dir, err := os.MkdirTemp("/tmp", "m")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	q := &realQEMU{path: filepath.Join(dir, "q"), exited: make(chan struct{}), stderr: &lockedBuffer{}}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: q.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false) // it lives on in QEMU
	fd, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	q.cmd = exec.Command("qemu-system-x86_64", append([]string{"-accel", "tcg", "-M", "q35", "-m", "32", "-display", "none", "-nodefaults",
		"-serial", "null", "-S", "-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-mon", "chardev=qmp,mode=control"}, args...)...)
	q.cmd.ExtraFiles = []*os.File{fd}
	q.cmd.Stderr = q.stderr
	if err := q.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(q.exited); q.cmd.Wait() }()
	t.Cleanup(func() {
		q.cmd.Process.Kill()
		<-q.exited
		if t.Failed() && q.stderr.String() != "" {
			t.Logf("QEMU said: %s", q.stderr)
		}
	})
	return q
}

func (q *realQEMU) dial(t testing.TB) *Monitor {
	t.Helper()
	m, err := Dial(within(t, patience), q.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// execute fails the test if the command fails.
func execute(t testing.TB, m *Monitor, command string, args, result any) {
	t.Helper()
	if err := m.Execute(within(t, patience), command, args, result); err != nil {
		for _, e := range m.Trace() {
			t.Log(e)
		}
		t.Fatal(err)
	}
}

func TestRealQEMUIsGreetedRunStoppedAndQuit(t *testing.T) {
	q := startQEMU(t)
	m := q.dial(t)
	if m.Version().Major < 4 || len(m.Capabilities()) == 0 {
		t.Errorf("got version %s, capabilities %v", m.Version(), m.Capabilities())
	}
	events := m.Events(within(t, patience))
	var status struct{ Status string }
	for _, c := range []struct{ command, event, status string }{
		{"query-status", "", "prelaunch"},
		{"cont", "RESUME", "running"},
		{"cont", "", "running"},
		{"stop", "STOP", "paused"},
		{"system_powerdown", "POWERDOWN", "paused"},
	} {
		execute(t, m, c.command, nil, nil)
		if c.event != "" {
			if e := receive(t, events); e.Name != c.event || time.Since(e.Time).Abs() > time.Minute {
				t.Errorf("%s caused %s at %v, want %s now", c.command, e.Name, e.Time, c.event)
			}
		}
		if execute(t, m, "query-status", nil, &status); status.Status != c.status {
			t.Errorf("after %s: %s, want %s", c.command, status.Status, c.status)
		}
	}
	if err := m.Quit(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	wantError(t, m.Err(), ErrQuit)
	if got := names(t, events); len(got) != 1 || got[0] != "SHUTDOWN" {
		t.Errorf("quit caused %v, want SHUTDOWN", got)
	}
	select {
	case <-q.exited:
	case <-time.After(patience):
		t.Error("QEMU did not exit")
	}
}

func TestRealQEMURefusesAndGoesOn(t *testing.T) {
	m := startQEMU(t).dial(t)
	for _, c := range []struct {
		command     string
		args        any
		class, desc string
	}{
		{"no-such-command", nil, ClassCommandNotFound, "The command no-such-command has not been found"},
		{"cont", map[string]int{"x": 1}, ClassGeneric, "Parameter 'x' is unexpected"},
		{"migrate", struct{}{}, ClassGeneric, "Parameter 'uri' is missing"},
		{"qmp_capabilities", nil, ClassCommandNotFound, "Capabilities negotiation is already complete, command ignored"},
		{"getfd", map[string]string{"fdname": "x"}, ClassGeneric, "No file descriptor supplied via SCM_RIGHTS"},
	} {
		err := m.Execute(within(t, patience), c.command, c.args, nil)
		var refused *CommandError
		if !errors.As(err, &refused) || *refused != (CommandError{c.command, c.class, c.desc}) {
			t.Errorf("%s: got error %v", c.command, err)
		}
	}
	execute(t, m, "query-status", nil, nil)
}

func TestRealQEMUSendsItsWholeSchema(t *testing.T) {
	m := startQEMU(t).dial(t)
	var schema []struct{ Name string }
	execute(t, m, "query-qmp-schema", nil, &schema)
	if len(schema) < 500 {
		t.Errorf("got %d entries", len(schema))
	}
	trace := m.Trace()
	if last := trace[len(trace)-1]; last.Size < 64<<10 {
		t.Errorf("the schema has %d bytes, too few to prove anything", last.Size)
	}
}

func TestARealQEMUThatIsStoppedIsWaitedForNoLongerThanTheContext(t *testing.T) {
	q := startQEMU(t)
	m := q.dial(t)
	execute(t, m, "query-status", nil, nil)
	q.cmd.Process.Signal(unix.SIGSTOP)
	err := m.Execute(within(t, 50*time.Millisecond), "query-version", nil, nil)
	wantError(t, err, context.DeadlineExceeded)
	q.cmd.Process.Signal(unix.SIGCONT)
	var status struct{ Status string }
	if execute(t, m, "query-status", nil, &status); status.Status != "prelaunch" {
		t.Errorf("after the late answer: %+v", status)
	}
	q.cmd.Process.Signal(unix.SIGSTOP)
	inTime(t, "Close of a connection to a stopped QEMU", func() { m.Close() })
}

func TestARealQEMUThatIsKilledDuringACommandIsADisconnection(t *testing.T) {
	q := startQEMU(t)
	m := q.dial(t)
	execute(t, m, "query-status", nil, nil)
	q.cmd.Process.Signal(unix.SIGSTOP)
	failed := make(chan error, 1)
	go func() { failed <- m.Execute(context.Background(), "query-status", nil, nil) }()
	time.Sleep(20 * time.Millisecond) // a command that lies unread makes the end a reset; too short only makes it an end of file
	q.cmd.Process.Kill()
	select {
	case err := <-failed:
		wantError(t, err, ErrDisconnected)
		if errors.Is(err, ErrQuit) {
			t.Errorf("nobody had sent quit: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the command hangs")
	}
}

func TestASecondClientOfARealQEMUWaitsAndIsServedWhenTheFirstHasGone(t *testing.T) {
	q := startQEMU(t)
	first := q.dial(t)
	execute(t, first, "cont", nil, nil)
	_, err := Dial(within(t, 100*time.Millisecond), q.path)
	wantError(t, err, context.DeadlineExceeded)
	first.Close()
	second := q.dial(t)
	var status struct{ Status string }
	if execute(t, second, "query-status", nil, &status); status.Status != "running" {
		t.Errorf("got %+v", status)
	}
}

func TestARealQEMUTakesSeveralFilesAtOnceAndMistakesNone(t *testing.T) {
	m := startQEMU(t).dial(t)
	file := filepath.Join(t.TempDir(), "dump")
	dump, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer dump.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	// QEMU closes descriptors it has not used when others arrive, so this shows that it carries out a command before it reads on.
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d", "dump", "e", "f", "g"} {
		wg.Go(func() {
			f := null
			if name == "dump" {
				f = dump
			}
			if err := m.ExecuteFile(within(t, patience), "getfd", map[string]string{"fdname": name}, f, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	execute(t, m, "dump-guest-memory", map[string]any{"paging": false, "protocol": "fd:dump"}, nil)
	if info, err := dump.Stat(); err != nil || info.Size() < 32<<20 {
		t.Errorf("the dump: %v, error %v", info, err)
	}
	head := make([]byte, 4)
	if f, err := os.Open(file); err != nil {
		t.Error(err)
	} else if _, err := io.ReadFull(f, head); err != nil || string(head) != "\x7fELF" {
		t.Errorf("the dump begins with %q, error %v", head, err)
	} else {
		f.Close()
	}
}

func TestTheTypedCommandsOfGoQEMUWorkOnARealQEMU(t *testing.T) {
	m := startQEMU(t).dial(t)
	mon := raw.NewMonitor(m.WithContext(within(t, patience)))
	if status, err := mon.QueryStatus(); err != nil || status.Status != raw.RunStatePrelaunch {
		t.Errorf("got %+v, error %v", status, err)
	}
	if err := mon.Cont(); err != nil {
		t.Error(err)
	}
	if version, err := mon.QueryVersion(); err != nil || int(version.Qemu.Major) != m.Version().Major {
		t.Errorf("got %+v, error %v", version, err)
	}
	if err := mon.SystemWakeup(); err == nil || !strings.Contains(err.Error(), "Unable to wake up") {
		t.Errorf("got error %v", err)
	}
}
