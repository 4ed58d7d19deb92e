//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/rundir"
	"golang.org/x/sys/unix"
)

// The files in a machine's runtime directory, besides its lock.
const (
	qmpSocket  = "qmp.sock"
	readSocket = "read.sock"
	stateFile  = "state.json"
	screenFile = "screen" // a picture, for as long as it takes to read it
)

// hold is the right to change a machine: its runtime directory, locked.
type hold struct{ *rundir.Hold }

// acquire takes the lock of the machine whose runtime directory is path. The error is a *rundir.HeldError if another driver has it.
func acquire(path string) (*hold, error) {
	h, err := rundir.Acquire(path)
	if err != nil {
		return nil, err
	}
	return &hold{h}, nil
}

// socket makes a listening socket in the directory. The caller hands it to QEMU and closes it; the file stays.
func (h *hold) socket(name string) (*os.File, error) {
	path := filepath.Join(h.Path, name)
	if err := h.Dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("no socket can be made: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		f.Close()
		return nil, fmt.Errorf("no socket can be made at %s: %w", path, err)
	}
	// Readers wait in the queue while another one is served.
	if err := unix.Listen(fd, 16); err != nil {
		f.Close()
		return nil, fmt.Errorf("no socket can be made at %s: %w", path, err)
	}
	return f, nil
}

// qmp is the path of the first monitor's socket.
func (h *hold) qmp() string { return filepath.Join(h.Path, qmpSocket) }

// remove takes the directory and all that is in it away, the lock last, and lets go of it.
func (h *hold) remove() error {
	return h.Remove(stateFile, stateFile+".new", screenFile, qmpSocket, readSocket)
}
