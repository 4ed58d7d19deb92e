package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// snapshotSealer is a driver that can say which files belong together.
type snapshotSealer interface {
	SealSnapshot(ctx context.Context, name string) (path string, err error)
}

// snapshotSealCommand is "machinery vm snapshot seal".
func snapshotSealCommand(a *app) *cobra.Command {
	var o vmOptions
	cmd := &cobra.Command{
		Use:   "seal -c FILE MACHINE",
		Short: "Says that a machine's disk and snapshot belong together.",
		Long: `Says that a machine's disk and its snapshot belong together as they are: writes
sums of both into a manifest beside the snapshot. From then on a disk that was
changed is an error of every restore, instead of a guest with a broken file
system. "vm snapshot create" does this for what it makes; this is for machines
that were made by other means. The files are read through, so that it takes as
long as copying them. To seal them again, remove the manifest.

Exit status: 0 if the manifest is there, 1 if not, 2 for wrong usage.`,
		Example: "  machinery vm snapshot seal -c qemu.yaml win10_1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				name, err := oneMachine(cmd, m, args)
				if err != nil {
					return err
				}
				s, is := m.(snapshotSealer)
				if !is {
					return failed(machinery.Unsupported(qemu.OpSealSnapshot, name))
				}
				path, err := s.SealSnapshot(ctx, name)
				if err != nil {
					return failed(err)
				}
				if o.json {
					return a.writeJSON(map[string]string{"machine": name, "manifest": path})
				}
				fmt.Fprintf(a.out, "%s: wrote %s\n", oneLine(name), oneLine(path))
				return nil
			})
		},
	}
	o.flags(cmd, snapshotTimeout)
	return cmd
}
