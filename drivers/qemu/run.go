//go:build linux

package qemu

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// run is one run of a machine: its QEMU, from the moment that is started or taken over until it is gone or let go of.
type run struct {
	v    *vm
	hold *hold
	proc *process.Process

	migration chan string   // QEMU's last word on the loading of the snapshot: "completed" or "failed"
	dumped    chan error    // QEMU's last word on a memory dump: nil, or why it failed
	released  chan struct{} // closed by let
	dialing   chan struct{} // holds a token while somebody connects

	overlays []*os.File // the disposable disks that the start that is going on has made
	made     []string   // their paths

	mu        sync.Mutex
	mon       *monitor.Monitor // nil until there was a connection
	shutdown  string           // why QEMU said that it ends; empty if it did not
	dumpEnded time.Time        // when QEMU said so last
	dumping   bool             // QEMU has been told to dump the memory and has not said that it is done
	final     bool             // let was called: the ledger is not this run's any more
	ledger    ledger
	told      chan struct{} // closed when the last event of mon was taken in

	events sync.WaitGroup // the goroutines that take in events
}

func newRun(v *vm, h *hold, l ledger) *run {
	return &run{v: v, hold: h, ledger: l, migration: make(chan string, 1), dumped: make(chan error, 1), released: make(chan struct{}), dialing: make(chan struct{}, 1)}
}

// note changes the ledger, in memory and on disk.
func (r *run) note(change func(*ledger)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.final {
		return nil
	}
	change(&r.ledger)
	return r.hold.write(r.ledger)
}

// standing is the run state that the machine has from its snapshot; empty if it does not stand still for that.
func (r *run) standing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.Standing
}

// means is what a run state of its QEMU means.
func (r *run) means(state string) (machinery.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if status, full := r.ledger.atQuota(state); full {
		return status, nil
	}
	return statusOfRun(state, r.ledger.Standing, r.dumping || time.Since(r.dumpEnded) < resumeTime)
}

// master is the connection to QEMU's first monitor. One that broke while QEMU lives is made again.
func (r *run) master(ctx context.Context) (*monitor.Monitor, error) {
	select {
	case r.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.dialing }()
	if m := r.monitor(); m != nil && m.Err() == nil {
		return m, nil
	}
	m, err := dial(ctx, r.hold.qmp())
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.final {
		_ = m.Close()
		return nil, fmt.Errorf("the machine was let go of: %w", monitor.ErrClosed)
	}
	if r.mon != nil {
		_ = r.mon.Close()
		r.v.changed(true) // what QEMU told between the two connections is lost
	}
	r.mon = m
	told := make(chan struct{})
	r.told = told
	events := m.Events(context.Background()) // until the connection ends
	r.events.Go(func() {
		defer close(told)
		for e := range events {
			r.event(e)
		}
	})
	return m, nil
}

// monitor is the connection as it is, perhaps broken; nil if there was none.
func (r *run) monitor() *monitor.Monitor {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mon
}

// stateEvents are those of QEMU's events after which its run state may be another. (Those of QEMU 7.2.)
var stateEvents = map[string]bool{
	"STOP": true, "RESUME": true, "RESET": true, "SHUTDOWN": true, "SUSPEND": true, "SUSPEND_DISK": true, "WAKEUP": true,
	"WATCHDOG": true, "GUEST_PANICKED": true, "GUEST_CRASHLOADED": true, "BLOCK_IO_ERROR": true, "MIGRATION": true, "DUMP_COMPLETED": true,
}

// event takes in what QEMU tells.
func (r *run) event(e monitor.Event) {
	if e.Missed > 0 || stateEvents[e.Name] {
		defer r.v.changed(e.Missed > 0)
	}
	switch e.Name {
	case "DUMP_COMPLETED":
		r.dumpCompleted(e)
	case "MIGRATION":
		var data struct{ Status string }
		if e.Decode(&data) == nil && (data.Status == "completed" || data.Status == "failed") {
			select {
			case r.migration <- data.Status:
			default:
			}
		}
	case "BLOCK_IO_ERROR":
		r.diskError(e)
	case "RESUME":
		r.leaveQuota()
		if r.standing() != "" {
			r.resumed()
		}
	case "SHUTDOWN":
		var data struct {
			Guest  bool
			Reason string
		}
		_ = e.Decode(&data)
		r.mu.Lock()
		r.shutdown = data.Reason
		r.mu.Unlock()
	}
}

// resumed notes that the machine does not stand still from its snapshot any more: whatever stops it now is something else.
func (r *run) resumed() {
	if err := r.note(func(l *ledger) { l.Standing = "" }); err != nil {
		r.v.log.Warn("the machine's ledger is out of date: it still says that it stands as it was saved", "error", err)
	}
}

// shutdowns says what QEMU's reasons for ending mean. (ShutdownCause in the QMP schema of QEMU 7.2.)
var shutdowns = map[string]string{
	"guest-shutdown":        "the guest switched itself off",
	"guest-reset":           "the guest reset itself, and QEMU was told to end then (-no-reboot)",
	"guest-panic":           "the guest's operating system crashed, and QEMU was told to end then",
	"host-qmp-quit":         "someone else told QEMU to quit",
	"host-qmp-system-reset": "someone else reset it, and QEMU was told to end then (-no-reboot)",
	"host-signal":           "someone else sent QEMU a signal to end",
	"host-ui":               "someone closed its window",
	"host-error":            "QEMU ended because of an error on the host",
	"subsystem-reset":       "a part of it was reset, and QEMU was told to end then (-no-reboot)",
	"snapshot-load":         "QEMU ended while loading another state",
	"none":                  "QEMU ended without a reason",
}

// whyGone says why a QEMU has ended that was not told to by this driver.
func (r *run) whyGone() string {
	r.mu.Lock()
	told := r.told
	r.mu.Unlock()
	if told != nil {
		// What QEMU said last may still be on its way. It ends with the connection, which ends with the process, unless a
		// child of it has it too.
		select {
		case <-told:
		case <-time.After(time.Second):
		}
	}
	r.mu.Lock()
	reason := r.shutdown
	r.mu.Unlock()
	if text := shutdowns[reason]; text != "" {
		return text
	}
	if reason != "" {
		return reason
	}
	if !r.proc.Wait(exitTime) { // that it has ended is known a moment before how
		return "QEMU ended"
	}
	return "QEMU ended: " + r.howEnded()
}

// let lets go of the process and the connection to it, without ending it. What is in the file system stays.
func (r *run) let() {
	r.mu.Lock()
	if r.final {
		r.mu.Unlock()
		return
	}
	r.final = true
	m, c := r.mon, r.ledger.Capture
	r.mu.Unlock()
	close(r.released)
	if m != nil {
		_ = m.Close()
	}
	r.events.Wait()
	r.proc.Release()
	if c != nil {
		c.Tool.Release()
	}
}
