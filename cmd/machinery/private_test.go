//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

// private is a place with a /tmp of its own, where a test can tell exactly
// what a command leaves, and where what it leaves disturbs nobody.
type private struct {
	t    *testing.T
	pid  int
	self string
	mark string
}

// markEnv marks every process that a command in a private place starts.
const markEnv = "MACHINERIES_TEST_MARK"

// newPrivate makes a mount namespace whose /tmp is empty but for this test
// binary. A process that reads its standard input keeps it.
func newPrivate(t *testing.T) *private {
	t.Helper()
	require.Tool(t, "nsenter")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The binary may lie below /tmp, and is copied from a descriptor then.
	script := `exec 3<"$0" && mount -t tmpfs -o mode=1777 none /tmp && { [ -e "$0" ] || { mkdir -p "$(dirname "$0")" && cp /proc/self/fd/3 "$0" && chmod 755 "$0"; }; } && exec 3<&- && echo ready && exec cat`
	cmd := exec.Command("/bin/sh", "-c", script, self)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		require.Missing(t, "namespaces", err.Error())
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		require.Missing(t, "namespaces", strings.TrimSpace(said.String()))
	}
	return &private{t: t, pid: cmd.Process.Pid, self: self, mark: fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())}
}

// command is the command in the private place.
func (p *private) command(args ...string) *exec.Cmd {
	cmd := command(p.t, args...)
	enter := []string{"nsenter", "-t", strconv.Itoa(p.pid), "-m"}
	if os.Getuid() != 0 {
		enter = append(enter, "-U", "--preserve-credentials")
	}
	path, err := exec.LookPath("nsenter")
	if err != nil {
		p.t.Fatal(err)
	}
	// nsenter becomes the command, so signals reach it.
	cmd.Args = append(append(enter, "--", p.self), args...)
	cmd.Path = path
	cmd.Env = append(cmd.Env, markEnv+"="+p.mark)
	return cmd
}

// files lists what is in the private /tmp.
func (p *private) files() []string {
	p.t.Helper()
	root := fmt.Sprintf("/proc/%d/root/tmp", p.pid)
	var found []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, fmt.Sprintf("/proc/%d/root", p.pid))
		switch {
		case errors.Is(err, fs.ErrNotExist) || name == "/tmp":
			return nil
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(p.self, name+"/"), name == p.self:
			return nil
		}
		found = append(found, name)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// processes lists the processes that the private place's commands have
// started, zombies left out: they are their parent's affair.
func (p *private) processes() []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+markEnv+"="+p.mark+"\x00")) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		found = append(found, filepath.Base(filepath.Dir(path))+" "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return found
}

// wantNothingLeft fails the test if a process or a file is there. A worker
// whose runner was killed needs a moment to notice.
func (p *private) wantNothingLeft() {
	p.t.Helper()
	p.wantNoProcess()
	if left := p.files(); len(left) > 0 {
		p.t.Errorf("these files are left:\n%s", strings.Join(left, "\n"))
	}
}

func (p *private) wantNoProcess() {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := p.processes()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("these processes are left:\n%s", strings.Join(left, "\n"))
		}
		time.Sleep(10 * time.Millisecond) // the end of a process that is not our child gives no event
	}
}

// begin starts a command and returns when its output has the text; the rest of
// the output is read by the function that waits for its end.
func begin(t *testing.T, cmd *exec.Cmd, until string) (end func() result) {
	t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	lines := bufio.NewReader(out)
	for !strings.Contains(seen.String(), until) {
		line, err := lines.ReadString('\n')
		seen.WriteString(line)
		if err != nil {
			_ = cmd.Wait()
			t.Fatalf("it ended before it said %q:\n%s\n%s", until, seen.String(), errs.String())
		}
	}
	return func() result {
		_, _ = io.Copy(&seen, lines)
		_ = cmd.Wait()
		return result{seen.String(), errs.String(), cmd.ProcessState.ExitCode()}
	}
}
