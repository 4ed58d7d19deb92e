//go:build linux

package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/rundir"
)

// phase is what a driver is doing with a machine that is not off.
type phase string

const (
	phaseSettled  phase = "settled" // nothing: the machine runs or stands still
	phaseStarting phase = "starting"
	phaseStopping phase = "stopping"
	phaseDumping  phase = "dumping"   // the machine stands still, or did before, while its memory is written to a file
	phaseDumpLeft phase = "dump left" // no driver waits for the dump that QEMU is at: it was given up, or its driver died
	phaseSaving   phase = "saving"    // its memory is written, to be restored from; then it is ended
)

// ledger is what another process has to know of a running machine, as state.json in its runtime directory.
type ledger struct {
	Version int    `json:"version"`
	Machine string `json:"machine"`
	// Owner is the process whose driver wrote this last.
	Owner int   `json:"owner"`
	Phase phase `json:"phase"`
	// Booted is set for a machine that was started without its snapshot.
	Booted bool `json:"booted,omitempty"`
	// Standing is the run state that the machine has from its snapshot and does not leave by itself, such as "paused"; empty if it
	// runs or was resumed since.
	Standing string `json:"standing,omitempty"`
	// Full is the disk, by QEMU's name for it, that has come to the quota, and for which the machine was paused; empty if none has.
	Full string `json:"full,omitempty"`
	// PID is 0 from before QEMU is started until that is noted. Start is its start time in clock ticks after the boot.
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
	// Args is how many arguments QEMU was given, and Digest the sha256 of them, each with a NUL behind it.
	Args   int    `json:"args"`
	Digest string `json:"digest"`
	// Saving are the directories of a SaveSnapshot that is going on: the hidden one of what it makes, and that of its trial.
	Saving []string `json:"saving,omitempty"`
	// Overlays are the paths of the disposable disks, that of the machine's disk first.
	Overlays []string `json:"overlays"`
	// Capture is the recording of the machine's traffic; nil for none.
	Capture *captured `json:"capture,omitempty"`

	// lost is why the capture is not as it should be, once clear has finished it.
	lost error
}

const ledgerVersion = 1

// digest is what a ledger has of a command line.
func digest(args []string) string {
	h := sha256.New()
	for _, arg := range args {
		_, _ = io.WriteString(h, arg+"\x00")
	}
	return hex.EncodeToString(h.Sum(nil))
}

// write replaces the ledger, at once or not at all. It is not made durable: a boot ends what it speaks of.
func (h *hold) write(l ledger) error {
	l.Version, l.Owner = ledgerVersion, os.Getpid()
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := h.Dir.WriteFile(stateFile+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the ledger of the machine cannot be written: %w", err)
	}
	if err := h.Dir.Rename(stateFile+".new", stateFile); err != nil {
		return fmt.Errorf("the ledger of the machine cannot be written: %w", err)
	}
	return nil
}

// readLedger reads the ledger in a runtime directory; nil if there is none.
func readLedger(dir string) (*ledger, error) {
	path := filepath.Join(dir, stateFile)
	if err := rundir.CheckPrivate(dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	f, err := openRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &ledger{}
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(l); err != nil {
		return nil, fmt.Errorf("%s cannot be understood: %w", path, err)
	}
	if l.Version != ledgerVersion {
		return nil, fmt.Errorf("%s has version %d, and this driver knows %d: another version of it runs here", path, l.Version, ledgerVersion)
	}
	return l, nil
}

// process finds the QEMU that the ledger speaks of. It returns os.ErrProcessDone if that has ended, or never was.
func (l *ledger) process() (*process.Process, error) {
	boot, err := process.BootID()
	if err != nil {
		return nil, err
	}
	if l.Boot != boot {
		return nil, os.ErrProcessDone
	}
	if l.PID == 0 {
		return l.search()
	}
	p, err := process.Attach(l.PID, l.Start)
	if errors.Is(err, os.ErrProcessDone) {
		return l.search() // a wrapper may have ended that did not become QEMU but started it
	}
	if err != nil {
		return nil, err
	}
	command := process.CommandLine(l.PID)
	if len(command) == 0 && !p.Wait(exitTime) {
		return p, nil // it is ending: its memory is gone already, and its locks are not
	}
	if !l.matches(command) {
		p.Release()
		return l.search()
	}
	return p, nil
}

// search looks for the QEMU of a driver that died between starting it and noting its id, or whose id is not the noted one. The path
// of the disposable disk is among its arguments, so there is no other one like it. Between fork and exec it cannot be found; until
// then it has its driver's lock on the machine, which nobody else can take (flock is the file's, not the process's).
func (l *ledger) search() (*process.Process, error) {
	for _, pid := range process.Processes() {
		if pid == os.Getpid() || !process.Ours(pid) || !l.matches(process.CommandLine(pid)) {
			continue
		}
		start, err := process.StartTime(pid)
		if err != nil {
			continue
		}
		if p, err := process.Attach(pid, start); err == nil {
			return p, nil
		}
	}
	return nil, os.ErrProcessDone
}

// matches is whether a process has the arguments of the ledger's QEMU. The name before them may differ: a script that was
// started as QEMU may have become the real one.
func (l *ledger) matches(command []string) bool {
	if l.Args == 0 || len(command) <= l.Args {
		return false
	}
	return digest(command[len(command)-l.Args:]) == l.Digest
}

// clear removes what a dead QEMU has left, and finishes its capture.
func (l *ledger) clear() error {
	if l.Capture != nil {
		l.lost = l.Capture.finish(false)
	}
	if err := l.clearSaving(); err != nil {
		return err
	}
	// What is in use is not a dead QEMU's, unless that is only about to be dead.
	for deadline := time.Now().Add(exitTime); slices.ContainsFunc(l.Overlays, imageInUse); {
		if time.Now().After(deadline) {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // there is no sign of a lock's end for who does not want the lock
	}
	if err := removeOverlays(l.Overlays); err != nil {
		return fmt.Errorf("the disposable disks of an earlier run cannot be removed: %w", err)
	}
	return nil
}
