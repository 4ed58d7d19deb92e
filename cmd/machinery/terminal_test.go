//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// newTerminal makes a terminal of that many columns; both ends are to be closed.
func newTerminal(t *testing.T, columns int) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there is no terminal to be had: %v", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal runs a command on a terminal of that many columns and returns
// what it wrote there.
func onTerminal(t *testing.T, cmd *exec.Cmd, columns int) (string, int) {
	t.Helper()
	master, slave := newTerminal(t, columns)
	defer master.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	err := cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	// The read ends with an error when the last process has closed the slave.
	text, _ := io.ReadAll(master)
	_ = cmd.Wait()
	return string(text), cmd.ProcessState.ExitCode()
}

func TestATerminalGetsColoursALiveLineAndItsWidth(t *testing.T) {
	args := []string{"conformance", "run", "--driver", "qemu", "--lab", "fake", "--only", "MM-STOP-001"}
	cmd := command(t, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	text, status := onTerminal(t, cmd, 60)
	if status != 0 {
		t.Fatalf("exit status %d:\n%s", status, text)
	}
	for _, want := range []string{"\x1b[32mpass ", "0 done; MM-STOP-001 0s", "\r\x1b[K"} {
		if !strings.Contains(text, want) {
			t.Errorf("the terminal should get %q:\n%q", want, text)
		}
	}
	plain := text
	for _, code := range []string{"\x1b[32m", "\x1b[0m", "\x1b[K"} {
		plain = strings.ReplaceAll(plain, code, "")
	}
	for _, line := range strings.FieldsFunc(plain, func(r rune) bool { return r == '\r' || r == '\n' }) {
		if utf8.RuneCountInString(line) > 60 {
			t.Errorf("a line is wider than the terminal: %q", line)
		}
	}

	cmd = command(t, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=1")
	if text, _ := onTerminal(t, cmd, 60); strings.Contains(text, "\x1b[32m") || !strings.Contains(text, "\r\x1b[K") {
		t.Errorf("NO_COLOR takes the colours, and no more:\n%q", text)
	}
	cmd = command(t, args...)
	cmd.Env = append(cmd.Env, "TERM=dumb")
	if text, _ := onTerminal(t, cmd, 60); strings.Contains(text, "\x1b") {
		t.Errorf("a dumb terminal understands no control characters:\n%q", text)
	}
}

// typing runs a command on a terminal that is its own, and types keys when it has said something.
func typing(t *testing.T, cmd *exec.Cmd, until, keys string) (string, int) {
	t.Helper()
	master, slave := newTerminal(t, 80)
	defer master.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // so that Ctrl-C reaches it
	err := cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	typed := false
	for buffer := make([]byte, 4096); ; {
		n, err := master.Read(buffer)
		text.Write(buffer[:n])
		if !typed && strings.Contains(text.String(), until) {
			typed = true
			if _, err := io.WriteString(master, keys); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil { // the last process has closed the slave
			break
		}
	}
	_ = cmd.Wait()
	return text.String(), cmd.ProcessState.ExitCode()
}
