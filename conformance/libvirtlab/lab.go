//go:build linux

// Package libvirtlab is the conformance suite's lab for drivers that use libvirt.
// It serves three kinds of daemon:
//
//   - the fake libvirtd of this module, which needs nothing on the host;
//   - a real libvirtd with its test driver (test:///default), whose machines
//     have power and states, and no guest;
//   - a real libvirtd with QEMU, whose machines run the suite's guest.
//
// A real libvirtd is the lab's own: it has its directories, sockets and processes
// below a directory of the lab's, is never the machine's, and ends with the
// program, however that ends. It runs as root, in namespaces of its own, or as
// any other user in libvirt's session mode.
//
// The lab writes the configuration in the form of Cuckoo3's kvm.yaml, so any
// driver that reads that can be tested on it. A machine whose snapshot is a
// memory image (see [conformance.SnapshotMemory]) has the key memory_path, which
// Cuckoo3 does not know.
//
// A program that uses it calls [Main], and the Main of package fakes/qemu, first
// thing in main or TestMain:
//
//	func TestMain(m *testing.M) {
//		fakeqemu.Main()
//		libvirtlab.Main()
//		os.Exit(m.Run())
//	}
package libvirtlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
)

// Options choose the daemon and what runs below it.
type Options struct {
	// Daemon is the path or name of a real libvirtd (or virtqemud); empty means the
	// fake one.
	Daemon string
	// Driver is libvirt's driver: "qemu" (the default) or "test".
	Driver string
	// Accel is the accelerator of QEMU, "tcg" (the default) or "kvm".
	Accel string
	// Emulator is the path or name of QEMU, by default qemu-system-x86_64.
	Emulator string
}

// Lab is the lab. Its daemon is started, and its snapshots are made, when they
// are first needed; both are kept until Close.
type Lab struct {
	program  string // path of the real libvirtd; empty for the fake
	driver   string
	accel    string
	emulator string

	mu     sync.Mutex
	home   string // where dir is made; empty for a temporary directory
	dir    string
	daemon daemon
	// before is the interposer that stands before the emulator of a machine for
	// which a fault is planned.
	before *fakeqemu.Installation
	saves  map[recipe]*saved
	serial int // of benches and templates, for names that are unique
	// hold is a connection that is kept open; see connectHold.
	hold *held
}

var (
	_ conformance.Lab     = (*Lab)(nil)
	_ conformance.Homed   = (*Lab)(nil)
	_ conformance.Kinder  = (*Lab)(nil)
	_ conformance.Crasher = (*Lab)(nil)
)

// New returns the lab. It fails if what it needs is not installed.
func New(_ context.Context, o Options) (*Lab, error) {
	l := &Lab{driver: o.Driver, accel: o.Accel, saves: make(map[recipe]*saved)}
	if l.driver == "" {
		l.driver = driverQEMU
	}
	if l.accel == "" {
		l.accel = "tcg"
	}
	if l.driver != driverQEMU && l.driver != driverTest {
		return nil, fmt.Errorf("the lab does not know libvirt's driver %q; use qemu or test", l.driver)
	}
	if l.accel != "tcg" && l.accel != "kvm" {
		return nil, fmt.Errorf("there is no accelerator %q; use tcg or kvm", l.accel)
	}
	var err error
	if o.Daemon == "" {
		if o.Driver != "" || o.Accel != "" || o.Emulator != "" {
			return nil, errors.New("the fake libvirtd has no drivers, accelerators or emulators to choose from")
		}
		l.accel = ""
		return l, nil
	}
	if l.program, err = lookPath(o.Daemon); err != nil {
		return nil, fmt.Errorf("the lab needs a libvirtd: %w (on Debian and Ubuntu: apt-get install libvirt-daemon)", err)
	}
	if l.driver == driverTest {
		return l, nil
	}
	if o.Emulator == "" {
		o.Emulator = "qemu-system-x86_64"
	}
	if l.emulator, err = lookPath(o.Emulator); err != nil {
		return nil, fmt.Errorf("the lab needs QEMU: %w (on Debian and Ubuntu: apt-get install qemu-system-x86)", err)
	}
	return l, nil
}

// libvirt's drivers that the lab knows.
const (
	driverQEMU = "qemu"
	driverTest = "test"
)

// lookPath finds a program in PATH, and where the daemons of a system are, which
// is in the PATH of root alone.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// bootPatience is how long a guest may take from its start to its first answer.
const bootPatience = 60 * time.Second

// Check starts the daemon and, where machines have guests, one of those, and
// returns an error if that does not run. New does not, because every worker
// process makes a lab.
func (l *Lab) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	if l.driver == driverTest {
		_, err := l.started(ctx)
		return err
	}
	if _, err := l.saved(ctx, recipe{}); err != nil {
		return fmt.Errorf("no guest runs here under libvirt with %s: %w", l.accel, err)
	}
	return nil
}

// fake reports whether the daemon is the fake one.
func (l *Lab) fake() bool { return l.program == "" }

// Info implements conformance.Lab.
func (l *Lab) Info(ctx context.Context) (conformance.LabInfo, error) {
	if l.fake() {
		return conformance.LabInfo{Name: "fake-libvirt", Hypervisor: "the fake libvirtd"}, nil
	}
	info := conformance.LabInfo{Name: "host-libvirt-" + l.accel, Hypervisor: "libvirt with QEMU", Accelerator: l.accel}
	if l.driver == driverTest {
		info = conformance.LabInfo{Name: "host-libvirt-test", Hypervisor: "libvirt's test driver"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d, err := l.started(ctx)
	if err != nil {
		return info, err
	}
	err = ask(ctx, d, func(c *client) error {
		// What libvirt calls the version of the hypervisor, as 7002022.
		n, err := c.ConnectGetVersion()
		info.Version = fmt.Sprintf("%d.%d.%d", n/1_000_000, n/1_000%1_000, n%1_000)
		return err
	})
	return info, err
}

// Crash implements conformance.Crasher. The fake daemon is a part of this program, and crashes with it.
func (l *Lab) Crash(ctx context.Context) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.daemon.(*hostDaemon); ok {
		return d.Crash(ctx)
	}
	return ""
}

// Home implements conformance.Homed.
func (l *Lab) Home(dir string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.home = dir
}

// Close implements conformance.Lab.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir == "" {
		return nil
	}
	l.hold.close()
	var err error
	if l.daemon != nil {
		err = l.daemon.Close()
	}
	if l.before != nil {
		err = errors.Join(err, l.before.Close())
	}
	err = errors.Join(err, os.RemoveAll(l.dir))
	l.dir, l.daemon, l.before, l.hold, l.saves = "", nil, nil, nil, make(map[recipe]*saved)
	return err
}

// Sweep implements conformance.Lab. The end of a keeper is the end of all that
// its daemon has started, as root; what is left of another user's ends here.
func (l *Lab) Sweep(ctx context.Context, dir string) error {
	return labkit.EndAll(ctx, dir+string(filepath.Separator))
}

// tempDir is where the lab keeps what it has. The caller holds the lock.
func (l *Lab) tempDir() (string, error) {
	if l.dir != "" {
		return l.dir, nil
	}
	dir := l.home
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("/tmp", "mml-")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", err
	}
	l.dir = dir
	return dir, nil
}

// started returns the daemon, and starts it if need be. The caller holds the
// lock.
func (l *Lab) started(ctx context.Context) (daemon, error) {
	if l.daemon != nil {
		return l.daemon, nil
	}
	dir, err := l.tempDir()
	if err != nil {
		return nil, err
	}
	if l.fake() {
		d, err := startFakeDaemon(filepath.Join(dir, "d"))
		if err != nil {
			return nil, err
		}
		l.daemon = d
		return d, nil
	}
	d, err := startHostDaemon(ctx, l.program, filepath.Join(dir, "d"), l.driver)
	if err != nil {
		return nil, err
	}
	l.daemon = d
	if l.driver == driverTest {
		if l.hold, err = connectHold(d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// interposer returns what stands before QEMU, and makes it if need be. The
// caller holds the lock.
func (l *Lab) interposer() (*fakeqemu.Installation, error) {
	if l.before != nil {
		return l.before, nil
	}
	dir, err := l.tempDir()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "bin")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	l.before, err = fakeqemu.Install(dir, fakeqemu.Options{Real: l.emulator})
	return l.before, err
}

// Socket is where the lab's daemon listens, and URI is what it calls what it
// manages; both are empty before it was started.
func (l *Lab) Socket() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.daemon == nil {
		return ""
	}
	return l.daemon.Socket()
}

// URI implements what Socket says.
func (l *Lab) URI() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.daemon == nil {
		return ""
	}
	return l.daemon.URI()
}
