//go:build linux

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/machineries/machineries/drivers/qemu/monitor"
	"github.com/machineries/machineries/machinery"
)

// maxPicture bounds what is read of a picture, in bytes: 8K in PPM has 100 MB.
const maxPicture = 256 << 20

// Screenshot returns the picture of the machine's first display as a PNG file's bytes. It works on a machine that runs, is paused
// or is broken, as long as its QEMU answers. QEMU from 7.1 on writes PNG itself; the picture of an older one is converted.
//
// Errors: ErrUnexpectedState if the machine is off or starting; ErrHypervisor with QEMU's words if it has no display.
func (d *Machinery) Screenshot(ctx context.Context, name string) ([]byte, error) {
	var picture []byte
	err := d.operate(ctx, machinery.OpScreenshot, name, func(v *vm, ctx context.Context) (err error) {
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
		return nil, fail(op, v.machine.Name, machinery.ErrHypervisor, refused, "QEMU takes no picture of the machine's display")
	case ctx.Err() != nil:
		return nil, interrupted(op, v.machine.Name, ctx, "taking a picture of the machine's display")
	case errors.Is(err, monitor.ErrDisconnected):
		return nil, fail(op, v.machine.Name, machinery.ErrConnection, err, "QEMU was not heard of while it took a picture of the machine's display")
	}
	return nil, fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the picture of the machine's display cannot be used")
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
	data, err := io.ReadAll(io.LimitReader(f, maxPicture+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxPicture:
		return nil, fmt.Errorf("it has more than %d bytes", maxPicture)
	case asPNG:
		if err := wholePNG(data); err != nil {
			return nil, err
		}
		return data, nil
	}
	return convertPPM(data)
}

// wholePNG is an error unless data is a PNG file with all of its pixels and its end. A full file system can leave the beginning of one,
// whose header is as good as that of a whole one.
func wholePNG(data []byte) error {
	header, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("it is no PNG file: %w", err)
	}
	if int64(header.Width)*int64(header.Height) > maxPicture/4 {
		return fmt.Errorf("it has %d × %d pixels, which is more than %d", header.Width, header.Height, maxPicture/4)
	}
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		return fmt.Errorf("it is not whole after %d bytes (is the file system of the runtime directory full?): %w", len(data), err)
	}
	return nil
}

// writesPNG is whether QEMU's screendump has the format png: since 7.1.
func writesPNG(v monitor.Version) bool { return v.Major > 7 || v.Major == 7 && v.Minor >= 1 }

// convertPPM makes PNG of a portable pixmap as QEMU writes it: "P6", width, height and 255, each followed by one blank, and three
// bytes for each pixel.
func convertPPM(data []byte) ([]byte, error) {
	var width, height, most int
	in := bytes.NewReader(data)
	if n, err := fmt.Fscanf(in, "P6\n%d %d\n%d\n", &width, &height, &most); err != nil || n != 3 {
		return nil, errors.New("it is not a portable pixmap (P6)")
	}
	pixels := data[len(data)-in.Len():]
	if most != 255 || width <= 0 || height <= 0 || width > maxPicture || height > maxPicture || len(pixels) != 3*width*height {
		return nil, fmt.Errorf("it is a pixmap of %d × %d pixels with values to %d, in %d bytes, which does not fit together", width, height, most, len(pixels))
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(img.Pix[4*i:], pixels[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	var out bytes.Buffer
	err := png.Encode(&out, img)
	return out.Bytes(), err
}
