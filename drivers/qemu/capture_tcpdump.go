//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/tcpdump"
)

const (
	// tcpdumpReady is how long tcpdump may take until it records; it takes 20 ms.
	tcpdumpReady = 10 * time.Second
	// tcpdumpEnd is how long it may take to write what it has, once it is told to end.
	tcpdumpEnd = 5 * time.Second
	// readyAsk is how often it is looked whether tcpdump has said that it records: what it prints comes without an event.
	readyAsk = 2 * time.Millisecond
	// tcpdumpQuiet is how long nothing must have been recorded before tcpdump is told to end: it forgets what it has not read by then,
	// and nothing tells whether it has read all. tcpdumpBusy is how long that is waited for.
	tcpdumpQuiet, tcpdumpBusy = 10 * time.Millisecond, 200 * time.Millisecond
)

// tool is a tcpdump in a ledger: the fields mean there what those of QEMU do.
type tool struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`
	Boot   string `json:"boot"`
	Args   int    `json:"args"`
	Digest string `json:"digest"`
	// Output is the file that it records to.
	Output string `json:"output"`

	proc *process.Process // nil until it was started or found
}

func (v *vm) tcpdumpArgs(a *armed) ([]string, error) {
	return tcpdump.Args(v.machine.Interface, v.machine.IP, a.exclude)
}

// startTcpdump starts a tcpdump that records to the file, and returns when it does. The capture is in the ledger already.
func (r *run) startTcpdump(ctx context.Context, a *armed, c *captured, to *os.File) error {
	v := r.v
	args, err := v.tcpdumpArgs(a)
	if err != nil {
		return err
	}
	boot, err := process.BootID()
	if err != nil {
		return err
	}
	t := &tool{Boot: boot, Args: len(args), Digest: digest(args), Output: c.Raw[0]}
	// As for QEMU, the ledger goes first.
	if err := r.note(func(*ledger) { c.Tool = t }); err != nil {
		return err
	}
	p, err := process.Spawning{Path: v.d.config.Tcpdump, Args: args, Stdout: to, By: v.d.starter}.Do()
	if err != nil {
		return fmt.Errorf("tcpdump cannot be started: %w", err)
	}
	limitFile(p.PID, c.MaxBytes)
	if err := r.note(func(*ledger) { t.PID, t.Start, t.proc = p.PID, p.Start, p }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tcpdumpReady, fmt.Errorf("tcpdump did not record after %v", tcpdumpReady))
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
			return fmt.Errorf("%s ended (%v): %w", v.d.config.Tcpdump, p.Ending, said)
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// find is the process, looked for in the ledger's words if need be; nil if it has ended.
func (t *tool) find() *process.Process {
	if t.proc != nil {
		return t.proc
	}
	l := ledger{PID: t.PID, Start: t.Start, Boot: t.Boot, Args: t.Args, Digest: t.Digest}
	p, err := l.process()
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

// stop tells it to write what it has and to end.
func (t *tool) stop() {
	if p := t.find(); p != nil {
		p.Interrupt()
	}
}

// end ends it. The error says that it had ended before.
func (t *tool) end() error {
	if t == nil {
		return nil
	}
	p := t.find()
	if p == nil {
		return errors.New("tcpdump had ended before the capture did")
	}
	defer t.release()
	early := p.Over()
	if !early {
		t.settle()
	}
	p.Interrupt()
	if !p.Wait(tcpdumpEnd) {
		p.Kill()
		if !p.Wait(cleanupTime) {
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
func (t *tool) settle() {
	var last int64 = -1
	for end := time.Now().Add(tcpdumpBusy); time.Now().Before(end); time.Sleep(tcpdumpQuiet) {
		info, err := os.Stat(t.Output)
		if err != nil || info.Size() == last {
			return
		}
		last = info.Size()
	}
}

// release lets go of it.
func (t *tool) release() {
	if t != nil && t.proc != nil {
		t.proc.Release()
		t.proc = nil
	}
}
