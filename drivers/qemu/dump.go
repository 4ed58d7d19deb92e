//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/turns"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// dumpFD is the name under which QEMU knows the file of a dump. One that was left by a dump that came to nothing is closed by QEMU
// when the next takes its name.
const dumpFD = ownPrefix + "dump"

const (
	// dumpAsk is how often QEMU is asked how far a dump is: for the log, and in case its event was lost with a connection.
	dumpAsk = time.Second
	// spoilTime is how long a dump that was given up is waited for. It ends at its next write.
	spoilTime = time.Second
	// resumeAsk is how soon QEMU is asked again whether it has resumed the machine after a dump, which it does 0.1 ms after the
	// event that ends it.
	resumeAsk = time.Millisecond
	// resumeTime is how long after that event the machine may still stand for the dump, on a host that is busy.
	resumeTime = time.Second
)

// DumpMemory writes the guest's physical memory to path as an ELF core file. See DumpMemoryFormat.
func (d *Machinery) DumpMemory(ctx context.Context, name, path string) error {
	return d.DumpMemoryFormat(ctx, name, path, "")
}

// DumpMemoryFormat is DumpMemory in one of QEMU's formats: "elf" (the default, also for ""), "kdump-zlib", "kdump-lzo",
// "kdump-snappy" or "win-dmp", of which each build of QEMU has some. The compressed ones take several times as long: 256 MiB took
// QEMU 7.2.22 0.2 s as ELF and 2 s as kdump-zlib. It writes kdump in the flattened form, which crash reads and makedumpfile -R
// turns into the other.
//
// A running machine stands still meanwhile, which State calls paused, and runs again afterwards. A machine that is paused or broken
// stays so. The file is there, with mode 0600, when all of it is written. As after any program's writing, the host may have it in
// memory still, and lose it if its power fails; where that matters, sync it. On file systems that tell only then whether there was
// room for it, such as NFS, it is synced before it is there. How far the dump is goes to the log every second.
//
// Errors: ErrUnexpectedState if the machine is off or starting; ErrConfig if there is something at path, no file can be made there, or
// QEMU does not have the format; ErrHypervisor with QEMU's own words if the dump fails, as on a full disk; ErrInterrupted if ctx
// ends or Stop is called. QEMU has no command that ends a dump; its next write is made to fail, so that it ends at once and the
// machine goes on. Where that does not help within a second, State says paused until QEMU is done with what nobody will see.
func (d *Machinery) DumpMemoryFormat(ctx context.Context, name, path, format string) error {
	return d.DumpMemoryProgress(ctx, name, path, format, nil)
}

// DumpMemoryProgress is DumpMemoryFormat that tells every second how far it is, in bytes of the guest's memory. progress may be nil;
// it is called by the goroutine of the caller.
func (d *Machinery) DumpMemoryProgress(ctx context.Context, name, path, format string, progress func(done, total int64)) error {
	return d.frame.Operate(ctx, machinery.OpDumpMemory, name, func(v *vm, ctx context.Context) error {
		return v.dumpMemory(ctx, path, format, progress)
	})
}

// dumpMemory is DumpMemoryFormat for whoever has the turn.
func (v *vm) dumpMemory(ctx context.Context, path, format string, progress func(done, total int64)) (err error) {
	const op = machinery.OpDumpMemory
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return err
	}
	defer func() { leave(err) }()
	switch {
	case status.Reason == reasonNoAnswer:
		return v.wrongState(op, machinery.ErrConnection, status, "the memory cannot be dumped: the machine is in state %s")
	case v.run == nil || status.State == machinery.StatePoweroff || status.State == machinery.StateStarting:
		return v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s, so there is no memory to dump")
	case path == "":
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, nil, "no path is given for the dump")
	}
	r := v.run
	if err := r.hasFormat(ctx, format); err != nil {
		return err
	}
	file, err := outfile.New(path)
	if err != nil {
		return fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "the memory cannot be dumped to %s", path)
	}
	if err := r.dump(ctx, file, format, status, progress); err != nil {
		file.Drop()
		return err
	}
	// The machine is as it was; what is left is the file's affair.
	if file.Late() {
		err = file.Sync(ctx)
	}
	if err == nil {
		if err = file.Publish(); err == nil {
			return nil
		}
	}
	file.Drop()
	if ctx.Err() != nil {
		return fault.Interrupted(op, v.machine.Name, ctx, "writing the memory dump to disk")
	}
	return fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the memory was dumped, and the file cannot be completed")
}

// hasFormat is nil if QEMU can write dumps in the format.
func (r *run) hasFormat(ctx context.Context, format string) error {
	if format == "" || format == "elf" {
		return nil
	}
	m, err := r.master(ctx)
	var can struct{ Formats []string }
	if err == nil {
		err = m.Execute(ctx, "query-dump-guest-memory-capability", nil, &can)
	}
	if err != nil {
		return r.dumpError(ctx, err)
	}
	if !slices.Contains(can.Formats, format) {
		return fault.Fail(machinery.OpDumpMemory, r.v.machine.Name, machinery.ErrConfig, nil, "this QEMU does not write memory dumps in the format %q; it has %s", format, strings.Join(can.Formats, ", "))
	}
	return nil
}

// dump has QEMU write the memory into the file, and returns when the machine is in the run state that it was in before: status is
// what that means.
func (r *run) dump(ctx context.Context, file *outfile.Target, format string, status machinery.Status, progress func(done, total int64)) error {
	v := r.v
	during := status
	if status.State == machinery.StateRunning || status.State == machinery.StatePaused {
		during = machinery.Status{State: machinery.StatePaused, Reason: reasonDump}
		if err := r.note(func(l *ledger) { l.Phase = phaseDumping }); err != nil {
			v.log.Debug("the memory dump is not in the ledger", "error", err)
		}
	}
	v.set(func() { v.doing, v.during = phaseDumping, during })
	defer func() {
		if err := r.note(func(l *ledger) { l.Phase = r.settled() }); err != nil {
			v.log.Warn("the machine's ledger is out of date: it still says that its memory is being dumped", "error", err)
		}
		v.set(func() { v.doing = "" })
	}()
	defer r.withoutQuota()()
	began := time.Now()
	if err := r.beginDump(ctx, file, format); err != nil {
		return r.dumpError(ctx, r.giveUpDump(ctx, file, err))
	}
	if err := r.awaitDump(ctx, progress); err != nil {
		return r.dumpError(ctx, r.giveUpDump(ctx, file, err))
	}
	v.log.Debug("QEMU has dumped the memory", "duration", time.Since(began))
	return nil
}

// beginDump tells QEMU to begin.
func (r *run) beginDump(ctx context.Context, file *outfile.Target, format string) error {
	m, err := r.master(ctx)
	if err != nil {
		return err
	}
	if err := m.ExecuteFile(ctx, "getfd", map[string]any{"fdname": dumpFD}, file.File, nil); err != nil {
		return err
	}
	args := map[string]any{"paging": false, "protocol": "fd:" + dumpFD, "detach": true}
	if format != "" {
		args["format"] = format
	}
	r.mu.Lock()
	r.dumping = true
	select {
	case <-r.dumped: // of a dump that was given up
	default:
	}
	r.mu.Unlock()
	err = m.Execute(ctx, "dump-guest-memory", args, nil)
	if refused, is := errors.AsType[*monitor.CommandError](err); is {
		r.mu.Lock()
		r.dumping = false
		r.mu.Unlock()
		// QEMU has taken the descriptor, or has it still.
		_ = m.Execute(ctx, "closefd", map[string]any{"fdname": dumpFD}, nil)
		return refused
	}
	return err
}

// dumpFailure is why QEMU says that a dump failed.
type dumpFailure struct{ words string }

func (e *dumpFailure) Error() string { return e.words }

// dumpCompleted takes in QEMU's event that a dump has ended.
func (r *run) dumpCompleted(e monitor.Event) {
	var data struct {
		Result struct{ Status string }
		Error  string
	}
	var failure error
	if err := e.Decode(&data); err != nil {
		failure = err
	} else if data.Result.Status != "completed" {
		failure = &dumpFailure{data.Error}
	}
	r.mu.Lock()
	r.dumping, r.dumpEnded = false, time.Now()
	select {
	case r.dumped <- failure:
	default:
	}
	r.mu.Unlock()
	r.noteDumpOver()
}

// awaitDump waits until QEMU says that the dump has ended and has let the machine go on.
func (r *run) awaitDump(ctx context.Context, progress func(done, total int64)) error {
	ticker := time.NewTicker(dumpAsk)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case failure := <-r.dumped:
			if failure != nil {
				return errors.Join(failure, r.awaitResume(ctx))
			}
			over = true
		case <-ticker.C:
			var err error
			if over, err = r.askDump(ctx, progress); err != nil {
				return err
			}
		case <-r.proc.Gone:
			return errProcessGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.awaitResume(ctx)
}

// askDump asks QEMU how far the dump is, and whether it has ended.
func (r *run) askDump(ctx context.Context, tell func(done, total int64)) (over bool, err error) {
	m, err := r.master(ctx)
	if err != nil {
		return false, err
	}
	var progress struct {
		Status           string
		Completed, Total int64
	}
	if err := m.Execute(ctx, "query-dump", nil, &progress); err != nil {
		return false, err
	}
	switch progress.Status {
	case "active":
		r.v.log.Info("dumping the memory", "completed", progress.Completed, "total", progress.Total)
		if tell != nil {
			tell(progress.Completed, progress.Total)
		}
		return false, nil
	case "completed", "failed":
		// The event is on its way, or was lost with a connection that broke.
		select {
		case failure := <-r.dumped:
			return true, failure
		case <-time.After(resumeAsk):
		}
		r.mu.Lock()
		r.dumping = false
		r.mu.Unlock()
		r.noteDumpOver()
		if progress.Status == "failed" {
			return true, &dumpFailure{"it does not say why"}
		}
		return true, nil
	}
	if progress.Status == "none" { // the command did not reach it
		r.mu.Lock()
		r.dumping = false
		r.mu.Unlock()
		r.noteDumpOver()
		return true, &dumpFailure{"it has not begun"}
	}
	return false, fmt.Errorf("QEMU says that the state of the memory dump is %q", progress.Status)
}

// awaitResume waits until QEMU has left the run state that a dump puts a running machine in.
func (r *run) awaitResume(ctx context.Context) error {
	for {
		m, err := r.master(ctx)
		if err != nil {
			return err
		}
		state, err := queryStatus(ctx, m)
		if err != nil || state != "save-vm" {
			return err
		}
		select {
		case <-time.After(resumeAsk):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// giveUpDump ends a dump that is not waited for any more, as far as QEMU lets it, and returns err. What QEMU may still write goes
// nowhere.
func (r *run) giveUpDump(ctx context.Context, file *outfile.Target, err error) error {
	file.Spoil()
	r.mu.Lock()
	dumping := r.dumping
	r.mu.Unlock()
	cause := context.Cause(ctx)
	if !dumping || errors.Is(cause, turns.ErrStopped) || r.proc.Over() {
		return err // nothing to wait for, or QEMU is about to be ended
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), spoilTime)
	defer cancel()
	if left := r.awaitDump(ending, nil); ending.Err() != nil {
		r.v.log.Warn("QEMU goes on with a memory dump that was given up", "error", left)
	}
	return err
}

// dumpError says why a dump was not made.
func (r *run) dumpError(ctx context.Context, err error) error {
	const op = machinery.OpDumpMemory
	name := r.v.machine.Name
	refused, isRefused := errors.AsType[*monitor.CommandError](err)
	failure, isFailure := errors.AsType[*dumpFailure](err)
	switch {
	case isRefused:
		return fault.Fail(op, name, machinery.ErrHypervisor, refused, "QEMU does not dump the memory")
	case isFailure:
		return fault.Fail(op, name, machinery.ErrHypervisor, failure, "QEMU could not dump the memory")
	case ctx.Err() != nil:
		return fault.Interrupted(op, name, ctx, "dumping the memory")
	case errors.Is(err, errProcessGone), r.proc.Wait(exitTime):
		return fault.Fail(op, name, machinery.ErrHypervisor, fault.Words(r.proc.Tail()), "QEMU ended (%v) while it dumped the memory", r.howEnded())
	}
	return fault.Fail(op, name, machinery.ErrConnection, err, "QEMU was not heard of while it dumped the memory")
}
