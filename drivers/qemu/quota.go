//go:build linux

package qemu

import (
	"context"
	"fmt"
	"math"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// The quota is the kernel's limit for the length of a file (RLIMIT_FSIZE) of QEMU's process. Seen on QEMU 7.2.22 with SIGXFSZ blocked,
// as QEMU inherits it from this driver: a write beyond it fails with EFBIG; for a disk, QEMU tells the guest of an error unless the
// drive has werror=stop, sends BLOCK_IO_ERROR, and goes on; what is meant for a serial port's file is dropped without a word.

// quotaTime is how long a machine whose disk is full may take to be paused.
const quotaTime = cleanupTime

// withoutQuota lets QEMU write a file of any length until restore is called.
func (r *run) withoutQuota() (restore func()) {
	var was unix.Rlimit
	if r.proc.Over() || unix.Prlimit(r.proc.PID, unix.RLIMIT_FSIZE, nil, &was) != nil || was.Cur == was.Max {
		return func() {}
	}
	if err := process.LimitFiles(r.proc.PID, math.MaxUint64); err != nil {
		r.v.log.Warn("the limit for files is in force for a memory dump too", "error", err)
	}
	return func() {
		if r.proc.Over() {
			return
		}
		if err := process.LimitFiles(r.proc.PID, was.Cur); err != nil {
			r.v.log.Warn("the limit for files is not in force any more", "error", err)
		}
	}
}

// diskError takes in that QEMU could not read or write a disk. If that is because of the quota, the machine is paused: a guest that
// is told that its disk is broken goes on with what nobody wants to see.
func (r *run) diskError(e monitor.Event) {
	var data struct {
		Device    string
		Node      string `json:"node-name"`
		Operation string
		Action    string
		Reason    string
	}
	if err := e.Decode(&data); err != nil || data.Operation != "write" || data.Reason != "File too large" {
		return
	}
	name := data.Device
	if name == "" {
		name = data.Node
	}
	r.mu.Lock()
	known := r.ledger.Full != ""
	r.mu.Unlock()
	if known {
		return
	}
	r.v.log.Warn("a disk of the machine has come to its quota; the machine is paused", "disk", name)
	if err := r.note(func(l *ledger) { l.Full = name }); err != nil {
		r.v.log.Warn("the machine's ledger is out of date: it does not say that a disk has come to its quota", "error", err)
	}
	if data.Action == "stop" {
		return
	}
	m := r.monitor()
	r.events.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), quotaTime)
		defer cancel()
		if err := m.Execute(ctx, "stop", nil, nil); err != nil {
			r.v.log.Warn("the machine cannot be paused though a disk has come to its quota", "error", err)
		}
	})
}

// leaveQuota takes in that the machine goes on, whoever let it.
func (r *run) leaveQuota() {
	r.mu.Lock()
	full := r.ledger.Full != ""
	r.mu.Unlock()
	if !full {
		return
	}
	if err := r.note(func(l *ledger) { l.Full = "" }); err != nil {
		r.v.log.Warn("the machine's ledger is out of date: it still says that a disk has come to its quota", "error", err)
	}
}

// atQuota is the status of a machine that stands still in QEMU's run state because a disk has come to its quota; false if it does not.
func (l *ledger) atQuota(state string) (machinery.Status, bool) {
	if l.Full == "" || state != "paused" && state != "io-error" {
		return machinery.Status{}, false
	}
	return machinery.Status{State: machinery.StateError, Reason: reasonQuota,
		Detail: fmt.Sprintf("what the guest has written to its disk %q is as much as file_quota lets it; the machine was paused", l.Full)}, true
}
