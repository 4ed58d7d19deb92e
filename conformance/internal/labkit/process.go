//go:build linux

package labkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/conformance"
)

// Process is one that has to do with a machine.
type Process struct {
	PID  int
	Args string
}

// Processes finds the processes whose command line has the text in it, other
// than this one. A machine's command line has the path of its guest's socket,
// which no other has.
func Processes(text string) []Process {
	var found []Process
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		args := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
		if strings.Contains(args, text) {
			found = append(found, Process{pid, args})
		}
	}
	return found
}

// PowerOf is the power of a machine whose processes have the text in their
// command lines.
func PowerOf(text string) conformance.Power {
	var power conformance.Power
	for _, p := range Processes(text) {
		power.On = true
		power.Detail += fmt.Sprintf("process %d (%.60s…) ", p.PID, p.Args)
	}
	power.Detail = strings.TrimSpace(power.Detail)
	return power
}

// Signal sends a signal to every process of a machine, and for SIGSTOP waits
// until they stand still.
func Signal(ctx context.Context, text string, s syscall.Signal) error {
	found := Processes(text)
	if len(found) == 0 {
		return fmt.Errorf("no process is there for %v", s)
	}
	for _, p := range found {
		if err := Kill(p, s); err != nil {
			return err
		}
	}
	if s != syscall.SIGSTOP {
		return nil
	}
	// The signal is delivered to one thread after the other; until the last
	// has it, the process may still answer.
	for _, p := range found {
		if err := Stopped(ctx, p.PID); err != nil {
			return err
		}
	}
	return nil
}

// Kill sends a signal to a process, which may have ended meanwhile.
func Kill(p Process, s syscall.Signal) error {
	if err := syscall.Kill(p.PID, s); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("%v to process %d: %w", s, p.PID, err)
	}
	return nil
}

// Stopped waits until every thread of a process stands still. The kernel has
// no event for that.
func Stopped(ctx context.Context, pid int) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			return err
		}
		running := 0
		for _, path := range paths {
			if _, fields := ReadStat(path); len(fields) > 0 && fields[0] != "T" && fields[0] != "Z" {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("process %d does not stop: %w", pid, ctx.Err())
		}
	}
}

// ReadStat reads a stat file of /proc: the name, and the fields from the state
// on; nothing for a process that is gone. See proc(5).
func ReadStat(path string) (name string, fields []string) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return "", nil
	}
	// pid (name) state ppid …; the name may hold anything.
	text := string(stat)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "", nil
	}
	return text[open+1 : end], strings.Fields(text[end+1:])
}

// Zombies lists children of this process that ended and were never waited for.
func Zombies() []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		name, fields := ReadStat(path)
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, fmt.Sprintf("process %s (%s) has ended, and was not waited for", filepath.Base(filepath.Dir(path)), name))
		}
	}
	return found
}

// Below lists what is in a directory, which need not exist.
func Below(dir string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path != dir:
			found = append(found, e.Type().String()+" "+path)
		}
		return nil
	})
	return found, err
}

// Strangers lists what lies in the directories and is not among what belongs
// there.
func Strangers(own map[string]bool, dirs ...string) ([]string, error) {
	var strange []string
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if path := filepath.Join(dir, e.Name()); !own[path] {
				strange = append(strange, e.Type().String()+" "+path)
			}
		}
	}
	return strange, nil
}

// EndAll kills every process whose command line has the text in it, and waits
// until they are gone.
func EndAll(ctx context.Context, text string) error {
	for {
		found := Processes(text)
		if len(found) == 0 {
			return nil
		}
		for _, p := range found {
			if err := endProcess(ctx, p); err != nil {
				return err
			}
		}
	}
}

// endProcess kills one process. The descriptor makes sure that it is the one
// that was found, and no later one with its id.
func endProcess(ctx context.Context, p Process) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID)); err != nil || strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) != p.Args {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(10*time.Millisecond/time.Millisecond))
		if n > 0 || err != nil && !errors.Is(err, syscall.EINTR) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("process %d does not end: %w", p.PID, ctx.Err())
		}
	}
}
