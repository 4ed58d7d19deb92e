//go:build linux

package qemu

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/fakes/guest"
)

// The run states of QEMU that the fake can be in.
const (
	statePrelaunch   = "prelaunch"
	stateInmigrate   = "inmigrate"
	stateRunning     = "running"
	statePaused      = "paused"
	statePostmigrate = "postmigrate"
	stateFinish      = "finish-migrate"
	stateSave        = "save-vm"
	stateShutdown    = "shutdown"
	stateInternal    = "internal-error"
	stateIOError     = "io-error"
	stateWatchdog    = "watchdog"
	statePanicked    = "guest-panicked"
)

// machine is the emulator. Its mutex is what QEMU's "big lock" is: who holds it may
// change anything, and events are sent under it, so that their order is theirs.
type machine struct {
	*config
	prog   string
	stderr io.Writer

	control *link // to the installation; nil alone
	plan    *plan
	ready   chan struct{} // closed when commands can be answered
	ended   chan int      // the exit code
	signals chan os.Signal

	mu        sync.Mutex
	after     func() // to be done when the lock is free and the reply queued
	status    string
	guest     *guest.Model
	drives    []*drive
	network   []*netdev
	chardevs  []*chardev
	monitors  []*monitor
	fdsets    []*fdset
	fds       map[string]int // by getfd
	migration migration
	dump      dump
	ending    bool
	deaf      bool
	staying   bool
}

// fdset is a set of descriptors that was given by -add-fd or add-fd.
type fdset struct {
	id  int
	fds []setFD
}

type setFD struct {
	fd      int
	opaque  string
	removed bool
}

func (m *machine) running() bool { return m.status == stateRunning }

// newEvent is an event of now.
func newEvent(name string, data *dict) *dict {
	now := time.Now()
	e := d("timestamp", d("seconds", now.Unix(), "microseconds", now.Nanosecond()/1000), "event", name)
	if data != nil {
		e.set("data", data)
	}
	return e
}

func shutdownEvent() *dict { return newEvent("SHUTDOWN", d("guest", false, "reason", "host-qmp-quit")) }

// event tells every client.
func (m *machine) event(name string, data *dict) {
	b := encode(newEvent(name, data))
	for _, mon := range m.monitors {
		mon.deliver(name, b)
	}
	m.control.report(m.status)
}

// start lets the guest run, with its event.
func (m *machine) start() {
	if m.running() {
		return
	}
	m.status = stateRunning
	m.event("RESUME", nil)
	m.guest.Resume()
}

// stop lets the guest stand still in the given run state.
func (m *machine) stop(status string) {
	if !m.running() {
		return
	}
	m.guest.Pause()
	m.status = status
	m.event("STOP", nil)
}

// reset is the reset button, or what stands for it.
func (m *machine) reset(reason string) {
	if m.noReboot {
		m.shutdown(false, reason)
		return
	}
	m.event("RESET", d("guest", false, "reason", reason))
	m.guest.PowerOn()
	m.guest.Reset()
	if m.status != stateRunning && m.status != stateInmigrate && m.status != stateFinish {
		m.status = statePrelaunch
		m.activate()
	}
}

// guestPowerOff is called when the guest has switched itself off.
func (m *machine) guestPowerOff() {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return
	}
	m.event("SHUTDOWN", d("guest", true, "reason", "guest-shutdown"))
	if m.noShutdown {
		m.stop(stateShutdown)
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	m.end(0)
}

// guestReset is called when the guest has reset itself, before it boots again.
func (m *machine) guestReset() {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return
	}
	if m.noReboot {
		m.guest.PowerOff()
		m.event("SHUTDOWN", d("guest", true, "reason", "guest-reset"))
		if m.noShutdown {
			m.stop(stateShutdown)
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		m.end(0)
		return
	}
	m.event("RESET", d("guest", true, "reason", "guest-reset"))
	m.mu.Unlock()
}

// shutdown ends the emulator from outside of the guest. The machine is locked; the
// end comes when the reply is on its way.
func (m *machine) shutdown(isGuest bool, reason string) {
	m.event("SHUTDOWN", d("guest", isGuest, "reason", reason))
	m.after = func() { m.end(0) }
}

// signal is SIGTERM, SIGINT or SIGHUP.
func (m *machine) signal(number int) {
	m.mu.Lock()
	if m.deaf || m.staying || m.ending {
		m.mu.Unlock()
		return
	}
	parent := os.Getppid()
	who := "<unknown process>"
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", parent)); err == nil && len(b) > 0 {
		who, _, _ = strings.Cut(string(b), "\x00")
	}
	m.complain(fmt.Sprintf("terminating on signal %d from pid %d (%s)", number, parent, who))
	m.event("SHUTDOWN", d("guest", false, "reason", "host-signal"))
	m.mu.Unlock()
	m.end(0)
}

// end ends the emulator, unless a fault is planned for that.
func (m *machine) end(code int) {
	if m.planned(PointExit) {
		m.finish(code)
	}
}

// planned carries out what is planned for a moment of the emulator as a whole; false
// where it must not go on from there.
func (m *machine) planned(point Point) bool {
	for _, f := range m.plan.at(point, "") {
		if f.Deaf {
			m.deafen()
		}
		switch f.Action {
		case Delay:
			time.Sleep(f.Delay) // the fault itself
		case Exit:
			m.exit(f.Code, f.Text)
		case Kill:
			m.kill()
		case Noise:
			m.noise(f)
		case Hang:
			m.hangAll()
			return false
		case Stay:
			m.mu.Lock()
			m.staying = true
			m.mu.Unlock()
			return false
		}
	}
	return true
}

// flushPatience is how long an emulator that ends waits for a client to read what
// was said to it. QEMU does not wait at all.
const flushPatience = 200 * time.Millisecond

// finish lets go of everything and ends, once.
func (m *machine) finish(code int) {
	m.mu.Lock()
	if m.ending {
		m.mu.Unlock()
		return
	}
	m.ending = true
	sessions := m.sessions()
	m.mu.Unlock()
	for _, s := range sessions {
		s.line.flush(flushPatience) // a client that reads nothing does not keep QEMU from ending
	}
	m.mu.Lock()
	for _, c := range m.chardevs {
		c.close()
	}
	m.mu.Unlock()
	if m.guest != nil {
		m.guest.PowerOff()
	}
	m.mu.Lock()
	for _, d := range m.drives {
		d.deactivate()
	}
	m.closeNetwork()
	if m.pidfile != "" {
		os.Remove(m.pidfile)
	}
	m.mu.Unlock()
	for _, s := range sessions {
		s.line.close()
	}
	m.ended <- code
}

func (m *machine) sessions() []*session {
	var all []*session
	for _, mon := range m.monitors {
		if mon.session != nil {
			all = append(all, mon.session)
		}
	}
	return all
}

// hangAll makes every monitor silent for good.
func (m *machine) hangAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, mon := range m.monitors {
		mon.mu.Lock()
		mon.hung = true
		mon.mu.Unlock()
		if mon.session != nil {
			mon.session.line.hang()
		}
	}
}

// complain writes a message to stderr as QEMU does.
func (m *machine) complain(text string) { complainTo(m.stderr, m.prog, m.timestamps, text) }

func complainTo(w io.Writer, prog string, stamp bool, text string) {
	if stamp {
		prog = time.Now().UTC().Format("2006-01-02T15:04:05.000000Z ") + prog
	}
	fmt.Fprintf(w, "%s: %s\n", prog, text)
}

// The fates that faults can bring about.

func (m *machine) exit(code int, text string) {
	writeText(m.stderr, text)
	exitNow(code)
}

func (m *machine) kill() { killSelf() }

func (m *machine) noise(f Fault) { writeNoise(m.stderr, f) }

func (m *machine) deafen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = true
}

func writeText(w io.Writer, text string) {
	if text == "" {
		return
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	io.WriteString(w, text)
}

func writeNoise(w io.Writer, f Fault) {
	if f.Text != "" {
		writeText(w, f.Text)
		return
	}
	n := f.Bytes
	if n == 0 {
		n = 1 << 20
	}
	line := "qemu-system-x86_64: warning: this line is noise of a planned fault, it says nothing at all\n"
	for n > 0 {
		k := min(n, len(line))
		if _, err := io.WriteString(w, line[len(line)-k:]); err != nil {
			return
		}
		n -= k
	}
}
