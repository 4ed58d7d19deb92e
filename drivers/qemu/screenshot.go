//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/picture"
	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// Screenshot returns the picture of the machine's first display as a PNG file's bytes. It works on a machine that runs, is paused
// or is broken, as long as its QEMU answers. QEMU from 7.1 on writes PNG itself; the picture of an older one is converted.
//
// Errors: ErrUnexpectedState if the machine is off or starting; ErrHypervisor with QEMU's words if it has no display.
func (d *Machinery) Screenshot(ctx context.Context, name string) ([]byte, error) {
	var picture []byte
	err := d.frame.Operate(ctx, machinery.OpScreenshot, name, func(v *vm, ctx context.Context) (err error) {
		picture, err = v.screenshot(ctx)
		return err
	})
	return picture, err
}

// screenshot is Screenshot for whoever has the turn.
func (v *vm) screenshot(ctx context.Context) (_ []byte, err error) {
	const op = machinery.OpScreenshot
	status, leave, err := v.takeOver(ctx, op)
	if err != nil {
		return nil, err
	}
	defer func() { leave(err) }()
	switch {
	case status.Reason == reasonNoAnswer:
		return nil, v.wrongState(op, machinery.ErrConnection, status, "no picture can be taken: the machine is in state %s")
	case v.run == nil || status.State == machinery.StatePoweroff || status.State == machinery.StateStarting:
		return nil, v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s, so there is nothing to be seen")
	}
	picture, err := v.run.screendump(ctx)
	refused, is := errors.AsType[*monitor.CommandError](err)
	switch {
	case err == nil:
		return picture, nil
	case is:
		return nil, fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, refused, "QEMU takes no picture of the machine's display")
	case ctx.Err() != nil:
		return nil, fault.Interrupted(op, v.machine.Name, ctx, "taking a picture of the machine's display")
	case errors.Is(err, monitor.ErrDisconnected):
		return nil, fault.Fail(op, v.machine.Name, machinery.ErrConnection, err, "QEMU was not heard of while it took a picture of the machine's display")
	}
	return nil, fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the picture of the machine's display cannot be used")
}

// screendump has QEMU write a picture into the machine's runtime directory, and reads it as PNG.
func (r *run) screendump(ctx context.Context) ([]byte, error) {
	m, err := r.master(ctx)
	if err != nil {
		return nil, err
	}
	// One that QEMU wrote for somebody who did not wait for it.
	if err := r.hold.Dir.Remove(screenFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	defer func() { _ = r.hold.Dir.Remove(screenFile) }()
	args := map[string]any{"filename": filepath.Join(r.hold.Path, screenFile)}
	asPNG := writesPNG(m.Version())
	if asPNG {
		args["format"] = "png"
	}
	if err := m.Execute(ctx, "screendump", args, nil); err != nil {
		return nil, err
	}
	f, err := r.hold.Dir.Open(screenFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, picture.MaxSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > picture.MaxSize:
		return nil, fmt.Errorf("it has more than %d bytes", picture.MaxSize)
	case asPNG:
		if err := picture.CheckPNG(data); err != nil {
			return nil, fmt.Errorf("%w (is the file system of the runtime directory full?)", err)
		}
		return data, nil
	}
	return picture.FromPPM(data)
}

// writesPNG is whether QEMU's screendump has the format png: since 7.1.
func writesPNG(v monitor.Version) bool { return v.Major > 7 || v.Major == 7 && v.Minor >= 1 }
