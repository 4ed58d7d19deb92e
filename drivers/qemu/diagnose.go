//go:build linux

package qemu

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/machineries/machineries/drivers/internal/diagnosis"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/drivers/internal/rundir"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// noRuntimeDir is where there can be no directory: what belongs to running machines is not looked for in one that others may write to.
const noRuntimeDir = "/proc/machineries"

// Diagnose looks at an installation: the programs, their versions, whether a guest runs with the accelerator that machines ask for,
// directories and the room in them, network interfaces, the right to record traffic, each machine's files and how they fit together, and
// what is left of runs that are over. It starts no machine, makes no runtime directory and takes no lock. Without a document it looks at
// what the driver's defaults need.
//
// With o.Deep, snapshots are unpacked and files whose times are not those in their manifests are read through, and a guest is tried without KVM too.
func Diagnose(ctx context.Context, doc *config.Document, o machinery.DiagnoseOptions) []machinery.Finding {
	if doc == nil {
		return diagnose(ctx, Config{}, o, false)
	}
	return diagnose(ctx, FromDocument(doc), o, true)
}

// diagnose is Diagnose for a Config, which is the defaults if nothing is configured.
func diagnose(ctx context.Context, c Config, o machinery.DiagnoseOptions, configured bool) []machinery.Finding {
	x := &examination{deep: o.Deep, configured: configured}
	runtimeDir := x.runtime(c, o.RuntimeDir)
	directories := x.Found
	x.Found = nil
	d, err := newIn(cmp.Or(runtimeDir, noRuntimeDir), c, o.Options)
	if err != nil {
		x.Failed(diagnosis.About(machinery.AreaConfiguration, "machines", ""), err, "")
		return x.Found
	}
	defer d.Close()
	x.d, x.blind = d, runtimeDir == ""
	x.programs(ctx)
	x.Found = append(x.Found, directories...)
	if c.DisposableDir != "" {
		x.Directory(diagnosis.About(machinery.AreaDirectories, c.DisposableDir, "disposable_copy_dir"), "make it, or name another directory; empty means beside each machine's disk")
	}
	x.Overlays("disposable_copy_dir", d.overlaysToBe())
	if o.DumpDir != "" {
		var memory []int64
		for _, v := range d.frame.All() {
			memory = append(memory, v.memory())
		}
		x.Dumps(o.DumpDir, memory)
	}
	x.network(ctx)
	for _, v := range d.frame.All() {
		if ctx.Err() == nil && v.conf.problem == nil {
			x.machine(ctx, v)
		}
	}
	if runtimeDir != "" && ctx.Err() == nil {
		runs, err := d.Account(ctx)
		if err == nil {
			x.Found = append(x.Found, machinery.LeftoverFindings(runs)...)
		} else if ctx.Err() == nil {
			x.Failed(diagnosis.About(machinery.AreaLeftovers, "runs", ""), err, "")
		}
	}
	return x.Found
}

// examination is a diagnosis under way.
type examination struct {
	diagnosis.List
	d *Machinery
	// deep is DiagnoseOptions.Deep; configured is whether there is a configuration.
	deep, configured bool
	// blind is whether there is no runtime directory that can be looked into, so that nothing is known of what machines do.
	blind bool
}

// overlaysToBe are the disposable disks that the machines will have, and how much each machine may write to them.
func (d *Machinery) overlaysToBe() []diagnosis.Overlay {
	var list []diagnosis.Overlay
	for _, v := range d.frame.All() {
		if v.bad != nil {
			continue
		}
		below, err := v.below()
		if err != nil {
			continue // it was changed just now
		}
		var most int64
		for _, disk := range below {
			n := disk.VirtualSize
			if quota := d.config.FileQuota; quota > 0 {
				n = min(n, quota)
			}
			most += n
		}
		list = append(list, diagnosis.Overlay{Dir: filepath.Dir(v.overlays[0]), Most: most})
	}
	return list
}

// memory is how much memory the machine's arguments give it, in bytes; 0 if that is not known.
func (v *vm) memory() int64 {
	if v.args == nil {
		return 0
	}
	bytes := int64(128 << 20) // QEMU's default
	args := v.args.args
	for i := 0; i+1 < len(args); i++ {
		if name, is := optionName(args[i]); !is || name != "m" {
			continue
		}
		for at, s := range settings(args[i+1]) {
			switch {
			case s.key == "size":
				bytes = memorySize(s.value)
			case at == 0 && s.value == "on": // the size may stand first without its key
				bytes = memorySize(s.key)
			}
		}
	}
	return bytes
}

// memorySize is the value of -m: a number of MiB, or of what its suffix says; 0 if it is none.
func memorySize(text string) int64 {
	number := strings.TrimRight(text, "bBkKmMgGtT")
	n, err := strconv.ParseInt(number, 10, 32)
	unit, known := map[string]int64{"": 1 << 20, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}[strings.ToLower(text[len(number):])]
	if err != nil || !known || n < 0 {
		return 0
	}
	return n * unit
}

// programs looks at QEMU's programs and at what machines run with.
func (x *examination) programs(ctx context.Context) {
	const install = "install it (on Debian and Ubuntu: apt-get install qemu-system-x86), or correct its path"
	c := x.d.config
	f := diagnosis.About(machinery.AreaHypervisor, c.QEMU, "binaries.qemu_system_x86_64")
	if x.Program(f, install) {
		v, err := x.d.version.of(ctx, c.QEMU)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			x.Problem(f, install, "it does not say which version it is: %v", err)
		case v.Major < oldestMajor:
			x.Problem(f, "install a newer one", "it is of version %s, and %d.0 or later is needed", v, oldestMajor)
		default:
			x.OK(f, "QEMU %s", v)
			x.accelerators(ctx)
		}
	}
	img := diagnosis.About(machinery.AreaHypervisor, c.QEMUImg, "binaries.qemu_img")
	if err := hostfile.CheckProgram(c.QEMUImg); err != nil {
		x.Warn(img, "install it (on Debian and Ubuntu: apt-get install qemu-utils), or correct its path", "it cannot be used, and snapshots cannot be made without it: %v", err)
	} else {
		x.OK(img, "it can be run")
	}
}

// accelerators has a guest run with those that machines ask for, or with all if there is no configuration.
func (x *examination) accelerators(ctx context.Context) {
	asksKVM, asksOther := !x.configured, !x.configured
	for _, v := range x.d.frame.All() {
		if v.wantsKVM() {
			asksKVM = true
		} else if v.args != nil {
			asksOther = true
		}
	}
	if asksKVM {
		f := diagnosis.About(machinery.AreaHypervisor, deviceKVM, "")
		bad := x.Problem
		who := "machines ask for it"
		if !x.configured {
			bad, who = x.Warn, "machines that ask for it do not start"
		}
		err := checkKVM()
		switch {
		case errors.Is(err, fs.ErrPermission):
			why, do := diagnosis.Denied(deviceKVM)
			bad(f, do, "it cannot be opened, and %s: %s", who, why)
		case err != nil:
			bad(f, "turn virtualisation on in the host's firmware (in a virtual machine: nested virtualisation) and load the module: modprobe kvm_intel, or kvm_amd",
				"KVM is not there, and %s: %v", who, err)
		default:
			if err := tryGuest(ctx, x.d.config.QEMU, "kvm", x.d.config.NoSandbox); err == nil {
				x.OK(f, "a guest runs with it")
			} else if ctx.Err() == nil {
				x.trialFailed(f, bad, "kvm", err)
			}
		}
	}
	if asksOther && x.deep && ctx.Err() == nil {
		f := diagnosis.About(machinery.AreaHypervisor, x.d.config.QEMU, "")
		if err := tryGuest(ctx, x.d.config.QEMU, "tcg", x.d.config.NoSandbox); err == nil {
			x.OK(f, "a guest runs without KVM too")
		} else if ctx.Err() == nil {
			x.trialFailed(f, x.Problem, "tcg", err)
		}
	}
}

// trialFailed says why a guest did not run.
func (x *examination) trialFailed(f machinery.Finding, bad func(machinery.Finding, string, string, ...any), accel string, err error) {
	switch said := err.Error(); {
	case strings.Contains(said, "isa-debug-exit"), strings.Contains(said, "q35"):
		x.Warn(f, "", "it could not be tried whether a guest runs with -accel %s: %v", accel, err)
	case sandboxMissing(said):
		bad(f, "write sandbox: false in the configuration, or install a QEMU that has its sandbox", "no guest runs in QEMU's sandbox: %v", err)
	default:
		bad(f, "look at what the kernel says (dmesg), or have the machines run with -accel tcg, which is slow", "no guest runs with -accel %s: %v", accel, err)
	}
}

// runtime looks at the directory for what belongs to running machines, and returns its path; empty if it cannot be used.
func (x *examination) runtime(c Config, chosen string) string {
	return x.RuntimeDir(cmp.Or(chosen, c.RuntimeDir, rundir.Default()), readSocket)
}

// network looks at the interfaces, and at whether traffic can be recorded.
func (x *examination) network(ctx context.Context) {
	machines := x.d.Machines()
	usable := x.Interfaces(machines, func(iface string) string {
		if iface == x.d.config.Interface {
			return "interface"
		}
		i := slices.IndexFunc(machines, func(m machinery.Machine) bool { return m.Interface == iface })
		return "machines." + machines[i].Name + ".interface"
	}, nil)
	if x.d.config.Capture == CaptureTcpdump {
		x.Tcpdump(ctx, diagnosis.About(machinery.AreaCapture, x.d.config.Tcpdump, "binaries.tcpdump"), usable)
		return
	}
	var past []string
	for _, v := range x.d.frame.All() {
		if v.args != nil && slices.ContainsFunc(v.args.args, usesVhost) {
			past = append(past, v.machine.Name)
		}
	}
	f := diagnosis.About(machinery.AreaCapture, CaptureFilterDump, "capture")
	if len(past) > 0 {
		x.Warn(f, "write capture: tcpdump, or vhost=off in their arguments", "it records nothing of what vhost takes past QEMU, which these machines use: %s", strings.Join(past, ", "))
		return
	}
	x.OK(f, "QEMU records itself, which needs no rights")
}

// usesVhost is whether an argument is of a network backend that the kernel serves.
func usesVhost(arg string) bool {
	return slices.ContainsFunc(settings(arg), func(s setting) bool {
		return s.key == "vhost" && (s.value == "on" || s.value == "yes" || s.value == "true")
	})
}
