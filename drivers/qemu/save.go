//go:build linux

package qemu

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// OpSaveSnapshot is SaveSnapshot in errors and logs. It is an operation of this driver alone.
const OpSaveSnapshot = machinery.Op("save_snapshot")

// The files of a saved machine, in its directory. The snapshot has zstdSuffix behind its name if it is compressed.
const (
	savedDisk     = "disk.qcow2"
	savedSnapshot = "memory.snapshot"
	savedInfo     = "machineinfo.json"
	zstdSuffix    = ".zst"
)

// SaveOptions say how a machine is saved.
type SaveOptions struct {
	// Dir is the directory to make, in one that exists. There must be nothing at that path.
	Dir string
	// Paused saves a running machine so that a restore leaves it paused, until HandlePaused. One that stands already, because its
	// own snapshot was saved so, is saved paused in any case.
	Paused bool
	// Compress is how the memory is packed: "zstd", or "none", which is the default, also for "". Packed by zstd it takes a
	// fraction of the room, and longer to restore.
	Compress string
	// Progress, if not nil, is called now and then by the goroutine of SaveSnapshot.
	Progress func(SaveProgress)
}

// SaveProgress is how far SaveSnapshot is.
type SaveProgress struct {
	// Step is "memory", "disk" or "verify", in this order.
	Step string
	// Done of Total is complete: bytes for the memory, percent for the disk; Total is 0 where nothing can be said.
	Done, Total int64
}

// Saved is what SaveSnapshot made.
type Saved struct {
	// Dir is the directory, as an absolute path; Disk, Snapshot, Info and Manifest are the paths of the files in it.
	Dir      string `json:"dir"`
	Disk     string `json:"disk"`
	Snapshot string `json:"snapshot"`
	Info     string `json:"info"`
	Manifest string `json:"manifest"`
	// AllowArguments are those of the machine that was saved, without which the arguments are refused for the new one too.
	AllowArguments []string `json:"allow_arguments,omitempty"`
	// State is what the machine is after a restore: StateRunning or StatePaused.
	State machinery.State `json:"state"`
}

// SaveSnapshot saves a machine as it stands, memory and disk, as a new machine, and ends it: one that was booted by NoRestoreStart
// and has become what a snapshot is to be made of, or one that was restored. What it makes is a directory with the disk (a whole
// qcow2 image that needs no other), the memory, a machineinfo.json with the same arguments, and a manifest with the sums of all.
// It is there whole, and mode 0700, when it has been restored once from these files, in a runtime directory of its own, to the
// state that it is to have; else there is nothing. The machine's configured disk and snapshot are not touched.
//
// The guest runs on while the first part of its memory is written and stands still for the rest; State says paused. From the
// moment that the memory is complete the machine is stopping: its QEMU is ended so that its disk is at rest, and its
// disposable disk is merged with its base by qemu-img (Config.QEMUImg). The trial restore lets the guest run for some milliseconds.
//
// Errors: ErrConfig for a directory that cannot be made, or options that do not exist, or a machine with writable media besides its disk; ErrUnexpectedState for a machine that is off, starting,
// asleep, paused by somebody else or broken; ErrDependency without qemu-img; ErrHypervisor with QEMU's or qemu-img's own words, such
// as those for a full disk; ErrInterrupted if ctx ends or Stop is called. A failure before the memory is complete leaves the
// machine as it was, and one after that leaves it off.
func (d *Machinery) SaveSnapshot(ctx context.Context, name string, o SaveOptions) (Saved, error) {
	var saved Saved
	err := d.frame.Operate(ctx, OpSaveSnapshot, name, func(v *vm, ctx context.Context) (err error) {
		saved, err = v.save(ctx, o)
		return err
	})
	return saved, err
}

// saving is one call of SaveSnapshot.
type saving struct {
	v    *vm
	o    SaveOptions
	dir  string // what is made
	part string // the directory in which it is made
	was  machinery.Status
	// version is that of the machine's QEMU.
	version string
}

// save is SaveSnapshot for whoever has the turn.
func (v *vm) save(ctx context.Context, o SaveOptions) (_ Saved, err error) {
	s := &saving{v: v, o: o}
	status, leave, err := v.takeOver(ctx, OpSaveSnapshot)
	if err != nil {
		return Saved{}, err
	}
	defer func() { leave(err) }()
	s.was = status
	standing := status.State == machinery.StatePaused && status.Reason == reasonFromSnapshot
	switch {
	case status.Reason == reasonNoAnswer:
		return Saved{}, v.wrongState(OpSaveSnapshot, machinery.ErrConnection, status, "the machine cannot be saved: it is in state %s")
	case v.run == nil || status.State != machinery.StateRunning && !standing:
		return Saved{}, v.wrongState(OpSaveSnapshot, machinery.ErrUnexpectedState, status, "the machine is %s; only one that runs, or stands as it was restored, can be saved")
	}
	if media := len(v.run.ledger.Overlays) - 1; media > 0 {
		return Saved{}, s.fail(machinery.ErrConfig, nil, "the machine cannot be saved: it has %d other media that its guest can write to (%s), and only its disk would be merged; "+
			"leave them out of its arguments, or give them readonly=on", media, strings.Join(v.disks()[1:], ", "))
	}
	if found, ok := v.runningVersion(); ok {
		s.version = found.String()
	}
	r := v.run
	if err := s.prepare(r); err != nil {
		return Saved{}, err
	}
	defer func() {
		_ = os.RemoveAll(s.part)
		s.note(r, func(l *ledger) { l.Saving = nil })
	}()
	if err := s.memory(ctx, r); err != nil {
		return Saved{}, err
	}
	return s.complete(ctx, r)
}

// note writes the ledger, which is worth a try even where it cannot be written.
func (s *saving) note(r *run, change func(*ledger)) {
	if err := r.note(change); err != nil {
		s.v.log.Debug("the machine's ledger does not tell how far its saving is", "error", err)
	}
}

// complete makes the rest of what is saved, when the memory is. The machine is off afterwards in any case. What belongs to its run is
// cleared last, because the ledger tells of what is not complete yet.
func (s *saving) complete(ctx context.Context, r *run) (saved Saved, err error) {
	v := s.v
	v.set(func() { v.doing = phaseStopping })
	defer v.set(func() { v.doing = "" })
	s.note(r, func(l *ledger) { l.Phase = phaseStopping })
	// Its disks are at rest since its memory is complete, so that even a QEMU that is killed takes nothing with it.
	if !r.quit(context.WithoutCancel(ctx)) {
		r.proc.Kill()
	}
	if !r.proc.Wait(cleanupTime) {
		return Saved{}, s.fail(machinery.ErrHypervisor, nil, "QEMU (process %d) does not end even when it is killed", r.proc.PID)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(s.part) // while the ledger tells of it
		}
		left := v.clear(r)
		v.set(func() { v.run, v.last = nil, "" })
		if left != nil && err == nil {
			err = s.fail(machinery.ErrHypervisor, left, "the machine was saved and is off, but something of its run could not be removed")
		}
	}()
	if err := s.disk(ctx, r); err != nil {
		return Saved{}, err
	}
	return s.finish(ctx, r)
}

// fail is an error of this saving.
func (s *saving) fail(kind, err error, format string, args ...any) error {
	return fault.Fail(OpSaveSnapshot, s.v.machine.Name, kind, err, format, args...)
}

// progress tells how far it is.
func (s *saving) progress(step string, done, total int64) {
	if s.o.Progress != nil {
		s.o.Progress(SaveProgress{step, done, total})
	}
}

// prepare checks what is asked for, and makes the directory beside the one that is to be.
func (s *saving) prepare(r *run) (err error) {
	switch s.o.Compress {
	case "", "none", "zstd":
	default:
		return s.fail(machinery.ErrConfig, nil, "memory cannot be packed by %q; there are none, zstd", s.o.Compress)
	}
	if s.o.Dir == "" {
		return s.fail(machinery.ErrConfig, nil, "no directory is given for the snapshot")
	}
	if err := hostfile.CheckProgram(s.v.d.config.QEMUImg); err != nil {
		return s.fail(machinery.ErrDependency, err, "the machine's disk is merged by qemu-img, which cannot be used")
	}
	if s.dir, err = filepath.Abs(s.o.Dir); err == nil {
		if _, there := os.Lstat(s.dir); there == nil {
			err = &os.PathError{Op: "create", Path: s.dir, Err: unix.EEXIST}
		}
	}
	if err == nil {
		parent, name := filepath.Split(s.dir)
		s.part = filepath.Join(parent, "."+outfile.Shortened(name)+"."+rand.Text()+".part")
		// The ledger goes first, so that there is no moment at which the directory is nobody's.
		s.note(r, func(l *ledger) { l.Saving = []string{s.part} })
		if err = os.Mkdir(s.part, 0o700); err != nil {
			s.note(r, func(l *ledger) { l.Saving = nil })
		}
	}
	if err != nil {
		return s.fail(machinery.ErrConfig, err, "no snapshot can be made in %s", s.o.Dir)
	}
	return nil
}

// snapshotName is the name of the file with the memory.
func (s *saving) snapshotName() string {
	if s.o.Compress == "zstd" {
		return savedSnapshot + zstdSuffix
	}
	return savedSnapshot
}

// finish writes what else belongs to the machine, tries it, and gives it its name.
func (s *saving) finish(ctx context.Context, r *run) (Saved, error) {
	v := s.v
	unfinished := func(err error) error {
		if ctx.Err() != nil {
			return fault.Interrupted(OpSaveSnapshot, v.machine.Name, ctx, "completing the files of what was saved; the machine is off")
		}
		return s.fail(machinery.ErrHypervisor, err, "the machine was saved and is off, and the files of what was saved cannot be completed")
	}
	if err := s.writeInfo(); err != nil {
		return Saved{}, unfinished(err)
	}
	manifest, err := s.writeManifest(ctx)
	if err != nil {
		return Saved{}, unfinished(err)
	}
	s.progress("verify", 0, 0)
	state, err := s.try(ctx, r)
	if ctx.Err() != nil {
		return Saved{}, fault.Interrupted(OpSaveSnapshot, v.machine.Name, ctx, "trying to restore what was saved; the machine is off")
	}
	if err != nil {
		return Saved{}, s.fail(machinery.ErrHypervisor, err, "the machine was saved and is off, but cannot be restored from that")
	}
	if err := s.publish(); err != nil {
		return Saved{}, unfinished(err)
	}
	at := func(name string) string { return filepath.Join(s.dir, name) }
	return Saved{Dir: s.dir, Disk: at(savedDisk), Snapshot: at(s.snapshotName()), Info: at(savedInfo), Manifest: at(manifest), AllowArguments: v.conf.AllowArguments, State: state}, nil
}

// publish makes the files durable and gives the directory its name, unless something has it.
func (s *saving) publish() error {
	entries, err := os.ReadDir(s.part)
	if err != nil {
		return err
	}
	paths := []string{s.part}
	for _, e := range entries {
		paths = append(paths, filepath.Join(s.part, e.Name()))
	}
	for _, path := range paths {
		if err := syncPath(path); err != nil {
			return err
		}
	}
	err = unix.Renameat2(unix.AT_FDCWD, s.part, unix.AT_FDCWD, s.dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// This file system has no such rename. The usual one replaces nothing but an empty directory.
		err = unix.Rename(s.part, s.dir)
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: s.dir, Err: err}
	}
	// The name is made durable too. It is there in any case, so that a failure is none of the files'.
	_ = syncPath(filepath.Dir(s.dir))
	return nil
}

// syncPath writes a file or directory to disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// tryTime is how long the trial restore may take to be stopped again.
const tryTime = 30 * time.Second

// try restores what was saved, as another driver with nothing but these files would, and says what it is then.
func (s *saving) try(ctx context.Context, r *run) (state machinery.State, err error) {
	v := s.v
	dir := filepath.Join("/tmp", "mms-"+rand.Text()) // not $TMPDIR, for the path of a socket may have 107 bytes
	s.note(r, func(l *ledger) { l.Saving = []string{s.part, dir} })
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	c, m := v.d.config, v.conf
	m.Disk, m.Snapshot, m.Args = filepath.Join(s.part, savedDisk), filepath.Join(s.part, s.snapshotName()), v.args.args
	m.problem, m.unsaved = nil, nil
	c.Machines, c.file, c.RuntimeDir, c.DisposableDir = []MachineConfig{m}, "", dir, s.part
	d, err := New(ctx, c, machinery.Options{Logger: v.d.log.With("trial", s.dir), EndMachines: true})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	name := v.machine.Name
	if err := d.RestoreStart(ctx, name); err != nil {
		return "", err
	}
	status, err := d.State(ctx, name)
	want := machinery.StateRunning
	if s.o.Paused || s.was.State == machinery.StatePaused {
		want = machinery.StatePaused
	}
	if err == nil && status.State != want {
		err = fmt.Errorf("it is %s instead of %s: %s", status, want, strings.TrimSpace(status.Detail))
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTime)
	defer cancel()
	if stopErr := d.Stop(stopping, name); stopErr != nil && !errors.Is(stopErr, machinery.ErrStateReached) {
		err = errors.Join(err, stopErr)
	}
	return status.State, err
}
