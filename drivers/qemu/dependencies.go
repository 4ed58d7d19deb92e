//go:build linux

package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// CheckDependencies is whether the host has what the driver needs to start machines: the emulator, which can be run and is of version
// 6.0 or later; the runtime directory, closed to others; the directories for disposable disks, writable; tcpdump, if traffic is to
// be recorded by it; and /dev/kvm, if the arguments of a machine ask for it. It starts no machine, but runs the emulator with --version, unless that is known.
//
// The error is of kind ErrDependency and names all that is missing.
func (d *Machinery) CheckDependencies(ctx context.Context) error {
	const op = machinery.OpDependencies
	if err := d.frame.Begin(ctx, op); err != nil {
		return err
	}
	var missing []error
	note := func(err error, what string) {
		if err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", what, err))
		}
	}
	note(d.checkVersion(ctx), "QEMU cannot be used")
	if ctx.Err() != nil {
		return fault.Interrupted(op, "", ctx, "asking the emulator for its version")
	}
	note(d.checkRuntimeDir(), "the runtime directory "+d.runtimeDir+" cannot be used")
	for _, dir := range d.overlayDirs() {
		note(outfile.WritableDir(dir), "no disposable disks can be made")
	}
	if d.config.Capture == CaptureTcpdump {
		note(hostfile.CheckProgram(d.config.Tcpdump), "traffic cannot be recorded by tcpdump (on Debian and Ubuntu: apt-get install tcpdump)")
	}
	if slices.ContainsFunc(d.frame.All(), (*vm).wantsKVM) {
		note(checkKVM(), "there is no KVM, which a machine's arguments ask for")
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.Fail(op, "", machinery.ErrDependency, fault.Join(missing), "the machines cannot be started on this host")
}

// checkVersion is whether the emulator can be run and is recent enough.
func (d *Machinery) checkVersion(ctx context.Context) error {
	if err := hostfile.CheckProgram(d.config.QEMU); err != nil {
		return err
	}
	v, err := d.version.of(ctx, d.config.QEMU)
	if err != nil {
		return err
	}
	if v.Major < oldestMajor {
		return fmt.Errorf("%s is of version %s, and %d.0 or later is needed", d.config.QEMU, v, oldestMajor)
	}
	return nil
}

// checkRuntimeDir is whether the runtime directory is as New left it.
func (d *Machinery) checkRuntimeDir() error {
	if err := rundir.CheckPrivate(d.runtimeDir); err != nil {
		return err
	}
	return outfile.WritableDir(d.runtimeDir)
}

// overlayDirs are the directories for disposable disks, each once.
func (d *Machinery) overlayDirs() []string {
	if d.config.DisposableDir != "" {
		return []string{d.config.DisposableDir}
	}
	var dirs []string
	for _, v := range d.frame.All() {
		if dir := filepath.Dir(v.overlays[0]); v.bad == nil && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// wantsKVM is whether the machine's arguments name KVM as the only accelerator: with others beside it QEMU does without.
func (v *vm) wantsKVM() bool {
	if v.args == nil {
		return false
	}
	var accels []string
	args := v.args.args
	for i := 0; i < len(args); i++ {
		name, is := optionName(args[i])
		if !is || options[name].flag {
			if name == "enable-kvm" {
				accels = append(accels, "kvm")
			}
			continue
		}
		i++
		if i == len(args) || name != "accel" && name != "M" && name != "machine" {
			continue
		}
		for at, s := range settings(args[i]) {
			switch {
			case s.key == "accel":
				accels = append(accels, strings.Split(s.value, ":")...)
			case at == 0 && name == "accel":
				accels = append(accels, s.key)
			}
		}
	}
	return len(accels) > 0 && !slices.ContainsFunc(accels, func(a string) bool { return a != "kvm" })
}

const deviceKVM = "/dev/kvm"

// checkKVM is whether the host's KVM can be opened.
func checkKVM() error {
	f, err := os.OpenFile(deviceKVM, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return f.Close()
}
