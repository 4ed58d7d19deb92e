package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/libvirtlab"
	"github.com/machineries/machineries/conformance/qemulab"
	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/drivers/qemu"
	fakelibvirt "github.com/machineries/machineries/fakes/libvirt"
	fakeqemu "github.com/machineries/machineries/fakes/qemu"
	"github.com/machineries/machineries/machinery"
)

// platformMain runs a fake program instead of this one if it was started as
// one, and then does not return.
func platformMain() {
	fakeqemu.Main()
	libvirtlab.Main()
}

// platformDrivers returns the drivers that this program has.
func platformDrivers() []machinery.Driver { return []machinery.Driver{qemu.Driver(), kvm.Driver()} }

// platformFakes returns the fakes that can be run alone.
func platformFakes() []fakeProgram {
	return []fakeProgram{
		{"qemu", "Runs the fake qemu-system-x86_64.",
			"  machinery fake qemu -M q35 -display none -qmp unix:/tmp/q.sock,server,nowait\n  machinery fake qemu --version",
			func(args []string) int { return fakeqemu.Run(context.Background(), args) }},
		{"qemu-img", "Runs the fake qemu-img.",
			"  machinery fake qemu-img create -f qcow2 disk.qcow2 1M\n  machinery fake qemu-img info disk.qcow2",
			fakeqemu.RunImg},
		{"libvirtd", "Runs a fake libvirtd, with machines.",
			"  machinery fake libvirtd --socket /tmp/v.sock --machines 3\n  virsh -c 'qemu:///system?socket=/tmp/v.sock' list --all",
			func(args []string) int { return fakelibvirt.Run(context.Background(), args) }},
	}
}

// noLab is for what can be tested without any hypervisor.
var noLab = labKind{name: "none", doc: "no machine at all: tests only what needs none"}

// platformLabs returns the labs that a driver can be tested on.
func platformLabs(driver string) []labKind {
	return append(slices.Clone(labs[driver]), noLab)
}

// labs are the labs by the driver that can be tested on them.
var labs = map[string][]labKind{
	"qemu": {
		{name: "fake", doc: "the fake QEMU of this program; needs nothing on the host",
			open: func(ctx context.Context, _ labOptions) (conformance.Lab, error) {
				return qemulab.New(ctx, qemulab.Options{})
			}},
		{name: "host", doc: "the host's QEMU, with a guest of a few sectors", real: true,
			open: func(ctx context.Context, o labOptions) (conformance.Lab, error) {
				emulator := o.emulator
				if emulator == "" {
					emulator = defaultEmulator
				}
				return qemulab.New(ctx, qemulab.Options{Emulator: emulator, Accel: o.accel})
			},
			check: func(ctx context.Context, lab conformance.Lab) error {
				return lab.(*qemulab.Lab).Check(ctx)
			}},
	},
	"kvm": {
		{name: "fake", doc: "the fake libvirtd of this program; needs nothing on the host",
			open: func(ctx context.Context, _ labOptions) (conformance.Lab, error) {
				return libvirtlab.New(ctx, libvirtlab.Options{})
			}},
		{name: "test", doc: "the test driver of the host's libvirt, in a libvirtd of its own: power and states alone",
			open: func(ctx context.Context, _ labOptions) (conformance.Lab, error) {
				return libvirtlab.New(ctx, libvirtlab.Options{Daemon: defaultDaemon, Driver: "test"})
			},
			check: checkLibvirt},
		{name: "host", doc: "the host's libvirt and QEMU, in a libvirtd of its own, with a guest of a few sectors", real: true,
			open: func(ctx context.Context, o labOptions) (conformance.Lab, error) {
				return libvirtlab.New(ctx, libvirtlab.Options{Daemon: defaultDaemon, Emulator: o.emulator, Accel: o.accel})
			},
			check: checkLibvirt},
	},
}

func checkLibvirt(ctx context.Context, lab conformance.Lab) error {
	return lab.(*libvirtlab.Lab).Check(ctx)
}

// defaultDaemon is looked for in PATH, and where a system has its daemons.
const defaultDaemon = "libvirtd"

// defaultEmulator is looked for in PATH.
const defaultEmulator = "qemu-system-x86_64"

// platformSweeper returns the lab that ends what a dead run left. Every lab ends
// any process of a run, so one is enough.
func platformSweeper(ctx context.Context) (conformance.Lab, error) {
	return qemulab.New(ctx, qemulab.Options{})
}

// platformBare opens a driver without a configuration, to account for what
// runs.
func platformBare(ctx context.Context, driver string, o machinery.Options) (machinery.Machinery, error) {
	if driver != "qemu" {
		return nil, fmt.Errorf("the driver %q cannot be opened without a configuration file; name one, with -c", driver)
	}
	return qemu.New(ctx, qemu.Config{}, o)
}

// platformVM returns the commands about machines that only this platform has.
func platformVM(a *app) []*cobra.Command {
	return []*cobra.Command{exampleCommand(a), vmSnapshotCommand(a)}
}

// platformReview is what a driver says of a machine's arguments for QEMU and its disk, one sentence each, given what its
// configuration allows all machines; nil if it says nothing.
func platformReview(driver string, allowed []string) func(args []string, disk string) []string {
	if driver != "qemu" {
		return nil
	}
	return func(args []string, disk string) []string {
		var found []string
		if err := qemu.CheckArgs(args, disk); err != nil {
			all := []error{err}
			if several, is := err.(interface{ Unwrap() []error }); is {
				all = several.Unwrap()
			}
			for _, err := range all {
				found = append(found, err.Error())
			}
		}
		for _, r := range qemu.ReviewArgs(args) {
			if !slices.ContainsFunc(allowed, r.AllowedBy) {
				found = append(found, fmt.Sprintf("argument %q needs your word: %s; if that is meant, add %q to allow_arguments of the machine", r.Argument, r.Risk, r.Allow))
			}
		}
		return found
	}
}
