//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/machinery"
)

// The ways in which Config.Capture can have traffic recorded.
const (
	// CaptureFilterDump is QEMU's own filter-dump on each of the machine's network backends. It needs no rights and no address, and holds
	// all that goes to the machine and comes from it.
	CaptureFilterDump = "filter-dump"
	// CaptureTcpdump is tcpdump on the machine's interface, for all that goes to and comes from its address. It needs the right to
	// capture there (root, or tcpdump with the capabilities CAP_NET_RAW and CAP_NET_ADMIN), and works where filter-dump does not,
	// as with vhost.
	CaptureTcpdump = "tcpdump"
)

// DefaultCaptureBytes is the bound of a capture that names none: 1 GiB.
const DefaultCaptureBytes = capture.DefaultBytes

// StartCapture records what goes over the machine's network to a pcap file at c.Path, in the way that Config.Capture says. On a machine
// that is off it is armed for the next start, which uses it up, whether it succeeds or not; the first frame of that run is in
// it. An armed capture is this driver's alone, and is gone when it is closed. One that is under way goes on after Close, and the
// next driver that takes the machine over ends it.
//
// The file appears when the capture has ended, with mode 0600: whole, and by the time Stop or StopCapture returns. Until then what
// is recorded is in hidden files in the same directory, which needs room for it twice, if there is that much, for as long as it takes to leave
// out what c.Exclude says. It is written even if nothing was recorded. Traffic of several cards is in one file, by time. Seen on QEMU 7.2.22: after
// a restore QEMU announces the machine by reverse ARP, up to five times, which is in it too.
//
// The bound counts what is recorded, with filter-dump what is to be left out as well. It is looked at every second while a driver
// holds the machine; the file itself never has more.
//
// Errors: ErrConfig if there is something at c.Path, no file can be made there, or c is wrong otherwise; ErrUnexpectedState if
// a capture is under way or armed already; ErrCapture with QEMU's or tcpdump's own words if it cannot record, as without a
// network card or rights; ErrConnection if QEMU does not answer. For an armed capture RestoreStart and NoRestoreStart return those.
func (d *Machinery) StartCapture(ctx context.Context, name string, c machinery.Capture) error {
	return d.frame.Operate(ctx, machinery.OpStartCapture, name, func(v *vm, ctx context.Context) error { return v.startCapture(ctx, c) })
}

// Recording is the path of the file to which a machine's traffic is being recorded, by whichever driver began that; empty for none. The file
// itself is there when the capture has ended.
//
// Errors: ErrHypervisor if the machine's ledger cannot be read; those of every operation for a wrong name and a closed driver.
func (d *Machinery) Recording(ctx context.Context, name string) (string, error) {
	const op = machinery.Op("recording")
	v, err := d.frame.Lookup(ctx, op, name)
	if err != nil {
		return "", err
	}
	l, err := readLedger(v.dir)
	if err != nil {
		return "", fault.AsError(op, name, machinery.ErrHypervisor, err)
	}
	if l == nil || l.Capture == nil {
		return "", nil
	}
	return l.Capture.Path, nil
}

// StopCapture ends the recording and returns when the file is there. What is armed is taken back, and leaves no file.
//
// Errors: ErrStateReached if none is under way or armed, ErrConnection if QEMU does not answer, ErrCapture if the recording cannot be
// completed, as on a full disk with the recordings of several cards: then there is no file, and what was recorded is lost. ErrCapture too if it ended before it should have;
// then what there is of it is in the file. The error of a capture that ended with its run, and with nobody to be told, is returned once.
func (d *Machinery) StopCapture(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpStopCapture, name, (*vm).stopCapture)
}

func (v *vm) startCapture(ctx context.Context, c machinery.Capture) (err error) {
	const op = machinery.OpStartCapture
	a, err := v.newArmed(c)
	if err != nil {
		return err
	}
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch r := v.run; {
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "no capture can be started: the machine is in state %s")
	case v.armed != nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "a capture is armed already, to %[2]s (the machine is %[1]s)", v.armed.Path)
	case r != nil && r.ledger.Capture != nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "a capture is under way already, to %[2]s (the machine is %[1]s)", r.ledger.Capture.Path)
	case r == nil:
		if err := v.recordable(op); err != nil {
			return err
		}
		v.armed, v.lost = a, nil
		return nil
	default:
		v.lost = nil
		return v.captureNow(ctx, r, a)
	}
}

// recordable refuses a capture that the next run cannot begin, as far as that is known before it.
func (v *vm) recordable(op machinery.Op) error {
	if v.args == nil || v.d.config.Capture == CaptureTcpdump {
		return nil // the start itself says what is wrong
	}
	if _, ids := namedBackends(v.args.args); len(ids) == 0 {
		return v.noNetwork(op)
	}
	return nil
}

func (v *vm) noNetwork(op machinery.Op) error {
	return fault.Fail(op, v.machine.Name, machinery.ErrCapture, nil, "the machine's traffic cannot be recorded: its arguments name no network (-netdev or -nic)")
}

// newArmed checks what a capture was asked for with.
func (v *vm) newArmed(c machinery.Capture) (*capture.Armed, error) {
	a, err := capture.New(v.machine.Name, c)
	if err == nil && v.d.config.Capture == CaptureTcpdump {
		if _, bad := v.tcpdumpArgs(a); bad != nil {
			return nil, fault.Fail(machinery.OpStartCapture, v.machine.Name, machinery.ErrConfig, bad, "the machine's traffic cannot be told from that of others")
		}
	}
	return a, err
}

// captureNow begins a capture of a machine that is up.
func (v *vm) captureNow(ctx context.Context, r *run, a *capture.Armed) error {
	const op = machinery.OpStartCapture
	c := a.Recording(v.d.config.Capture)
	var ids []string
	if c.Method == CaptureFilterDump {
		var err error
		if ids, err = r.backends(ctx); err != nil {
			return r.captureError(ctx, op, err)
		}
		c.Plan(len(ids))
	}
	if err := r.note(func(l *ledger) { l.Capture = c }); err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the capture cannot be started")
	}
	files, err := c.Create()
	if err == nil {
		if c.Method == CaptureFilterDump {
			err = r.addFilters(ctx, c, ids, files)
		} else {
			err = r.startTcpdump(ctx, a, c, files[0])
		}
	}
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		if c.Method == CaptureFilterDump {
			// Whatever became of the context, nothing is to be left.
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), adoptTime)
			defer cancel()
			_ = r.removeFilters(clean, c)
		}
		r.dropCapture()
		return r.captureError(ctx, op, err)
	}
	v.d.frame.Go(func() { r.boundCapture(c) })
	v.log.Info("recording the machine's traffic", "by", c.Method, "path", c.Path)
	return nil
}

// captureError is the error of a capture that cannot be begun or ended.
func (r *run) captureError(ctx context.Context, op machinery.Op, err error) error {
	name := r.v.machine.Name
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	if ctx.Err() != nil {
		return fault.Interrupted(op, name, ctx, "the capture was prepared")
	}
	if disconnected(err) {
		return fault.Fail(op, name, machinery.ErrConnection, err, "QEMU's monitor does not answer, so that its capture cannot be changed")
	}
	return fault.Fail(op, name, machinery.ErrCapture, err, "the machine's traffic cannot be recorded by %s", r.v.d.config.Capture)
}

func (v *vm) stopCapture(ctx context.Context) (err error) {
	const op = machinery.OpStopCapture
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	if v.armed != nil {
		v.armed = nil
		return nil
	}
	r := v.run
	if r == nil || r.ledger.Capture == nil {
		if lost := v.lost; lost != nil {
			v.lost = nil
			return fault.Fail(op, v.machine.Name, machinery.ErrCapture, lost, "the capture ended with the machine's run")
		}
		return v.wrongState(op, machinery.ErrStateReached, status, "no capture is under way; the machine is %s")
	}
	c := r.ledger.Capture
	if c.Method == CaptureFilterDump && !r.proc.Over() {
		if err := r.removeFilters(ctx, c); err != nil {
			return r.captureError(ctx, op, fmt.Errorf("the capture goes on: %w", err))
		}
	}
	err = c.Finish(true)
	if noted := r.note(func(l *ledger) { l.Capture = nil }); noted != nil {
		v.log.Warn("the machine's ledger is out of date: it still says that its traffic is recorded", "error", noted)
	}
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrCapture, err, "the capture has ended")
	}
	return nil
}

// captureFromStart prepares a capture that is to begin with the machine's run: the arguments that QEMU is started with, and what
// goes into the ledger. Both are as they are without it if nothing was asked for.
func (v *vm) captureFromStart(a *capture.Armed, args []string, op machinery.Op) ([]string, *capture.Recording, error) {
	if a == nil {
		return args, nil, nil
	}
	if err := outfile.FreePath(a.Path); err != nil { // it was free when the capture was armed
		return nil, nil, fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the traffic cannot be recorded to %s", a.Path)
	}
	c := a.Recording(v.d.config.Capture)
	if c.Method != CaptureFilterDump {
		return args, c, nil
	}
	named, ids := namedBackends(args)
	if len(ids) == 0 {
		return nil, nil, v.noNetwork(op)
	}
	c.Plan(len(ids))
	first := snapshotFD
	if op == machinery.OpRestoreStart {
		first++
	}
	return append(named, filterArgs(ids, first)...), c, nil
}

// beginCapture makes the files of the capture that is in the ledger, and returns those that QEMU is to inherit. A tcpdump records
// when it returns.
func (r *run) beginCapture(ctx context.Context, a *capture.Armed, op machinery.Op) ([]*os.File, error) {
	c := r.ledger.Capture
	if c == nil {
		return nil, nil
	}
	files, err := c.Create()
	if err == nil && c.Method == CaptureTcpdump {
		if err = r.startTcpdump(ctx, a, c, files[0]); err == nil {
			files[0].Close()
			return nil, nil
		}
	}
	if err != nil {
		err = r.captureError(ctx, op, err)
	}
	return files, err
}
