//go:build linux

package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/diagnosis"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/internal/qemuargs"
	"github.com/machineries/machineries/internal/vmstate"
	"github.com/machineries/machineries/machinery"
)

// machine looks at a machine: its files, whether they fit together, and what it does.
func (x *examination) machine(ctx context.Context, v *vm) {
	f := diagnosis.About(machinery.AreaMachines, v.machine.Name, "machines."+v.machine.Name)
	before := len(x.Found)
	for _, problem := range fault.NotNil(v.bad) {
		x.unusable(f, problem, "")
	}
	for _, problem := range fault.NotNil(v.unsaved) {
		x.unusable(f, problem, "put a whole one there, or make one with \"machinery vm snapshot create\"")
	}
	for _, path := range []string{v.conf.Disk, v.conf.Snapshot, v.conf.Info} {
		if why, do := diagnosis.OpenToOthers(path); why != "" {
			x.Warn(f, do, "%s, and who does so has the machine, or this host", why)
		}
	}
	if v.problem() == nil {
		x.arguments(f, v)
		x.fits(ctx, f, v)
		if ctx.Err() == nil {
			x.whole(ctx, f, v)
		}
	}
	if ctx.Err() != nil {
		return
	}
	if x.blind {
		if len(x.Found) == before {
			x.OK(f, "%s; whether it runs cannot be told without its runtime directory", v.inShort(x.deep))
		}
		return
	}
	status, err := v.state(ctx)
	runs := status.State != machinery.StatePoweroff && (status.State != machinery.StateError || !v.untouched())
	switch {
	case err != nil:
		x.Failed(f, err, "")
	case runs && status.State == machinery.StateError:
		x.Problem(f, "look at why, and end it with \"machinery vm stop\"", "it is in state %s: %s", status, status.Detail)
	case len(x.Found) == before:
		x.OK(f, "%s; %s", status, v.inShort(x.deep))
	}
}

// unusable says what is wrong with a machine's configuration or files, each thing in a finding of its own.
// do is what to do about it; empty if that is not known.
func (x *examination) unusable(f machinery.Finding, problem error, do string) {
	if several, is := problem.(fault.Several); is {
		for _, err := range several {
			x.unusable(f, err, do)
		}
		return
	}
	if do == "" && errors.Is(problem, fs.ErrNotExist) {
		do = "put the file there, or correct its path in the configuration"
	}
	x.Failed(f, problem, do)
}

// arguments looks at what QEMU would say of a machine's arguments at a start, and cannot be told of without one.
func (x *examination) arguments(f machinery.Finding, v *vm) {
	if v.args == nil {
		return
	}
	gone, _ := qemuargs.Gone(v.args.args)
	for _, text := range gone {
		x.Problem(f, "correct "+cmp.Or(v.conf.Info, "its arguments"), "%s", text)
	}
	for _, bridge := range bridges(v.args.args) {
		if why := bridgeDenied(bridge, bridgeACL); why != "" {
			x.Warn(f, fmt.Sprintf("write \"allow %s\" into %s, and let QEMU's helper, qemu-bridge-helper, be setuid root unless QEMU runs as root", bridge, bridgeACL), "%s", why)
		}
	}
}

// inShort is what a machine that is well is made of.
func (v *vm) inShort(deep bool) string {
	var parts []string
	if disk, err := checkDisk(v.conf.Disk); err == nil {
		parts = append(parts, fmt.Sprintf("disk %s of %s", disk.Format, diagnosis.Bytes(disk.VirtualSize)))
	}
	if file, packed, err := openSnapshot(v.conf.Snapshot); err == nil {
		if info, err := file.Stat(); err == nil {
			text := fmt.Sprintf("snapshot (%s) of %s", packed.Name, diagnosis.Bytes(info.Size()))
			if packed.Packed() && !deep {
				text += ", not read through (--deep does)"
			}
			parts = append(parts, text)
		}
		file.Close()
	}
	if v.wantsKVM() {
		parts = append(parts, "KVM")
	}
	return strings.Join(parts, ", ")
}

// olderBy is how much later than the snapshot a disk may have been written to: both are closed when QEMU ends.
const olderBy = time.Minute

// fits looks at whether a machine's disks are what its snapshot was made with.
func (x *examination) fits(ctx context.Context, f machinery.Finding, v *vm) {
	for _, disk := range v.disks() {
		if err := disposable.RefuseWritten(disk); err != nil {
			x.Problem(f, "end that; if it has written to the disk, put the disk back as it was, or make the snapshot anew", "%v", err)
			return
		}
	}
	m, err := manifestOf(v.conf.Snapshot)
	switch {
	case err != nil:
		x.Failed(f, err, "")
		return
	case m == nil:
		x.unsealed(f, v)
		return
	}
	x.savedBy(ctx, f, m)
	if !x.deep {
		for _, file := range m.Files {
			info, err := os.Stat(file.Path)
			if err == nil && info.Size() == file.Size && !info.ModTime().Equal(file.Modified) {
				x.Warn(f, "say --deep to have it read through and compared", "%s has another time than when the snapshot was made: it was copied, or changed", file.Path)
				return
			}
		}
	}
	if err := v.checkBases(ctx); err != nil && ctx.Err() == nil {
		x.Failed(f, err, "")
	}
}

// unsealed looks at a machine of which nothing tells what its files were like.
func (x *examination) unsealed(f machinery.Finding, v *vm) {
	snapshot, err := os.Stat(v.conf.Snapshot)
	if err != nil {
		return // it was removed just now
	}
	for _, path := range imagesBelow(v.disks()) {
		info, err := os.Stat(path)
		if err == nil && info.ModTime().After(snapshot.ModTime().Add(olderBy)) {
			x.Warn(f, "if the guest starts well, note that the files belong together with \"machinery vm snapshot seal\"; if not, make the snapshot anew",
				"%s was written to on %s, and its snapshot was made on %s: it was copied then, or the snapshot does not fit it any more",
				path, info.ModTime().Format(time.DateTime), snapshot.ModTime().Format(time.DateTime))
			return
		}
	}
}

// savedBy says if a newer QEMU made the snapshot than there is: that one's devices may be unknown to this.
func (x *examination) savedBy(ctx context.Context, f machinery.Finding, m *Manifest) {
	var by monitor.Version
	if n, _ := fmt.Sscanf(m.Hypervisor, "QEMU %d.%d", &by.Major, &by.Minor); n != 2 {
		return
	}
	now, err := x.d.version.of(ctx, x.d.config.QEMU)
	if err == nil && (by.Major > now.Major || by.Major == now.Major && by.Minor > now.Minor) {
		x.Warn(f, "install that QEMU, or make the snapshot anew with this one", "its snapshot was made by %s, and here is %s, which may not know what is in it", m.Hypervisor, now)
	}
}

// whole looks at whether a snapshot is one that QEMU has written to its end. A packed one is read through for that only if much is
// asked for.
func (x *examination) whole(ctx context.Context, f machinery.Finding, v *vm) {
	file, _, err := openSnapshot(v.conf.Snapshot)
	if err != nil {
		return // was said
	}
	defer file.Close()
	stream, err := vmstate.Examine(ctx, file, !x.deep)
	if stream.MachineType != "" && v.args != nil {
		if now, err := x.d.version.of(ctx, x.d.config.QEMU); err == nil {
			if text := qemuargs.OtherType(stream.MachineType, v.args.args, qemuargs.Version{Major: now.Major, Minor: now.Minor}); text != "" {
				x.Problem(f, "put that into "+cmp.Or(v.conf.Info, "its arguments")+", or make the snapshot anew", "%s", text)
			}
		}
	}
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, vmstate.ErrNoDescription):
		x.Warn(f, "if the guest starts well, it is whole; if not, put a whole one there, or make it anew", "the snapshot %s %v", v.conf.Snapshot, err)
	default:
		x.Problem(f, "put a whole one there, or make it anew", "the snapshot %s %v", v.conf.Snapshot, err)
	}
}
