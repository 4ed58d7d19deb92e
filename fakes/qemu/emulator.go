//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/machineries/machineries/fakes/guest"
)

// Run is the fake emulator on its own: `machinery fake qemu ARGS...`. It returns the
// exit code when the machine has ended, or when ctx is done, which is as SIGTERM.
func Run(ctx context.Context, args []string) int {
	return runEmulator(ctx, emulatorName, args, nil, nil)
}

// runEmulator is the life of one fake emulator.
func runEmulator(ctx context.Context, prog string, args []string, control *link, faults *plan) int {
	m := &machine{
		prog: prog, stderr: os.Stderr, control: control, plan: faults, deaf: faults.isDeaf(),
		ready: make(chan struct{}), ended: make(chan int, 1), signals: make(chan os.Signal, 4), fds: map[string]int{},
		migration: migration{capabilities: map[string]bool{}, parameters: defaultParameters()},
	}
	config, err := parseLine(prog, args, os.Stderr)
	if err == nil {
		m.config = config
		err = m.setUp()
	}
	if err != nil {
		return m.startFailed(err)
	}
	defer signal.Stop(m.signals)
	control.serve(m)
	done := ctx.Done()
	for {
		select {
		case s := <-m.signals:
			m.signal(int(s.(syscall.Signal)))
		case <-done:
			done = nil
			m.signal(int(syscall.SIGTERM))
		case code := <-m.ended:
			if m.guest != nil {
				m.guest.Close()
			}
			return code
		}
	}
}

// startFailed says why the emulator cannot start, and returns its exit code.
func (m *machine) startFailed(err error) int {
	m.mu.Lock()
	for _, c := range m.chardevs {
		c.close()
	}
	for _, d := range m.drives {
		d.deactivate()
	}
	m.closeNetwork()
	m.mu.Unlock()
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{1, err.Error()}
	}
	if e.code == 0 {
		io.WriteString(os.Stdout, e.text)
		return 0
	}
	if strings.HasPrefix(e.text, "qemu: ") {
		writeText(m.stderr, e.text) // some parts of QEMU call it by another name
	} else if e.text != "" {
		complainTo(m.stderr, m.prog, m.config != nil && m.timestamps, e.text)
	}
	return e.code
}

// setUp makes the machine, in the order in which QEMU does, because that decides
// which of several mistakes is named.
func (m *machine) setUp() error {
	if err := m.setUpDescriptors(); err != nil {
		return err
	}
	if m.pidfile != "" {
		if err := writePidfile(m.pidfile); err != nil {
			return err
		}
	}
	for _, o := range m.config.chardevs {
		c, err := openChardev(o)
		if err != nil {
			return failAt(o.option, err)
		}
		m.chardevs = append(m.chardevs, c)
	}
	if err := m.setUpGlobals(); err != nil {
		return err
	}
	m.guest = guest.New(guest.Options{Disk: guestDisk{m, 0}, Second: guestDisk{m, 1}, OnPowerOff: m.guestPowerOff, OnReset: m.guestReset})
	m.status = statePrelaunch
	if m.incoming != nil {
		m.status = stateInmigrate
	}
	// From here on somebody may talk to us, and expects a signal to be told as an event.
	signal.Notify(m.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	// Not ignored: commands of exec: would inherit that, and complain of what kills them
	// silently under QEMU.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if err := m.setUpMonitors(); err != nil {
		return err
	}
	if err := m.setUpDrives(); err != nil {
		return err
	}
	if err := m.setUpDevices(); err != nil {
		return err
	}
	m.setUpNetwork()
	if err := m.setUpObjects(); err != nil {
		return err
	}
	m.listen()
	m.guest.PowerOn()
	if m.loadvm != "" {
		if len(m.drives) == 0 {
			return fail("no block device can store vmstate for snapshot")
		}
		return fail("Snapshot '%s' does not exist in one or more devices", m.loadvm)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.incoming != nil {
		if err := m.beginIncoming(); err != nil {
			return err
		}
	} else {
		if err := m.activate(); err != nil {
			return fail("%v", err)
		}
		if m.autostart {
			m.start()
		}
	}
	close(m.ready)
	m.control.report(m.status)
	return nil
}

func writePidfile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fail("cannot create PID file: Could not create '%s': %s", path, strerror(err))
	}
	_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	return errors.Join(err, f.Close())
}

func (m *machine) setUpDescriptors() error {
	for _, o := range m.config.fds {
		v := parseOpts(o.arg, "", nil)
		fd, err := strconv.Atoi(v.get("fd"))
		switch {
		case !v.has("fd") || err != nil || fd < 0:
			return failAt(o, errors.New("fd option is required and must be non-negative"))
		case fd <= 2:
			return failAt(o, errors.New("fd cannot be a standard I/O stream"))
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return failAt(o, errors.New("fd is not valid or already in use"))
		}
		set, err := strconv.Atoi(v.get("set"))
		if err != nil || set < 0 {
			return failAt(o, errors.New("set option is required and must be non-negative"))
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return failAt(o, fmt.Errorf("error duplicating fd: %s", strerror(err)))
		}
		m.addToSet(set, setFD{fd: dup, opaque: v.get("opaque")})
	}
	for _, o := range m.config.fds {
		fd, _ := strconv.Atoi(parseOpts(o.arg, "", nil).get("fd"))
		unix.Close(fd)
	}
	return nil
}

// setUpGlobals knows the properties of "migration", the only ones that the fake has.
func (m *machine) setUpGlobals() error {
	for _, o := range m.globals {
		v := parseOpts(o.arg, "", nil)
		driver, property, value := v.get("driver"), v.get("property"), v.get("value")
		if left, right, ok := strings.Cut(o.arg, "="); ok && driver == "" {
			driver, property, _ = strings.Cut(left, ".")
			value = right
		}
		if driver != "migration" {
			continue
		}
		if property != "x-events" {
			known := false
			for _, n := range capabilityNames {
				known = known || "x-"+n == property
			}
			for _, p := range parameterDefaults {
				known = known || p.name == property
			}
			if !known && !words("store-global-state send-configuration send-section-footer decompress-error-check multifd-flush-after-each-section clear-bitmap-shift x-preempt-pre-7-2")[property] {
				return fail("can't apply global migration.%s=%s: Property 'migration.%s' not found", property, value, property)
			}
			continue
		}
		on, err := (&opts{values: map[string]string{property: value}}).bool(property, false)
		if err != nil {
			return fail("can't apply global migration.%s=%s: %v", property, value, err)
		}
		m.events = on
	}
	return nil
}

func (m *machine) findChardev(id string) *chardev {
	for _, c := range m.chardevs {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (m *machine) setUpMonitors() error {
	for _, o := range m.config.monitors {
		c := m.findChardev(o.chardev)
		if c == nil {
			return failAt(o.option, fmt.Errorf("chardev \"%s\" not found", o.chardev))
		}
		if c.used {
			return failAt(o.option, fmt.Errorf("Device '%s' is in use", c.id))
		}
		c.used = true
		if !o.control {
			go m.serveHuman(c)
			continue
		}
		mon := &monitor{m: m, chardev: c, plan: m.plan}
		m.monitors = append(m.monitors, mon)
		go mon.serve()
	}
	return nil
}

// serveSerial lets one after the other talk to the guest.
func (m *machine) serveSerial(c *chardev, connected *notify) {
	for {
		if connected != nil {
			<-connected.gone
			c.setOpen(false)
		}
		conn, err := c.next()
		if err != nil {
			return
		}
		connected = m.attach(c, conn)
	}
}

func (m *machine) attach(c *chardev, conn io.ReadWriteCloser) *notify {
	n := newNotify(conn)
	c.setOpen(true)
	m.guest.Attach(n)
	return n
}

// serveHuman is a human monitor: lines in, text out.
func (m *machine) serveHuman(c *chardev) {
	for {
		conn, err := c.next()
		if err != nil {
			return
		}
		<-m.ready
		fmt.Fprintf(conn, "QEMU %d.%d.%d monitor - type 'help' for more information\r\n(qemu) ", versionMajor, versionMinor, versionMicro)
		m.humanSession(conn)
		conn.Close()
	}
}

func (m *machine) humanSession(conn io.ReadWriteCloser) {
	var line []byte
	buf := make([]byte, 256)
	for {
		n, err := conn.Read(buf)
		for _, b := range buf[:n] {
			if b != '\n' && b != '\r' {
				line = append(line, b)
				continue
			}
			m.mu.Lock()
			text := m.human(nil, string(line))
			then := m.after
			m.after = nil
			m.mu.Unlock()
			line = line[:0]
			fmt.Fprintf(conn, "\r\n%s(qemu) ", text)
			if then != nil {
				then()
			}
		}
		if err != nil {
			return
		}
	}
}

// killSelf ends the process as SIGKILL from outside would.
func killSelf() {
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	forever() // the signal is on its way
}

// exitNow ends the process at once. It goes around the runtime, which in a binary
// built with -race would wait for a second.
func exitNow(code int) { unix.Exit(code) }
