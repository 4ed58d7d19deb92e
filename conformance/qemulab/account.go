package qemulab

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

// process is one that has to do with a machine.
type process struct {
	pid  int
	args string
}

// processes finds the processes whose command line has the text in it, other
// than this one. A machine's command line has the path of its guest's socket,
// which no other has.
func processes(text string) []process {
	var found []process
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
			found = append(found, process{pid, args})
		}
	}
	return found
}

// Power implements conformance.Bench.
func (b *bench) Power(_ context.Context, name string) (conformance.Power, error) {
	var power conformance.Power
	for _, p := range processes(b.machines[name].socket) {
		power.On = true
		power.Detail += fmt.Sprintf("process %d (%.60s…) ", p.pid, p.args)
	}
	power.Detail = strings.TrimSpace(power.Detail)
	return power, nil
}

// Leftovers implements conformance.Bench.
func (b *bench) Leftovers(context.Context) ([]string, error) {
	var left []string
	// Lets the installation give up what it holds of emulators that have ended.
	b.install.Alive()
	for _, p := range processes(b.dir) {
		left = append(left, fmt.Sprintf("process %d: %.200s", p.pid, p.args))
	}
	left = append(left, zombies()...)
	for _, dir := range []string{b.overlays(), b.RuntimeDir()} {
		files, err := below(dir)
		if err != nil {
			return nil, err
		}
		left = append(left, files...)
	}
	strange, err := b.strangers()
	return append(left, strange...), err
}

// below lists what is in a directory, which need not exist.
func below(dir string) ([]string, error) {
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

// strangers lists what lies beside the bench's own files: something that the
// driver put next to a disk or a snapshot.
func (b *bench) strangers() ([]string, error) {
	own := map[string]bool{b.ConfigPath(): true, b.binDir(): true, b.overlays(): true, b.RuntimeDir(): true}
	dirs := []string{b.dir}
	for _, m := range b.machines {
		own[m.socket] = true
		if m.network != nil {
			own[m.network.path] = true
		}
		dir := filepath.Dir(m.files["disk"])
		own[dir] = true
		dirs = append(dirs, dir)
		for _, path := range m.files {
			own[path] = true
		}
	}
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

// zombies lists children of this process that ended and were never waited for.
func zombies() []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		name, fields := readStat(path)
		if len(fields) > 1 && fields[0] == "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, fmt.Sprintf("process %s (%s) has ended, and was not waited for", filepath.Base(filepath.Dir(path)), name))
		}
	}
	return found
}

// readStat reads a stat file of /proc: the name, and the fields from the state
// on; nothing for a process that is gone. See proc(5).
func readStat(path string) (name string, fields []string) {
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

// Sweep implements conformance.Lab.
func (l *Lab) Sweep(ctx context.Context, dir string) error {
	return endAll(ctx, dir+string(filepath.Separator))
}

// endAll kills every process whose command line has the text in it, and waits
// until they are gone.
func endAll(ctx context.Context, text string) error {
	for {
		found := processes(text)
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
func endProcess(ctx context.Context, p process) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)); err != nil || strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")) != p.args {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", p.pid, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(10*time.Millisecond/time.Millisecond))
		if n > 0 || err != nil && !errors.Is(err, syscall.EINTR) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("process %d does not end: %w", p.pid, ctx.Err())
		}
	}
}
