//go:build linux

package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/frame"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
)

// New makes the driver for a configuration. A machine that cannot be used does not stop the others: it is listed, its state is
// error with the reason while it is off, and it cannot be started; one that still runs can be stopped. Without an emulator
// (ErrDependency) or a directory for disposable disks (ErrConfig) that is so for all machines. New itself fails where nothing
// could work: a runtime directory that cannot be used, machines without a name or with the same (ErrConfig).
//
// New starts nothing and takes no lock. The caller has to Close what it returns.
func New(ctx context.Context, c Config, o machinery.Options) (*Machinery, error) {
	if ctx.Err() != nil {
		return nil, fault.Interrupted(machinery.OpOpen, "", ctx, "not begun")
	}
	c.RuntimeDir = cmp.Or(o.RuntimeDir, c.RuntimeDir, rundir.Default())
	runtimeDir, err := rundir.Make(c.RuntimeDir, readSocket)
	if err != nil {
		return nil, fault.Fail(machinery.OpOpen, "", machinery.ErrConfig, err, "the runtime directory %s cannot be used", c.RuntimeDir)
	}
	d, err := newIn(runtimeDir, c, o)
	if err != nil {
		return nil, err
	}
	// What runs can be seen and stopped without an emulator and without a place for disposable disks; only no machine can be started.
	if kind, missing := d.config.missing(); missing != nil {
		for _, v := range d.frame.All() {
			if v.bad == nil {
				v.badKind = kind
			}
			v.worse(missing)
		}
	}
	for _, v := range d.frame.All() {
		if problem := v.problem(); problem != nil {
			v.log.Warn("the machine cannot be used", "error", problem)
		}
	}
	if d.endMachines {
		d.starter = process.NewStarter()
	}
	return d, nil
}

// missing is what no machine can be started without, and the kind of error that this is; nil if all is there.
func (c Config) missing() (kind, err error) {
	if err := hostfile.CheckProgram(c.QEMU); err != nil {
		return machinery.ErrDependency, fmt.Errorf("QEMU cannot be used: %w", err)
	}
	if c.Capture != CaptureFilterDump && c.Capture != CaptureTcpdump {
		return machinery.ErrConfig, fmt.Errorf("capture is %q; %s and %s are known", c.Capture, CaptureFilterDump, CaptureTcpdump)
	}
	if c.DisposableDir != "" {
		if err := outfile.WritableDir(c.DisposableDir); err != nil {
			return machinery.ErrConfig, fmt.Errorf("the directory for disposable disks cannot be used: %w", err)
		}
	}
	return nil, nil
}

// newIn makes the driver with a runtime directory that need not be there yet. It looks at each machine, and makes nothing.
func newIn(runtimeDir string, c Config, o machinery.Options) (*Machinery, error) {
	c = c.withDefaults()
	c.QEMU, _ = filepath.Abs(c.QEMU)
	if c.DisposableDir != "" {
		c.DisposableDir = outfile.RealPath(c.DisposableDir)
	}
	d := &Machinery{config: c, runtimeDir: runtimeDir, endMachines: o.EndMachines, log: o.Logger, frame: frame.New[*vm]()}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	for _, m := range c.Machines {
		if err := d.frame.Add(d.newVM(m)); err != nil {
			return nil, err
		}
	}
	refuseShared(d.frame.All())
	return d, nil
}

// newVM checks a machine and all that it names.
func (d *Machinery) newVM(m MachineConfig) *vm {
	if m.Interface == "" {
		m.Interface = d.config.Interface
	}
	if m.AgentPort == 0 {
		m.AgentPort = DefaultAgentPort
	}
	v := &vm{d: d, conf: m, badKind: machinery.ErrConfig, log: d.log.With("machine", m.Name), reading: make(chan struct{}, 1)}
	v.machine = frame.Described(machinery.Machine{
		Name: m.Name, IP: m.IP, MACAddress: m.MACAddress, Platform: m.Platform, OSVersion: m.OSVersion, Architecture: m.Architecture,
		Interface: m.Interface, AgentPort: m.AgentPort, Tags: m.Tags,
	})
	v.conf.Disk, v.conf.Snapshot = outfile.RealPath(m.Disk), outfile.RealPath(m.Snapshot)
	v.dir = filepath.Join(d.runtimeDir, rundir.Key(m.Name, d.config.where(m)))
	v.bad, v.unsaved = v.check(m), m.unsaved
	v.overlays = overlayPaths(overlayPath(d.config.DisposableDir, v.conf.Disk, m.Name, rundir.Key(m.Name, "")), len(v.media()))
	if v.unsaved == nil && m.problem == nil {
		v.unsaved = v.checkSnapshot()
	}
	if v.problem() == nil {
		v.bases.see(v.conf.Snapshot, v.disks())
	}
	return v
}

// checkSnapshot is what is wrong with the machine's snapshot.
func (v *vm) checkSnapshot() error {
	if v.conf.Snapshot == "" {
		return errors.New("no snapshot is named")
	}
	f, _, err := openSnapshot(v.conf.Snapshot)
	if err != nil {
		return fmt.Errorf("the snapshot cannot be used: %w", err)
	}
	return f.Close()
}

// check is all that is wrong with a machine, but for its snapshot.
func (v *vm) check(m MachineConfig) error {
	if m.problem != nil {
		return m.problem // the files that are wrong are among what the configuration's schema found
	}
	var problems []error
	note := func(err error, format string, args ...any) {
		if err != nil {
			problems = append(problems, fmt.Errorf(format+": %w", append(args, err)...))
		}
	}
	if m.Disk == "" {
		problems = append(problems, errors.New("no disk is named"))
	} else {
		_, err := checkDisk(v.conf.Disk)
		note(err, "the disk cannot be used")
		if v.d.config.DisposableDir == "" && err == nil {
			note(outfile.WritableDir(filepath.Dir(v.conf.Disk)), "there is no directory for disposable disks, and none can be made beside the disk")
		}
	}
	args, err := m.Args, error(nil)
	where := "the arguments of the machine cannot be used"
	if args == nil {
		if m.Info == "" {
			err = errors.New("neither a machineinfo.json nor arguments are given")
		} else {
			args, err = readMachineInfo(m.Info)
			where = "the machineinfo.json cannot be used"
		}
	}
	if err == nil {
		v.args, err = parseArgs(args, v.conf.Disk)
		if m.Args == nil {
			err = fault.Join(fault.NotNil(err, unallowed(args, slices.Concat(v.d.config.AllowArguments, m.AllowArguments), m.place)))
		}
		if err != nil && m.Args == nil {
			err = fmt.Errorf("%s: %w", m.Info, err)
		}
		v.sandbox = sandboxFor(args, v.d.config.NoSandbox)
	}
	note(checkAllowed(slices.Concat(v.d.config.AllowArguments, m.AllowArguments)), "the configuration has a mistake")
	note(err, "%s", where)
	for _, m := range v.media() {
		_, err := m.check()
		note(err, "a medium cannot be used (argument %d)", m.arg+1)
	}
	return fault.Join(problems)
}

// refuseShared refuses machines that share a disk or a snapshot, by whichever names: one's run would be the other's.
func refuseShared(machines []*vm) {
	type file struct{ dev, ino uint64 }
	type claim struct {
		v    *vm
		what string
		path string
	}
	first := map[file]claim{}
	for _, v := range machines {
		claims := []claim{{v, "disk", v.conf.Disk}, {v, "snapshot", v.conf.Snapshot}}
		for _, m := range v.media() {
			claims = append(claims, claim{v, "medium", m.path})
		}
		for _, c := range claims {
			info, err := os.Stat(c.path)
			if c.path == "" || err != nil || !info.Mode().IsRegular() {
				continue // has its own problem
			}
			s, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				continue
			}
			id := file{uint64(s.Dev), s.Ino}
			other, taken := first[id]
			if !taken {
				first[id] = c
				continue
			}
			c.v.worse(sharing(c.what, c.path, other.what, other.v, other.path))
			if other.v != v {
				other.v.worse(sharing(other.what, other.path, c.what, v, c.path))
			}
		}
	}
}

// worse adds a problem to those of a machine.
func (v *vm) worse(problem error) {
	v.bad = fault.Add(v.bad, problem)
}

func sharing(what, path, otherWhat string, other *vm, otherPath string) error {
	place := ""
	if other.conf.place != "" {
		place = " (" + other.conf.place + ")"
	}
	return fmt.Errorf("its %s %s is also the %s %s of machine %q%s; give each machine its own copy", what, path, otherWhat, otherPath, other.machine.Name, place)
}
