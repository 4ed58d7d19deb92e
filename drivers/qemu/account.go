//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

var _ machinery.Accountant = (*Machinery)(nil)

// keyed is what the runtime directory of a machine is called.
var keyed = regexp.MustCompile(fmt.Sprintf("^[0-9a-f]{%d}$", rundir.KeyLength))

// Account tells of every runtime directory of a machine below this driver's, also of machines that are not in its configuration
// (any more), and of the disposable disks of its own machines that no run has. What is not this driver's by its name or by a ledger
// is not listed. It takes two seconds at most for each QEMU that does not answer.
func (d *Machinery) Account(ctx context.Context) ([]machinery.Run, error) {
	if err := d.frame.Begin(ctx, machinery.OpAccount); err != nil {
		return nil, err
	}
	var runs []machinery.Run
	seen := map[string]bool{}
	entries, err := os.ReadDir(d.runtimeDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // without the directory nothing runs, and disks may be left all the same
		return nil, fault.Fail(machinery.OpAccount, "", machinery.ErrHypervisor, err, "the runtime directory cannot be read")
	}
	for _, v := range d.frame.All() {
		if run, there := d.accountOf(ctx, v, true); there {
			runs = append(runs, run)
		}
		seen[v.dir] = true
	}
	for _, entry := range entries {
		dir := filepath.Join(d.runtimeDir, entry.Name())
		if !keyed.MatchString(entry.Name()) || seen[dir] {
			continue
		}
		if run, there := d.accountOf(ctx, d.foundVM(dir), false); there {
			runs = append(runs, run)
		}
	}
	if ctx.Err() != nil {
		return nil, fault.Interrupted(machinery.OpAccount, "", ctx, "looking at what runs")
	}
	return runs, nil
}

// foundVM is the machine of a runtime directory that none in the configuration has. It can be looked at, taken over and stopped.
func (d *Machinery) foundVM(dir string) *vm {
	v := &vm{d: d, dir: dir, log: d.log.With("run", filepath.Base(dir)), reading: make(chan struct{}, 1)}
	if l, err := readLedger(dir); err == nil && l != nil {
		v.machine.Name = l.Machine
	}
	return v
}

// accountOf is what there is of a machine; false if there is nothing.
func (d *Machinery) accountOf(ctx context.Context, v *vm, configured bool) (run machinery.Run, there bool) {
	run = machinery.Run{ID: filepath.Base(v.dir), Machine: v.machine.Name, Configured: configured,
		Status: machinery.Status{State: machinery.StatePoweroff}}
	info, err := os.Lstat(v.dir)
	there = err == nil
	if !there {
		if orphans, why := v.orphans(); len(orphans) > 0 {
			run.Left, run.Files, run.Problem = "a disposable disk of which no run tells", orphans, why
			if info, err := os.Lstat(orphans[0]); err == nil {
				run.Since = info.ModTime()
			}
			return run, true
		}
		return run, false
	}
	run.Since = info.ModTime()
	run.Owner, run.Held = rundir.Held(v.dir)
	l, err := readLedger(v.dir)
	switch {
	case err != nil:
		run.Status = machinery.Status{State: machinery.StateError, Reason: "unreadable ledger", Detail: err.Error()}
		if run.Held {
			return run, true
		}
		run.Left, run.Files, run.Problem = "its ledger cannot be understood", []string{v.dir}, whyNotOurs(v.dir)
		return run, true
	case l == nil && run.Held:
		run.Status = machinery.Status{State: machinery.StateStarting}
		return run, true
	case l == nil:
		run.Left, run.Files = "its driver ended before it started anything", []string{v.dir}
		return run, true
	}
	run.Files = append(l.files(), v.dir)
	if !run.Held {
		run.Owner = l.Owner
	}
	if status, err := v.state(ctx); err == nil {
		run.Status = status
	} else {
		run.Status = machinery.Status{State: machinery.StateError, Reason: "not known", Detail: err.Error()}
	}
	p, err := l.process()
	if err == nil {
		run.PID, run.Since = p.PID, startedAt(p.Start)
		p.Release()
		return run, true
	}
	if written, err := os.Lstat(filepath.Join(v.dir, stateFile)); err == nil {
		run.Since = written.ModTime()
	}
	switch boot, _ := process.BootID(); {
	case run.Held: // it is being started, or cleared up
	case !errors.Is(err, os.ErrProcessDone):
		run.Problem = fmt.Sprintf("it cannot be told whether its QEMU runs: %v", err)
	case l.Boot != boot:
		run.Left = "it is from before the host was booted"
	case l.PID == 0:
		run.Left = "its driver ended before QEMU was started"
	default:
		run.Left = fmt.Sprintf("its QEMU (process %d) has ended", l.PID)
	}
	return run, true
}

// files are the paths outside of the runtime directory that belong to the run and are removed with it, as far as they are there.
func (l *ledger) files() []string {
	there := present(l.Overlays)
	if l.Capture != nil {
		there = append(there, present(l.Capture.Raw)...)
	}
	there = append(there, present(l.Saving)...)
	return there
}

// present are those of the paths at which there is something.
func present(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return path == "" || !hostfile.IsThere(path) })
}

// orphans are the disposable disks of a machine without a runtime directory, and why they may not be removed, or nothing. They may
// be in use under another runtime directory, by a QEMU that was told to take no locks.
func (v *vm) orphans() (paths []string, why string) {
	paths = present(v.overlays)
	for _, path := range paths {
		if disposable.InUse(path) {
			return paths, path + " is used by a QEMU or a driver that this one does not know"
		}
		for _, pid := range process.Processes() {
			for _, arg := range process.CommandLine(pid) {
				if pid != os.Getpid() && strings.Contains(arg, path) {
					return paths, fmt.Sprintf("process %d has %s on its command line", pid, path)
				}
			}
		}
	}
	return paths, ""
}

// whyNotOurs says why a runtime directory whose ledger cannot be understood is not to be removed; empty if nothing speaks against
// it. A QEMU that runs listens on the sockets in it for as long as it lives, whatever has become of their files.
func whyNotOurs(dir string) string {
	if err := rundir.CheckPrivate(dir); err != nil {
		return err.Error()
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return fmt.Sprintf("it cannot be told whether anything listens on its sockets: %v", err)
	}
	for line := range strings.Lines(string(sockets)) {
		if strings.Contains(line, " "+dir+"/") {
			return "a QEMU still listens on its sockets, and nothing tells which; end that one first"
		}
	}
	return ""
}

// startedAt is when a process started that did so at this many clock ticks after the boot. Linux counts a hundred to the second
// wherever it tells them to programs.
func startedAt(ticks uint64) time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	age := time.Duration(up.Nano()) - time.Duration(ticks)*(time.Second/100)
	return time.Now().Add(-age).Round(time.Second / 100)
}
