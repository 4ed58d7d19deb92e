//go:build linux

// Package qemulab is the conformance suite's lab for drivers that run QEMU. The
// same lab serves the fake emulator of this module, which needs nothing on the
// host, and a real one: machines, snapshots, faults and the accounting for
// what is left are the same.
//
// It writes the configuration in the form of Cuckoo3's qemu.yaml, with a
// machineinfo.json for each machine, so any driver that reads those can be
// tested on it.
//
// A program that uses the fake emulator calls [fakeqemu.Main] first thing in
// main or TestMain, because the emulator is that program, run again:
//
//	func TestMain(m *testing.M) {
//		fakeqemu.Main()
//		os.Exit(m.Run())
//	}
package qemulab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance"
)

// Options choose the emulator. The zero value is the fake one.
type Options struct {
	// Emulator is the path or name of a real qemu-system-x86_64; empty means
	// the fake emulator.
	Emulator string
	// Accel is the accelerator, "tcg" (the default) or "kvm". With "kvm", New
	// starts a guest and fails if it does not run: that /dev/kvm opens proves
	// nothing.
	Accel string
}

// Lab is the lab. Its snapshots are made when they are first needed and kept
// until Close.
type Lab struct {
	emulator string // path of the real emulator; empty for the fake
	accel    string
	version  string

	mu    sync.Mutex
	home  string // where dir is made; empty for a temporary directory
	dir   string
	saves map[template]*saved
}

var (
	_ conformance.Lab    = (*Lab)(nil)
	_ conformance.Homed  = (*Lab)(nil)
	_ conformance.Kinder = (*Lab)(nil)
)

// New returns the lab. It fails if the emulator is not there or runs no guest.
func New(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{accel: o.Accel, saves: make(map[template]*saved)}
	if l.accel == "" {
		l.accel = "tcg"
	}
	if l.accel != "tcg" && l.accel != "kvm" {
		return nil, fmt.Errorf("there is no accelerator %q; use tcg or kvm", l.accel)
	}
	if o.Emulator == "" {
		if l.accel == "kvm" {
			return nil, errors.New("the fake emulator has no KVM")
		}
		return l, nil
	}
	path, err := exec.LookPath(o.Emulator)
	if err != nil {
		return nil, fmt.Errorf("the host lab needs QEMU: %w (on Debian and Ubuntu: apt-get install qemu-system-x86)", err)
	}
	l.emulator = path
	if l.version, err = emulatorVersion(ctx, path); err != nil {
		return nil, err
	}
	return l, nil
}

// bootPatience is how long a guest may take from the emulator's start to its
// first answer. It takes 0.1 s with TCG, and 2 s in SeaBIOS with nested KVM.
const bootPatience = 60 * time.Second

// Check starts a guest and returns an error if it does not run. New does not,
// because every worker process makes a lab.
func (l *Lab) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	if _, err := l.saved(ctx, template{}); err != nil {
		return fmt.Errorf("no guest runs here with -accel %s: %w", l.accel, err)
	}
	return nil
}

var versionPattern = regexp.MustCompile(`version (\d+\.\d+(\.\d+)?)`)

// emulatorVersion asks a real emulator for its version.
func emulatorVersion(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	found := versionPattern.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("%s --version does not tell a version: %q", path, out)
	}
	return string(found[1]), nil
}

func (l *Lab) fake() bool { return l.emulator == "" }

// Info implements conformance.Lab.
func (l *Lab) Info(context.Context) (conformance.LabInfo, error) {
	if l.fake() {
		return conformance.LabInfo{Name: "fake-qemu", Hypervisor: "the fake QEMU"}, nil
	}
	return conformance.LabInfo{Name: "host-qemu-" + l.accel, Hypervisor: "QEMU", Version: l.version, Accelerator: l.accel}, nil
}

// offered is what this lab can do, with both emulators.
var offered = map[conformance.Feature]bool{
	conformance.FeaturePower:       true,
	conformance.FeatureGuest:       true,
	conformance.FeatureSavedPaused: true,
	conformance.FeatureKinds:       true,
	conformance.FeatureDamage:      true,
	conformance.FeatureLeftovers:   true,
	conformance.FeatureDump:        true,
	conformance.FeatureDisplay:     true,
	conformance.FeatureSecondDisk:  true,
	conformance.FeatureProcess:     true,
	conformance.FeatureDangerous:   true,
	conformance.FeatureNetwork:     true,

	conformance.FaultFeature(conformance.FaultKill):          true,
	conformance.FaultFeature(conformance.FaultWedge):         true,
	conformance.FaultFeature(conformance.FaultSilent):        true,
	conformance.FaultFeature(conformance.FaultStrangerPause): true,
	conformance.FaultFeature(conformance.FaultSlowStart):     true,
	conformance.FaultFeature(conformance.FaultRefuseStart):   true,
	conformance.FaultFeature(conformance.FaultNeverReady):    true,
	conformance.FaultFeature(conformance.FaultNoise):         true,
	conformance.FaultFeature(conformance.FaultRefuseResume):  true,
	conformance.FaultFeature(conformance.FaultRefuseQuit):    true,
	conformance.FaultFeature(conformance.FaultRefuseDump):    true,
	conformance.FaultFeature(conformance.FaultSlowDump):      true,
	conformance.FaultFeature(conformance.FaultNoProgram):     true,
	conformance.FaultFeature(conformance.FaultChangeDisk):    true,

	conformance.FaultFeature(conformance.FaultChangeSecondDisk): true,
}

// ofDaemons are the faults that only a daemon can have.
var ofDaemons = []conformance.Feature{
	conformance.FaultFeature(conformance.FaultRestart), conformance.FaultFeature(conformance.FaultGone), conformance.FaultFeature(conformance.FaultLocked),
}

// Offers implements conformance.Lab.
func (l *Lab) Offers(f conformance.Feature) (bool, string) {
	if offered[f] {
		return true, ""
	}
	return false, "the QEMU lab does not know it"
}

// Kinds implements conformance.Kinder.
func (l *Lab) Kinds() []conformance.SnapshotKind {
	return []conformance.SnapshotKind{conformance.SnapshotPlain, conformance.SnapshotGzip, conformance.SnapshotLZ4, conformance.SnapshotZstd}
}

// Exempt implements conformance.Exempter.
func (l *Lab) Exempt(f conformance.Feature) string {
	if slices.Contains(ofDaemons, f) {
		return "QEMU has no daemon between a driver and its machines"
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
	err := os.RemoveAll(l.dir)
	l.dir, l.saves = "", make(map[template]*saved)
	return err
}

// tempDir is where the lab keeps its snapshots. The caller holds the lock.
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
