//go:build linux

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the choices of Install. The zero value is the fake emulator.
type Options struct {
	// Real is the path of a real qemu-system-x86_64. Where it is set, the installed
	// emulator stands in front of that one: it applies the planned faults and otherwise is
	// the real one. The installed qemu-img is then the real one of RealImg.
	Real string
	// RealImg is the real qemu-img, where Real is set; "" looks in PATH.
	RealImg string
	// Watch keeps the interposer between client and real emulator even where no wire
	// fault is planned, so that Process.Commands and Process.Do work. Without it the real
	// emulator simply takes the process over (same pid).
	Watch bool
}

// Installation is a directory with an emulator in it, and the control over every
// emulator that is started from there. All methods may be called from several
// goroutines.
type Installation struct {
	// Dir is the directory; Emulator and Img are the programs in it.
	Dir, Emulator, Img string

	options Options
	listen  *net.UnixListener
	tmp     string // the directory of the control socket, if that is not Dir
	serving sync.WaitGroup

	mu     sync.Mutex
	plans  []match
	procs  []*Process
	closed bool
}

// match is what was planned for the emulators whose command line has a text in it.
type match struct {
	text   string
	faults []Fault
}

// marker is the file beside an installed emulator that tells the program of this
// package's name that it is one.
const marker = ".machineries-fake-qemu"

// controlName is the control socket, beside the marker.
const controlName = ".machineries-control"

// maxSocketPath is the longest path that a unix socket can have on Linux.
const maxSocketPath = 107

// installed is the marker's content.
type installed struct {
	Control string // unix socket
	Real    string `json:",omitempty"`
	RealImg string `json:",omitempty"`
	Watch   bool   `json:",omitempty"`
}

// names are the programs that are installed.
const (
	emulatorName = "qemu-system-x86_64"
	imgName      = "qemu-img"
)

// Install puts qemu-system-x86_64 and qemu-img into dir, which must exist: links to
// the running program, whose main or TestMain has to call [Main] first. Existing files of
// these names are an error.
func Install(dir string, o Options) (*Installation, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("install the fake QEMU: %w", err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("install the fake QEMU: %w", err)
	}
	if o.Real != "" && o.RealImg == "" {
		o.RealImg = imgName
	}
	// The socket lies beside the programs, so that whoever removes dir removes all,
	// also when this process was killed. Where that path is too long for a socket, a
	// directory of its own keeps it short.
	tmp, socket := "", filepath.Join(dir, controlName)
	if len(socket) > maxSocketPath {
		if tmp, err = os.MkdirTemp("/tmp", "mq"); err != nil {
			return nil, fmt.Errorf("install the fake QEMU: %w", err)
		}
		socket = filepath.Join(tmp, "control")
	}
	in := &Installation{Dir: dir, Emulator: filepath.Join(dir, emulatorName), Img: filepath.Join(dir, imgName), options: o, tmp: tmp}
	in.listen, err = net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("install the fake QEMU: %w", err), os.RemoveAll(tmp))
	}
	b, err := json.Marshal(installed{Control: socket, Real: o.Real, RealImg: o.RealImg, Watch: o.Watch})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, marker), b, 0o600)
	}
	for _, name := range []string{in.Emulator, in.Img} {
		if err == nil {
			err = os.Symlink(self, name)
		}
	}
	in.serving.Go(in.serve)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("install the fake QEMU: %w", err), in.Close())
	}
	return in, nil
}

// Plan makes the faults strike in every emulator that is started from now on and
// whose command line (arguments joined by blanks) contains match; "" matches all. What was
// planned for the same match before is replaced. Emulators that run already keep
// theirs: see Process.Plan. Faults that would do nothing are an error.
func (in *Installation) Plan(match string, faults ...Fault) error {
	for _, f := range faults {
		if err := f.check(in.options.Real != ""); err != nil {
			return err
		}
	}
	in.setPlan(match, faults)
	return nil
}

// Clear takes back what was planned for match.
func (in *Installation) Clear(match string) { in.setPlan(match, nil) }

func (in *Installation) setPlan(text string, faults []Fault) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.plans {
		if in.plans[i].text == text {
			in.plans = append(in.plans[:i], in.plans[i+1:]...)
			break
		}
	}
	if len(faults) > 0 {
		in.plans = append(in.plans, match{text, faults})
	}
}

// faultsFor is what is planned for a command line.
func (in *Installation) faultsFor(args []string) []Fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	line := strings.Join(args, " ")
	var faults []Fault
	for _, m := range in.plans {
		if strings.Contains(line, m.text) {
			faults = append(faults, m.faults...)
		}
	}
	return faults
}

// remembered is how many emulators are remembered once some of them have ended.
const remembered = 200

// remember adds an emulator, and forgets the oldest that have ended. The caller
// holds mu.
func (in *Installation) remember(p *Process) {
	for i := 0; len(in.procs) >= remembered && i < len(in.procs); {
		if in.procs[i].Alive() {
			i++
			continue
		}
		in.procs = slices.Delete(in.procs, i, i+1)
	}
	in.procs = append(in.procs, p)
}

// Processes returns the emulators that were started from this installation, in
// the order in which they were. Of those that have ended, only the last two
// hundred are remembered.
func (in *Installation) Processes() []*Process {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]*Process(nil), in.procs...)
}

// Alive returns the emulators that have not ended.
func (in *Installation) Alive() []*Process {
	var alive []*Process
	for _, p := range in.Processes() {
		if p.Alive() {
			alive = append(alive, p)
		}
	}
	return alive
}

// Close kills every emulator that still runs, waits until they are gone and removes
// what Install made. Calling it again does nothing.
func (in *Installation) Close() error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return nil
	}
	in.closed = true
	in.mu.Unlock()
	in.listen.Close()
	var errs []error
	for _, p := range in.Processes() {
		errs = append(errs, p.end(10*time.Second))
	}
	in.serving.Wait()
	for _, name := range []string{in.Emulator, in.Img} {
		if target, err := os.Readlink(name); err == nil && target != "" {
			errs = append(errs, os.Remove(name))
		}
	}
	if err := os.Remove(filepath.Join(in.Dir, marker)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	errs = append(errs, os.RemoveAll(in.tmp))
	return errors.Join(errs...)
}
