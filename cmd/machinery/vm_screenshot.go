package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/machineries/machineries/machinery"
)

// vmScreenshotCommand is "machinery vm screenshot".
func vmScreenshotCommand(a *app) *cobra.Command {
	var o vmOptions
	path := ""
	cmd := &cobra.Command{
		Use:   "screenshot -c FILE MACHINE --write PATH",
		Short: "Writes a picture of a machine's display to a PNG file.",
		Long: `Writes a picture of a machine's display to a PNG file, which must not exist, or
with - to stdout, if that is no terminal.

Exit status: 0 if the picture was written, 1 if not, 2 for wrong usage.`,
		Example: `  machinery vm screenshot -c qemu.yaml win10_1 --write now.png
  machinery vm screenshot -c qemu.yaml win10_1 --write - | display`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.wants(cmd, args, path, "the file to write, with --write"); err != nil {
				return err
			}
			switch {
			case path == "-" && o.json:
				return usage(cmd, "--json and --write - exclude each other: both go to stdout")
			case path == "-" && term.IsTerminal(int(os.Stdout.Fd())):
				return usage(cmd, "a picture is nothing for a terminal; name a file to write")
			}
			return o.with(a, cmd, func(ctx context.Context, m machinery.Machinery) error {
				name, err := oneMachine(cmd, m, args)
				if err != nil {
					return err
				}
				if path == "-" {
					picture, err := machinery.Screenshot(ctx, m, name)
					if err == nil {
						_, err = a.out.Write(picture)
					}
					return failed(err)
				}
				return a.report([]string{name}, o.json, func(name string) vmResult {
					r := newVMResult(machinery.OpScreenshot, name, machinery.Status{}, picture(ctx, m, name, path))
					if r.OK {
						r.Path, r.already = path, "picture written to "+oneLine(path)
					}
					return r
				})
			})
		},
	}
	o.flags(cmd, lookTimeout)
	cmd.Flags().StringVarP(&path, "write", "w", "", "the `file` to write, or - for stdout")
	return cmd
}

// picture writes a picture of a machine's display to a file, whole or not at
// all.
func picture(ctx context.Context, m machinery.Machinery, name, path string) (err error) {
	fail := func(err error) error {
		return &machinery.Error{Op: machinery.OpScreenshot, Machine: name, Kind: machinery.ErrConfig, Reason: fmt.Sprintf("the picture cannot be written to %s", path), Err: err}
	}
	// It is made first, so that nothing that is there is taken away for a picture
	// that cannot be.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	data, err := machinery.Screenshot(ctx, m, name)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		return fail(err)
	}
	return nil
}
