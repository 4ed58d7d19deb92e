package conformance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup keeps the terminal's Ctrl-C from a worker: the runner ends it in
// good order.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// quit makes a Go program print its goroutines and end.
func quit(cmd *exec.Cmd) { _ = cmd.Process.Signal(syscall.SIGQUIT) }

// processStart tells a process from a later one with the same id; empty if
// there is none that lives. The start time is field 22 of /proc/PID/stat, see proc(5).
func processStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name, field 2, is in parentheses and may hold anything.
	_, rest, ok := bytes.Cut(stat, []byte(") "))
	if i := bytes.LastIndex(stat, []byte(") ")); ok && i >= 0 {
		rest = stat[i+2:]
	}
	fields := strings.Fields(string(rest))
	// A process that has ended and was not waited for does nothing any more.
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// kernel returns the kernel's release.
func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// descriptors lists this process' open descriptors.
func descriptors() []os.DirEntry {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	return entries
}

// openUnmarked opens a file whose descriptor is not marked to be closed in
// programs that are started.
func openUnmarked(path string) (closeFile func(), err error) {
	low, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(low)
	// Between fork and exec, Go moves descriptors to numbers that are free of its own, and does not look whether they are of others: one of the
	// low numbers could be gone in the child by chance.
	const high = 500
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD, high)
	if err != nil {
		return nil, err
	}
	return func() { _ = syscall.Close(fd) }, nil
}
