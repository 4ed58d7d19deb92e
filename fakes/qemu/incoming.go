//go:build linux

package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

func migrateIncoming(m *machine, _ *session, args *dict) (any, error) {
	if m.incoming == nil || m.incoming.arg != "defer" {
		return nil, generic("'-incoming' was not specified on the command line")
	}
	if m.migration.incoming {
		return nil, generic("The incoming migration has already been started")
	}
	// QEMU sends this one whether events were asked for or not, and before it looks at
	// the URI.
	m.event("MIGRATION", d("status", "setup"))
	in, err := m.openIncoming(args.str("uri"))
	if err != nil {
		return nil, err
	}
	m.migration.incoming = true
	m.migration.status = "setup"
	m.after = func() { go m.receive(in) }
	return nil, nil
}

// incomingFrom is where a state comes from.
type incomingFrom struct {
	r       io.ReadCloser
	regular bool
	child   *exec.Cmd
	listen  net.Listener
}

func (m *machine) openIncoming(uri string) (*incomingFrom, error) {
	proto, rest, _ := strings.Cut(uri, ":")
	switch proto {
	case "fd":
		fd, err := m.takeNamedOrNumber(rest)
		if err != nil {
			return nil, err
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return &incomingFrom{}, nil // QEMU 7.2 waits for ever on a descriptor that is not open
		}
		return &incomingFrom{r: os.NewFile(uintptr(fd), "incoming state"), regular: isRegular(fd)}, nil
	case "exec":
		cmd := exec.Command("/bin/sh", "-c", rest)
		cmd.Stderr = os.Stderr
		r, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			return nil, generic("Unable to run the command: %s", strerror(err))
		}
		return &incomingFrom{r: r, child: cmd}, nil
	case "unix":
		l, err := net.Listen("unix", rest)
		if err != nil {
			return nil, generic("Failed to bind socket to %s: %s", rest, strerror(err))
		}
		return &incomingFrom{listen: l}, nil
	case "tcp":
		return nil, generic("network sockets are not supported by the fake emulator")
	}
	return nil, generic("unknown migration protocol: %s", uri)
}

// receive waits for a state and makes it the machine's.
func (m *machine) receive(in *incomingFrom) {
	if in.listen != nil {
		conn, err := in.listen.Accept()
		in.listen.Close()
		if err != nil {
			return
		}
		in.r = conn
	}
	if in.r == nil {
		return
	}
	defer in.r.Close()
	if in.child != nil {
		defer in.child.Wait()
	}
	r := bufio.NewReaderSize(in.r, 64<<10)
	if _, err := r.Peek(1); err != nil && !in.regular {
		return // a pipe that is closed without a byte: QEMU stays as it is for ever
	}
	m.mu.Lock()
	m.migrationStatus("active")
	m.mu.Unlock()
	state, err := readStream(r, m.machineType, m.memory)
	if err == nil {
		if !m.planned(PointLoad) {
			return
		}
		err = m.become(state)
	}
	if err != nil {
		m.mu.Lock()
		var le *loadError
		if errors.As(err, &le) {
			for _, l := range le.lines {
				m.complain(l)
			}
		} else {
			m.complain(err.Error())
		}
		m.migrationStatus("failed")
		m.mu.Unlock()
		m.finish(1)
	}
}

// become makes the machine what was saved. It runs afterwards only if it ran when it
// was saved, and was not told to wait.
func (m *machine) become(s *saved) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ending {
		return nil
	}
	if err := m.guest.Load(s.guest); err != nil {
		return loadFailure(invalid, "error while loading state for instance 0x0 of device 'guest'")
	}
	if err := m.activate(); err != nil {
		// QEMU says so and goes on, paused.
		m.complain(err.Error())
		m.autostart = false
	}
	switch {
	case s.status == stateRunning && m.autostart:
		m.start()
	case s.status == stateRunning:
		m.status = statePaused
	default:
		m.status = s.status
	}
	m.migrationStatus("completed")
	return nil
}

// beginIncoming does what -incoming says.
func (m *machine) beginIncoming() error {
	if m.incoming.arg == "defer" {
		return nil
	}
	if rest, ok := strings.CutPrefix(m.incoming.arg, "fd:"); ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
		return failAt(*m.incoming, fmt.Errorf("Invalid file descriptor number '%s'", rest))
	}
	m.migrationStatus("setup")
	in, err := m.openIncoming(m.incoming.arg)
	if err != nil {
		return failAt(*m.incoming, err)
	}
	m.migration.incoming = true
	go m.receive(in)
	return nil
}
