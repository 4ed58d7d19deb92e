//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/internal/vmstate"
	"github.com/machineries/machineries/machinery"
)

// Why a load was given up; causes of its context.
var (
	errProcessGone = errors.New("QEMU ended")
	errFeed        = errors.New("the snapshot cannot be unpacked")
	errLoadTimeout = errors.New("the time for loading the snapshot is over")
)

// The descriptors that QEMU inherits besides its standard ones, in this order from 3 on.
const (
	qmpFD = 3 + iota
	readFD
	snapshotFD
)

// restore is RestoreStart for whoever has the turn.
func (v *vm) restore(ctx context.Context) error { return v.begin(ctx, machinery.OpRestoreStart) }

// begin starts the machine, from its snapshot or, for NoRestoreStart, by booting it.
func (v *vm) begin(ctx context.Context, op machinery.Op) error {
	if r := v.run; r != nil {
		if !r.proc.Over() {
			if err := v.notOff(ctx, op); err != nil {
				return err
			}
		}
		v.wentOff(r)
	}
	var h *hold
	for {
		claimed, p, _, err := v.claim(op)
		if err != nil {
			return err
		}
		if h = claimed; p == nil {
			break
		}
		p.Release()
		h.Unlock()
		// A QEMU whose driver died while it loaded may end in this very moment, for want of the rest of the snapshot.
		if err := v.notOff(ctx, op); err != nil {
			return err
		}
	}
	v.set(func() {
		v.doing, v.booting, v.failed, v.last = phaseStarting, op == machinery.OpNoRestoreStart, nil, ""
	})
	r, err := v.start(ctx, h, op)
	if err != nil {
		stopped := errors.Is(context.Cause(ctx), turns.ErrStopped)
		v.set(func() {
			v.doing = ""
			if !stopped {
				v.failed = err
			}
		})
		return err
	}
	v.set(func() { v.run, v.doing = r, "" })
	v.d.frame.Go(func() { v.watch(r) })
	return nil
}

// notOff is the error for a machine that has to be off and is not; nil if it has gone off meanwhile.
func (v *vm) notOff(ctx context.Context, op machinery.Op) error {
	status, err := v.state(ctx)
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrUnexpectedState, err, "the machine is not off")
	}
	if status.State == machinery.StatePoweroff || status.Reason == reasonStartFailed || status.Reason == reasonConfig {
		return nil
	}
	e := fault.Fail(op, v.machine.Name, machinery.ErrUnexpectedState, nil, "the machine has to be off, but it is %s; stop it first", status)
	e.Status = status
	return e
}

// start starts QEMU and waits until the machine has settled. If that fails nothing is left, not even the hold.
func (v *vm) start(ctx context.Context, h *hold, op machinery.Op) (*run, error) {
	booted := op == machinery.OpNoRestoreStart
	r := newRun(v, h, ledger{Machine: v.machine.Name, Phase: phaseStarting, Booted: booted, Overlays: v.overlays})
	asked := v.armed
	v.armed, v.lost = nil, nil
	feed, err := v.launch(ctx, r, op, asked)
	switch {
	case err != nil:
	case booted:
		err = r.boot(ctx)
	default:
		err = r.load(ctx, feed)
	}
	if feed != nil {
		feed.end()
	}
	for _, f := range r.overlays {
		defer disposable.Release(f) // QEMU has its own locks on it now, or it is gone
	}
	if err == nil {
		if c := r.ledger.Capture; c != nil {
			v.d.frame.Go(func() { r.boundCapture(c) })
		}
		return r, nil
	}
	err = r.startedWith(err)
	if left := v.abandon(r); left != nil {
		if e, is := errors.AsType[*machinery.Error](err); is {
			e.Err = errors.Join(e.Err, left)
		}
	}
	return nil, err
}

// launch prepares what QEMU needs and starts it, with the capture that was asked for, or nil. The feed is nil for a machine that
// boots.
func (v *vm) launch(ctx context.Context, r *run, op machinery.Op, asked *capture.Armed) (*feed, error) {
	refuse := func(kind error, err error, format string, args ...any) error {
		return fault.Fail(op, v.machine.Name, kind, err, format, args...)
	}
	bases, err := v.below()
	if err != nil {
		return nil, refuse(machinery.ErrConfig, err, "the machine cannot be started")
	}
	var feed *feed
	args := v.commandLine()
	for _, base := range bases {
		if err := disposable.RefuseWritten(base.Path); err != nil {
			kind := machinery.ErrHypervisor
			if op == machinery.OpNoRestoreStart {
				kind = machinery.ErrBusy
			}
			return nil, refuse(kind, err, "the machine's disk cannot be used now")
		}
	}
	if op != machinery.OpNoRestoreStart {
		if err := v.checkBases(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, fault.Interrupted(op, v.machine.Name, ctx, "comparing the machine's files with their manifest")
			}
			return nil, refuse(machinery.ErrConfig, err, "the machine cannot be restored")
		}
		if feed, err = newFeed(v.conf.Snapshot); err != nil {
			return nil, refuse(machinery.ErrConfig, err, "the machine's snapshot cannot be used")
		}
		args = append(args, incoming()...)
	}
	args, capture, err := v.captureFromStart(asked, args, op)
	if err != nil {
		return feed, err
	}
	boot, err := process.BootID()
	if err != nil {
		return feed, refuse(machinery.ErrDependency, err, "the host's boot cannot be told from others")
	}
	// The ledger goes first: whatever ends this process, the next one finds what is to be cleared.
	err = r.note(func(l *ledger) { l.Boot, l.Args, l.Digest, l.Capture = boot, len(args), process.Digest(args), capture })
	if err != nil {
		return feed, refuse(machinery.ErrHypervisor, err, "the machine cannot be started")
	}
	for i, base := range bases {
		f, err := disposable.Make(v.overlays[i], base)
		if err != nil {
			return feed, refuse(machinery.ErrHypervisor, err, "no disposable disk can be made for the machine")
		}
		r.overlays, r.made = append(r.overlays, f), append(r.made, v.overlays[i])
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, name := range []string{qmpSocket, readSocket} {
		f, err := r.hold.socket(name)
		if err != nil {
			return feed, refuse(machinery.ErrHypervisor, err, "the machine's monitor cannot be prepared")
		}
		files = append(files, f)
	}
	if feed != nil {
		files = append(files, feed.file)
	}
	recorded, err := r.beginCapture(ctx, asked, op)
	files = append(files, recorded...)
	if err != nil {
		return feed, err
	}
	r.proc, err = process.Spawning{Path: v.d.config.QEMU, Args: args, Files: files, By: v.d.starter, Quota: v.d.config.FileQuota}.Do()
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && fileThere(v.d.config.QEMU) {
			return feed, refuse(machinery.ErrHypervisor, err, "QEMU cannot be started: %s is there, but the interpreter that its first line names, or the loader that it needs, does not exist", v.d.config.QEMU)
		}
		return feed, refuse(machinery.ErrHypervisor, err, "QEMU cannot be started")
	}
	v.log.Debug("QEMU started", "pid", r.proc.PID)
	err = r.note(func(l *ledger) { l.PID, l.Start = r.proc.PID, r.proc.Start })
	if err != nil {
		return feed, refuse(machinery.ErrHypervisor, err, "the machine cannot be started")
	}
	return feed, nil
}

// incoming is the arguments with which QEMU loads the snapshot that it inherits, and tells of it.
func incoming() []string {
	return []string{"-global", "migration.x-events=on", "-incoming", fmt.Sprintf("fd:%d", snapshotFD)}
}

// commandLine is the arguments that QEMU is started with, however it starts: the machine's own and those of the driver.
func (v *vm) commandLine() []string {
	args := append(v.args.with(v.overlays[0], v.overlays[1:]...), v.sandbox...)
	for _, m := range []struct {
		id string
		fd int
	}{{qmpID, qmpFD}, {readID, readFD}} {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=%s,fd=%d,server=on,wait=off", m.id, m.fd),
			"-mon", fmt.Sprintf("chardev=%s,mode=control", m.id))
	}
	return args
}

// load waits until QEMU has loaded the snapshot, and notes how the machine stands then.
func (r *run) load(outer context.Context, f *feed) error {
	timed, cancelTimed := context.WithTimeoutCause(outer, r.v.d.config.LoadTimeout, errLoadTimeout)
	defer cancelTimed()
	ctx, cancel := context.WithCancelCause(timed)
	defer cancel(nil)
	go func() {
		unpacked := f.done
		for {
			select {
			case <-r.proc.Gone:
				cancel(errProcessGone)
				return
			case <-unpacked:
				if f.err != nil {
					cancel(errFeed)
					return
				}
				unpacked = nil
			case <-ctx.Done():
				return
			}
		}
	}()
	state, err := r.loaded(ctx)
	if err == nil {
		// The checksum of what is packed comes last, after all that QEMU needs.
		select {
		case <-f.done:
			if f.err != nil {
				err = errFeed
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	standing := ""
	if err == nil {
		standing, err = settledAs(state)
	}
	if err != nil {
		return r.loadError(outer, ctx, f, err)
	}
	if standing != "" {
		said := r.proc.Tail()
		if why := r.v.inactive(r.ledger.Overlays, said); why != "" {
			return fault.Fail(machinery.OpRestoreStart, r.v.machine.Name, machinery.ErrHypervisor, fault.Words(said),
				"QEMU has loaded the snapshot %s and cannot take the machine's disks into use, %s above %s: %s", r.v.conf.Snapshot, strings.Join(r.ledger.Overlays, ", "), r.v.conf.Disk, why)
		}
	}
	if err := r.note(func(l *ledger) { l.Phase, l.Standing = phaseSettled, standing }); err != nil {
		return fault.Fail(machinery.OpRestoreStart, r.v.machine.Name, machinery.ErrHypervisor, err, "the machine was restored and is ended again")
	}
	return nil
}

// loaded waits for the end of the load, and returns the run state after it.
func (r *run) loaded(ctx context.Context) (string, error) {
	m, err := r.master(ctx)
	if err != nil {
		return "", err
	}
	state, err := queryStatus(ctx, m)
	if err != nil || state != "inmigrate" {
		// What was loaded before the connection was negotiated has sent its event to nobody.
		return state, err
	}
	select {
	case word := <-r.migration:
		if word != "completed" {
			// QEMU says why on its standard error and ends, which ends ctx.
			select {
			case <-ctx.Done():
			case <-time.After(cleanupTime):
			}
			return "", errors.New("QEMU says that the load failed, and does not end")
		}
	case <-m.Done():
		return "", m.Err()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return queryStatus(ctx, m)
}

// loadError says why the snapshot was not loaded. outer is the operation's context, ctx that of the load.
func (r *run) loadError(outer, ctx context.Context, f *feed, err error) error {
	name, path := r.v.machine.Name, r.v.conf.Snapshot
	failed := func(err error, format string, args ...any) error {
		return fault.Fail(machinery.OpRestoreStart, name, machinery.ErrHypervisor, err, format, args...)
	}
	if outer.Err() != nil {
		e := fault.Interrupted(machinery.OpRestoreStart, name, outer, "loading the snapshot "+path)
		if said := fault.Words(r.proc.Tail()); said != nil && errors.Is(outer.Err(), context.DeadlineExceeded) {
			e.Err = fault.Join([]error{e.Err, fmt.Errorf("QEMU's last words: %w", said)})
		}
		return e
	}
	select {
	case <-f.done:
		if f.err != nil {
			return failed(f.err, "the snapshot %s cannot be loaded", path)
		}
	default:
	}
	if errors.Is(context.Cause(ctx), errLoadTimeout) {
		return failed(fault.Words(r.proc.Tail()), "QEMU had not loaded the snapshot %s after %v and was ended", path, r.v.d.config.LoadTimeout)
	}
	// A connection that QEMU closed is most often a process that ends.
	if r.proc.Wait(time.Second) {
		said := r.v.withoutSandbox(fault.Words(r.proc.Tail()))
		if said == nil {
			said = errors.New("it said nothing")
		}
		return failed(said, "QEMU (%s) ended (%v) while it loaded the snapshot %s%s", r.v.d.config.QEMU, r.howEnded(), path, unwhole(path))
	}
	return failed(err, "QEMU did not load the snapshot %s%s", path, unwhole(path))
}

// unwhole is what can be seen quickly of why a snapshot is not whole, as a sentence about it goes on; empty if it seems to be. What
// QEMU says of one that is cut short is a riddle.
func unwhole(path string) string {
	f, _, err := openSnapshot(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := vmstate.Examine(context.Background(), f, true); err != nil {
		return ", which " + err.Error()
	}
	return ""
}

// abandon ends a QEMU whose start failed, and removes what there is of the run.
func (v *vm) abandon(r *run) error {
	if r.proc != nil {
		r.proc.Kill()
		if !r.proc.Wait(cleanupTime) {
			// It keeps its files, and the lock with it, so that Stop can try again.
			v.set(func() { v.run = r })
			v.d.frame.Go(func() { v.watch(r) })
			return fmt.Errorf("its process %d does not end even when it is killed", r.proc.PID)
		}
		r.let()
	}
	r.dropCapture()
	err := disposable.RemoveAll(r.made) // what this start has not made belongs to somebody else
	if err = errors.Join(err, r.hold.remove()); err != nil {
		return fmt.Errorf("something of it could not be removed: %w", err)
	}
	return nil
}

func fileThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// overlayPath is where a machine's disposable disk is.
func overlayPath(dir, disk, name, key string) string {
	if dir == "" {
		dir = filepath.Dir(disk)
	}
	return filepath.Join(dir, disposable.Name(name, key))
}
