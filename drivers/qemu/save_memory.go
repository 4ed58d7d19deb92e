//go:build linux

package qemu

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// saveFD is the name under which QEMU knows the file or pipe that the memory goes to.
const saveFD = ownPrefix + "save"

const (
	// saveAsk is how often QEMU is asked how far it is with the memory. Its event for the end has to be switched on by a
	// capability that the next user of migrate would find changed.
	saveAsk = 20 * time.Millisecond
	// cancelTime is how long QEMU may take to give up, which it does at its next write.
	cancelTime = 5 * time.Second
)

// saveParameters let QEMU write as fast as it can, and stop the guest for the rest as soon as it has measured how fast that is
// (after 0.1 s; QEMU 7.2.22). Its defaults are made for a network: 128 MiB/s, and a guest that stands still for 0.3 s at most, so that
// one that is busy with its memory is never done. The downtime, in milliseconds, is the longest that QEMU takes.
var saveParameters = map[string]any{"max-bandwidth": int64(1) << 40, "downtime-limit": 2000 * 1000}

// memory writes the machine's memory. If it returns nil, QEMU has come to the end of this machine: its memory and its disk fit together and
// do not change any more. Otherwise the machine is as it was.
func (s *saving) memory(ctx context.Context, r *run) error {
	v := s.v
	out, err := newMemoryOut(filepath.Join(s.part, s.snapshotName()), s.o.Compress == "zstd")
	if err != nil {
		return s.fail(machinery.ErrConfig, err, "the memory cannot be written")
	}
	if err := r.note(func(l *ledger) { l.Phase = phaseSaving }); err != nil {
		v.log.Debug("the saving of the machine is not in the ledger", "error", err)
	}
	v.set(func() { v.doing, v.during = phaseSaving, savingStatus })
	err = s.migrate(ctx, r, out)
	if err == nil {
		err = out.finish()
	}
	if err == nil {
		err = ctx.Err() // the last moment at which the machine can go on
	}
	if err == nil {
		return nil
	}
	out.drop()
	if refused := r.unsave(ctx); refused != nil {
		v.log.Warn("the machine does not go on after it could not be saved", "error", refused)
	}
	if err := r.note(func(l *ledger) { l.Phase = phaseSettled }); err != nil {
		v.log.Warn("the machine's ledger is out of date: it still says that it is being saved", "error", err)
	}
	v.set(func() { v.doing = "" })
	return s.memoryError(ctx, r, out, err)
}

// savingStatus is the status of a machine while its memory is written.
var savingStatus = machinery.Status{State: machinery.StatePaused, Reason: reasonSaving}

// migrate has QEMU write the memory, and returns when that is complete.
func (s *saving) migrate(ctx context.Context, r *run, out *memoryOut) error {
	m, err := r.master(ctx)
	if err != nil {
		return err
	}
	if s.o.Paused && s.was.State == machinery.StateRunning {
		if err := m.Execute(ctx, "stop", nil, nil); err != nil {
			return err
		}
	}
	if err := m.Execute(ctx, "migrate-set-parameters", saveParameters, nil); err != nil {
		return err
	}
	if err := m.ExecuteFile(ctx, "getfd", map[string]any{"fdname": saveFD}, out.end, nil); err != nil {
		return err
	}
	out.given()
	if err := m.Execute(ctx, "migrate", map[string]any{"uri": "fd:" + saveFD}, nil); err != nil {
		// QEMU has the descriptor still, unless it has failed with it.
		_ = m.Execute(ctx, "closefd", map[string]any{"fdname": saveFD}, nil)
		return err
	}
	ticker := time.NewTicker(saveAsk)
	defer ticker.Stop()
	for {
		g, err := queryMigrate(ctx, m)
		if err != nil {
			return err
		}
		s.progress("memory", g.RAM.Total-g.RAM.Remaining, g.RAM.Total)
		switch g.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return &saveFailure{g.Reason}
		}
		select {
		case <-ticker.C:
		case <-r.proc.Gone:
			return errProcessGone
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// migration is what QEMU tells of a state that it writes.
type migration struct {
	Status string
	Reason string `json:"error-desc"`
	RAM    struct{ Total, Remaining int64 }
}

func queryMigrate(ctx context.Context, m *monitor.Monitor) (g migration, err error) {
	err = m.Execute(ctx, "query-migrate", nil, &g)
	return g, err
}

// saveFailure is why QEMU says that it could not write the memory.
type saveFailure struct{ words string }

func (e *saveFailure) Error() string {
	if e.words == "" {
		return "QEMU does not say why"
	}
	return e.words
}

// memoryError says why the memory was not written.
func (s *saving) memoryError(ctx context.Context, r *run, out *memoryOut, err error) error {
	refused, isRefused := errors.AsType[*monitor.CommandError](err)
	failure, isFailure := errors.AsType[*saveFailure](err)
	const full = "QEMU could not write the machine's memory"
	switch {
	case out.err != nil:
		return s.fail(machinery.ErrHypervisor, out.err, "the machine's memory cannot be written")
	case isRefused:
		return s.fail(machinery.ErrHypervisor, refused, "QEMU does not save the machine")
	case isFailure && failure.words == "":
		if said := fault.Words(r.proc.Tail()); said != nil {
			return s.fail(machinery.ErrHypervisor, said, full)
		}
		return s.fail(machinery.ErrHypervisor, failure, full)
	case isFailure:
		return s.fail(machinery.ErrHypervisor, failure, full)
	case ctx.Err() != nil:
		return fault.Interrupted(OpSaveSnapshot, s.v.machine.Name, ctx, "saving the machine's memory")
	case errors.Is(err, errProcessGone), r.proc.Wait(exitTime):
		return s.fail(machinery.ErrHypervisor, fault.Words(r.proc.Tail()), "QEMU ended (%v) while it saved the machine", r.proc.Ending)
	case errors.Is(err, monitor.ErrDisconnected):
		return s.fail(machinery.ErrConnection, err, "QEMU was not heard of while it saved the machine")
	}
	return s.fail(machinery.ErrHypervisor, err, "the machine cannot be saved")
}

// memoryOut is where the memory goes: a file, or a pipe to what packs it into one.
type memoryOut struct {
	file *os.File
	end  *os.File // what QEMU gets
	done chan struct{}
	err  error // why packing failed; written before done is closed
}

func newMemoryOut(path string, pack bool) (*memoryOut, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	o := &memoryOut{file: file, end: file, done: make(chan struct{})}
	if !pack {
		close(o.done)
		return o, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		file.Close()
		return nil, err
	}
	if raw, err := w.SyscallConn(); err == nil {
		// Without the right to that much the usual 64 KiB stay, which is slower and no more.
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
	o.end = w
	go func() {
		defer close(o.done)
		defer r.Close() // QEMU's next write fails, if there is one
		o.err = packInto(file, r)
	}()
	return o, nil
}

func packInto(file *os.File, r io.Reader) error {
	z, err := zstd.NewWriter(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, r); err != nil {
		_ = z.Close()
		return err
	}
	return z.Close()
}

// given is to be called when QEMU has its end of the pipe: the pipe ends when nobody else has it.
func (o *memoryOut) given() {
	if o.end != o.file {
		_ = o.end.Close()
	}
}

// finish waits until all is in the file. QEMU must have let go of its end.
func (o *memoryOut) finish() error {
	<-o.done
	if o.err != nil {
		return o.err
	}
	return o.file.Close()
}

// drop ends what packs, and lets go of the file.
func (o *memoryOut) drop() {
	_ = o.end.Close()
	o.file.Close()
}
