//go:build linux

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/tcpdump"
	"golang.org/x/sys/unix"
)

const (
	// readyTime is how long tcpdump may take until it records; it takes 20 ms.
	readyTime = 10 * time.Second
	// endTime is how long it may take to write what it has, once it is told to end.
	endTime = 5 * time.Second
	// readyAsk is how often it is looked whether tcpdump has said that it records: what it prints comes without an event.
	readyAsk = 2 * time.Millisecond
	// quietTime is how long nothing must have been recorded before tcpdump is told to end: it forgets what it has not read by then,
	// and nothing tells whether it has read all. busyTime is how long that is waited for.
	quietTime, busyTime = 10 * time.Millisecond, 200 * time.Millisecond
)

// killTime is how long a tcpdump may take to be gone that was killed.
const killTime = 10 * time.Second

// Tool is a tcpdump in a ledger.
type Tool struct {
	process.Identity
	// Output is the file that it records to.
	Output string `json:"output"`

	proc *process.Process // nil until it was started or found
}

// Tcpdump is a tcpdump that is to record a machine's traffic.
type Tcpdump struct {
	// Program is its path, Args what it is given, and To the file that it records to: the recording's first.
	Program string
	Args    []string
	To      *os.File
	// By, if not nil, ends it with this process.
	By *process.Starter
	// Note writes the ledger, after it was changed.
	Note func(change func()) error
}

// Start starts it for a recording that is in the ledger already, and returns when it records. Whatever becomes of it, the ledger has what is
// to be ended.
func (d Tcpdump) Start(ctx context.Context, c *Recording) error {
	boot, err := process.BootID()
	if err != nil {
		return err
	}
	t := &Tool{Identity: process.Identity{Boot: boot, Args: len(d.Args), Digest: process.Digest(d.Args)}, Output: c.Raw[0]}
	// The ledger goes first, to find it by if this process dies.
	if err := d.Note(func() { c.Tool = t }); err != nil {
		return err
	}
	p, err := process.Spawning{Path: d.Program, Args: d.Args, Stdout: d.To, By: d.By}.Do()
	if err != nil {
		return fmt.Errorf("tcpdump cannot be started: %w", err)
	}
	limitFile(p.PID, c.MaxBytes)
	if err := d.Note(func() { t.PID, t.Start, t.proc = p.PID, p.Start, p }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("tcpdump did not record after %v", readyTime))
	defer cancel()
	ticker := time.NewTicker(readyAsk)
	defer ticker.Stop()
	for !tcpdump.Ready(p.Tail()) {
		select {
		case <-p.Gone:
			said := fault.Words(p.Tail())
			if said == nil {
				said = errors.New("it said nothing")
			}
			return fmt.Errorf("%s ended (%v): %w", d.Program, p.Ending, said)
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// find is the process, looked for in the ledger's words if need be; nil if it has ended.
func (t *Tool) find() *process.Process {
	if t.proc != nil {
		return t.proc
	}
	p, err := t.Find()
	if err != nil {
		return nil
	}
	// Another one could have the same arguments, but not the same file. Where that cannot be seen, as of a program with capabilities,
	// the arguments and the start time have to do.
	if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", p.PID)); err == nil && to != t.Output && to != t.Output+" (deleted)" {
		p.Release()
		return nil
	}
	t.proc = p
	return p
}

// Stop tells it to write what it has and to end.
func (t *Tool) Stop() {
	if p := t.find(); p != nil {
		p.Interrupt()
	}
}

// End ends it. The error says that it had ended before.
func (t *Tool) End() error {
	if t == nil {
		return nil
	}
	p := t.find()
	if p == nil {
		return errors.New("tcpdump had ended before the capture did")
	}
	defer t.Release()
	early := p.Over()
	if !early {
		t.settle()
	}
	p.Interrupt()
	if !p.Wait(endTime) {
		p.Kill()
		if !p.Wait(killTime) {
			return fmt.Errorf("tcpdump (process %d) does not end even when it is killed", p.PID)
		}
		return nil
	}
	// One that is told to end has the exit status 0, so that this is seen of one that was ending already.
	if early || p.Ending.Known && (p.Ending.Signal != 0 || p.Ending.Code != 0) {
		err := fmt.Errorf("tcpdump had ended before the capture did (%v)", p.Ending)
		if said := fault.Words(p.Tail()); said != nil {
			err = fmt.Errorf("%w: %w", err, said)
		}
		return err
	}
	return nil
}

// settle waits until tcpdump has recorded what has arrived.
func (t *Tool) settle() {
	var last int64 = -1
	for end := time.Now().Add(busyTime); time.Now().Before(end); time.Sleep(quietTime) { // the time in which its file does not grow
		info, err := os.Stat(t.Output)
		if err != nil || info.Size() == last {
			return
		}
		last = info.Size()
	}
}

// Release lets go of it.
func (t *Tool) Release() {
	if t != nil && t.proc != nil {
		t.proc.Release()
		t.proc = nil
	}
}

// limitFile bounds the size of the files that a process writes.
func limitFile(pid int, bytes int64) {
	limit := &unix.Rlimit{Cur: uint64(bytes), Max: uint64(bytes)}
	_ = unix.Prlimit(pid, unix.RLIMIT_FSIZE, limit, nil)
}
