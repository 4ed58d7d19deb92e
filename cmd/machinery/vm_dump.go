package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
)

// dumpTimeout is enough for some ten gigabytes on a slow disk.
const dumpTimeout = 15 * time.Minute

// progressDumper is a driver that has several formats, and tells how far a dump
// is.
type progressDumper interface {
	DumpMemoryProgress(ctx context.Context, name, path, format string, progress func(done, total int64)) error
}

// vmDumpCommand is "machinery vm dump".
func vmDumpCommand(a *app) *cobra.Command {
	var o vmOptions
	path, format := "", ""
	cmd := &cobra.Command{
		Use:   "dump -c FILE MACHINE --write PATH",
		Short: "Writes a machine's memory to a file.",
		Long: `Writes the memory of a machine to a file: with QEMU and libvirt, an ELF core
file. A running machine stands still meanwhile and runs on afterwards. The file
must not exist, is as large as the machine's memory, can be read by its owner
alone, and is there when it is complete. Ctrl-C ends the dump and leaves no
file; libvirt cannot give a dump up, so that its machine stands still until the
dump would have been done.

With QEMU, --format may also be kdump-zlib, kdump-lzo, kdump-snappy or win-dmp,
of which each build has some.

Exit status: 0 if the file is there, 1 if not, 2 for wrong usage.`,
		Example: `  machinery vm dump -c qemu.yaml win10_1 --write win10_1.elf
  machinery vm dump -c qemu.yaml win10_1 --write a.kdump --format kdump-zlib`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cmp.Or(o.wants(cmd, args, path, "the file to write, with --write"), noStdout(cmd, "--write", path)); err != nil {
				return err
			}
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				name, err := oneMachine(cmd, m, args)
				if err != nil {
					return err
				}
				return a.report([]string{name}, o.json, func(name string) vmResult {
					r := newVMResult(machinery.OpDumpMemory, name, machinery.Status{}, a.dump(ctx, m, name, path, format))
					if r.OK {
						r.Path, r.already = path, "memory written to "+oneLine(path)
					}
					return r
				})
			})
		},
	}
	o.flags(cmd, dumpTimeout)
	cmd.Flags().StringVarP(&path, "write", "w", "", "the `file` to write")
	cmd.Flags().StringVar(&format, "format", "", "the `format`, where the driver has several (default its own)")
	return cmd
}

// dump dumps a machine's memory and tells on a terminal how far that is.
func (a *app) dump(ctx context.Context, m machinery.Machinery, name, path, format string) error {
	if !machinery.Supports(m, machinery.CapDumpMemory) {
		return machinery.Unsupported(machinery.OpDumpMemory, name)
	}
	d, is := m.(progressDumper)
	switch {
	case is:
		line := a.liveLine()
		defer line.erase()
		err := d.DumpMemoryProgress(ctx, name, path, format, func(done, total int64) {
			line.show(fmt.Sprintf("%s: memory %s", oneLine(name), share(done, total)))
		})
		if format == "win-dmp" && errors.Is(err, machinery.ErrHypervisor) {
			err = also(err, "win-dmp is for a Windows guest that has the device vmcoreinfo (QEMU's -device vmcoreinfo) and its driver, fwcfg of virtio-win")
		}
		return err
	case format != "":
		return &machinery.Error{Op: machinery.OpDumpMemory, Machine: name, Kind: machinery.ErrUnsupported, Reason: "this driver has one format alone; leave --format out"}
	}
	return machinery.DumpMemory(ctx, m, name, path)
}
