//go:build linux

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/hostfile"
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
	// Identity is that of its QEMU. The path of the disposable disk is among the arguments, so there is no other with those.
	process.Identity
	// Saving are the directories of a SaveSnapshot that is going on: the hidden one of what it makes, and that of its trial.
	Saving []string `json:"saving,omitempty"`
	// Overlays are the paths of the disposable disks, that of the machine's disk first.
	Overlays []string `json:"overlays"`
	// Capture is the recording of the machine's traffic; nil for none.
	Capture *capture.Recording `json:"capture,omitempty"`

	// lost is why the capture is not as it should be, once clear has finished it.
	lost error
}

const ledgerVersion = 1

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
	f, err := hostfile.OpenRegular(path)
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

// process finds the QEMU that the ledger speaks of. It returns os.ErrProcessDone if that has ended, or never was. Until it is the started
// program it has its driver's lock on the machine, which nobody else can take (flock is the file's, not the process's), so that
// nobody looks too early.
func (l *ledger) process() (*process.Process, error) { return l.Find() }

// clear removes what a dead QEMU has left, and finishes its capture.
func (l *ledger) clear() error {
	if l.Capture != nil {
		l.lost = l.Capture.Finish(false)
	}
	if err := l.clearSaving(); err != nil {
		return err
	}
	// What is in use is not a dead QEMU's, unless that is only about to be dead.
	for deadline := time.Now().Add(exitTime); slices.ContainsFunc(l.Overlays, disposable.InUse); {
		if time.Now().After(deadline) {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // there is no sign of a lock's end for who does not want the lock
	}
	if err := disposable.RemoveAll(l.Overlays); err != nil {
		return fmt.Errorf("the disposable disks of an earlier run cannot be removed: %w", err)
	}
	return nil
}
