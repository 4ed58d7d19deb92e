//go:build linux

package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/machineries/machineries/drivers/internal/capture"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/tcpdump"
	"github.com/machineries/machineries/machinery"
)

// The ways in which Config.Capture can have traffic recorded.
const (
	// CaptureTcpdump is tcpdump on the machine's interface, for all that goes to and comes from its address. It needs the right to
	// capture there (root, or tcpdump with the capabilities CAP_NET_RAW and CAP_NET_ADMIN).
	CaptureTcpdump = "tcpdump"
	// CaptureFilterDump is QEMU's own filter-dump on each of the machine's network cards, added by libvirt's passage to QEMU's monitor, which marks the
	// domain as tainted in libvirt's log. It needs no address and no rights, but a QEMU that may write where the file is to be. It records
	// nothing that vhost takes past QEMU, and of a card that is connected by a socket (client, server, udp) not what arrived before the
	// machine ran: QEMU 7.2.22 takes the first frame in by then.
	CaptureFilterDump = "filter-dump"
)

// DefaultCaptureBytes is the bound of a capture that names none: 1 GiB.
const DefaultCaptureBytes = capture.DefaultBytes

// StartCapture records what goes over the machine's network to a pcap file at c.Path, in the way that Config.Capture says. On a machine
// that is off it is armed for the next start, which uses it up, whether it succeeds or not. An armed capture is this driver's alone, and is
// gone when it is closed. One that is under way goes on after Close, and the next driver that takes the machine over keeps it to its bound and
// ends it. QEMU's filter knows of no bound: while no driver holds the machine it records on.
//
// The file appears when the capture has ended, with mode 0600: whole, and by the time Stop or StopCapture returns. Until then what
// is recorded is in hidden files in the same directory. It is written even if nothing was recorded. Traffic of several cards is in
// one file, by time.
//
// Errors: ErrUnsupported if libvirt is on another host; ErrConfig if there is something at c.Path, no file can be made there, or c is wrong
// otherwise; ErrUnexpectedState if a capture is under way or armed already; ErrCapture with QEMU's or tcpdump's own words if it
// cannot record, as without a network card or rights; ErrConnection if libvirt does not answer. For an armed capture RestoreStart and
// NoRestoreStart return those.
func (d *Machinery) StartCapture(ctx context.Context, name string, c machinery.Capture) error {
	return d.frame.Operate(ctx, machinery.OpStartCapture, name, func(v *vm, ctx context.Context) error { return v.startCapture(ctx, c) })
}

// StopCapture ends the recording and returns when the file is there. What is armed is taken back, and leaves no file.
//
// Errors: ErrStateReached if none is under way or armed, ErrConnection if the hypervisor does not answer, ErrCapture if the recording cannot be
// completed: then there is no file, and what was recorded is lost. ErrCapture too if it ended before it should have; then what
// there is of it is in the file. The error of a capture that ended with its run, and with nobody to be told, is returned once.
func (d *Machinery) StopCapture(ctx context.Context, name string) error {
	return d.frame.Operate(ctx, machinery.OpStopCapture, name, (*vm).stopCapture)
}

func (v *vm) startCapture(ctx context.Context, c machinery.Capture) (err error) {
	const op = machinery.OpStartCapture
	if v.d.remote != "" {
		return fault.Fail(op, v.machine.Name, machinery.ErrUnsupported, nil, "libvirt is on %s; traffic can be recorded only where it runs on this host", v.d.remote)
	}
	a, err := capture.New(v.machine.Name, c)
	if err == nil && v.d.config.Capture == CaptureTcpdump {
		if _, bad := v.tcpdumpArgs(a); bad != nil {
			err = fault.Fail(op, v.machine.Name, machinery.ErrConfig, bad, "the machine's traffic cannot be told from that of others")
		}
	}
	if err != nil {
		return err
	}
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch {
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "no capture can be started: the machine is in state %s")
	case v.armed != nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "a capture is armed already, to %[2]s (the machine is %[1]s)", v.armed.Path)
	case !off(status) && v.hold.ledger.Capture != nil:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "a capture is under way already, to %[2]s (the machine is %[1]s)", v.hold.ledger.Capture.Path)
	case off(status):
		if v.d.config.Capture == CaptureFilterDump {
			if err := v.recordable(ctx); err != nil {
				return v.captureError(ctx, op, err)
			}
		}
		v.armed, v.lost = a, nil
		return nil
	}
	v.lost = nil
	return v.beginCapture(ctx, op, a)
}

// beginCapture has the machine's traffic recorded from now on. If that fails nothing of it is left.
func (v *vm) beginCapture(ctx context.Context, op machinery.Op, a *capture.Armed) error {
	c := a.Recording(v.d.config.Capture)
	var ids []string
	if c.Method == CaptureFilterDump {
		var err error
		if ids, err = v.backends(ctx); err != nil {
			return v.captureError(ctx, op, err)
		}
		c.Plan(len(ids))
	}
	if err := v.note(func(l *ledger) { l.Capture = c }); err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the capture cannot be started")
	}
	files, err := c.Create()
	switch {
	case err != nil:
	case c.Method == CaptureFilterDump:
		err = v.addFilters(ctx, c, ids)
	default:
		err = v.startTcpdump(ctx, a, c, files[0])
	}
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		v.dropCapture(ctx)
		return v.captureError(ctx, op, err)
	}
	v.keepBound(v.hold, c)
	v.log.Info("recording the machine's traffic", "by", c.Method, "path", c.Path)
	return nil
}

func (v *vm) tcpdumpArgs(a *capture.Armed) ([]string, error) {
	return tcpdump.Args(v.machine.Interface, v.machine.IP, a.Exclude)
}

func (v *vm) startTcpdump(ctx context.Context, a *capture.Armed, c *capture.Recording, to *os.File) error {
	args, err := v.tcpdumpArgs(a)
	if err != nil {
		return err
	}
	note := func(change func()) error { return v.note(func(*ledger) { change() }) }
	return capture.Tcpdump{Program: v.d.config.Tcpdump, Args: args, To: to, Note: note}.Start(ctx, c)
}

// captureError is the error of a capture that cannot be begun or ended.
func (v *vm) captureError(ctx context.Context, op machinery.Op, err error) error {
	if e, is := errors.AsType[*machinery.Error](err); is {
		return e
	}
	if ctx.Err() != nil || unheard(err) {
		return v.refused(ctx, op, err, "the capture was prepared")
	}
	return fault.Fail(op, v.machine.Name, machinery.ErrCapture, err, "the machine's traffic cannot be recorded by %s", v.d.config.Capture)
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
	if v.hold == nil || v.hold.ledger.Capture == nil {
		if lost := v.lost; lost != nil {
			v.lost = nil
			return fault.Fail(op, v.machine.Name, machinery.ErrCapture, lost, "the capture ended with the machine's run")
		}
		return v.wrongState(op, machinery.ErrStateReached, status, "no capture is under way; the machine is %s")
	}
	c := v.hold.ledger.Capture
	if c.Method == CaptureFilterDump && !off(status) {
		if status.Reason == reasonNoAnswer {
			return v.wrongState(op, machinery.ErrConnection, status, "the capture goes on: the machine is in state %s")
		}
		if err := v.removeFilters(ctx, c); err != nil {
			return v.captureError(ctx, op, fmt.Errorf("the capture goes on: %w", err))
		}
	}
	err = c.Finish(true)
	if noted := v.note(func(l *ledger) { l.Capture = nil }); noted != nil {
		v.log.Warn("the machine's ledger is out of date: it still says that its traffic is recorded", "error", noted)
	}
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrCapture, err, "the capture has ended")
	}
	return nil
}

// armedNow takes the capture that is to begin with the run that is being started; nil if none is. What it was armed for may not be possible any more.
func (v *vm) armedNow(op machinery.Op) (*capture.Armed, error) {
	a := v.armed
	v.armed, v.lost = nil, nil
	if a != nil {
		if err := outfile.FreePath(a.Path); err != nil { // it was free when the capture was armed
			return nil, fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the traffic cannot be recorded to %s", a.Path)
		}
	}
	return a, nil
}

// finishCapture makes the file of the run's capture, if there is one, when the machine is off. mine is whether the run was this driver's.
func (v *vm) finishCapture() error {
	c := v.hold.ledger.Capture
	if c == nil {
		return nil
	}
	v.mu.Lock()
	v.hold.ledger.Capture = nil
	v.mu.Unlock()
	err := c.Finish(v.hold.mine)
	if err != nil {
		v.log.Warn("the machine's capture is not as it should be", "path", c.Path, "error", err)
	}
	return err
}

// dropCapture undoes a capture that could not be begun, or whose start failed.
func (v *vm) dropCapture(ctx context.Context) {
	c := v.hold.ledger.Capture
	if c == nil {
		return
	}
	if c.Method == CaptureFilterDump {
		// Whatever became of the context, nothing is to be left.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		_ = v.removeFilters(clean, c)
		cancel()
	}
	_ = c.Tool.End()
	if err := c.Remove(); err != nil {
		v.log.Warn("what was made for a capture cannot be removed", "error", err)
	}
	if err := v.note(func(l *ledger) { l.Capture = nil }); err != nil {
		v.log.Debug("the capture that came to nothing is still in the ledger", "error", err)
	}
}

// boundAsk is how often it is looked how much was recorded.
const boundAsk = time.Second

// keepBound watches a recording that was begun or taken over, for as long as this driver holds the machine. Whoever has the turn calls it.
func (v *vm) keepBound(h *hold, c *capture.Recording) {
	v.d.frame.Go(func() { v.boundCapture(h, c) })
}

// boundCapture ends the recording when it has its bound. The file is made when the capture ends.
func (v *vm) boundCapture(h *hold, c *capture.Recording) {
	ticker := time.NewTicker(boundAsk)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-v.d.frame.Closed():
			return
		}
		v.mu.Lock()
		current := v.hold == h && h.ledger.Capture == c
		v.mu.Unlock()
		if !current {
			return
		}
		if c.Recorded() < c.MaxBytes {
			continue
		}
		var err error
		if c.Method == CaptureFilterDump {
			ctx, cancel := context.WithTimeout(v.d.frame.Life(), v.d.config.CallTimeout)
			err = v.removeFilters(ctx, c)
			cancel()
		} else {
			c.Tool.Stop()
		}
		if err == nil {
			v.log.Warn("the capture has its bound, and nothing more is recorded", "path", c.Path, "bytes", c.MaxBytes)
			return
		}
		v.log.Debug("the capture is beyond its bound and cannot be ended", "error", err)
	}
}
