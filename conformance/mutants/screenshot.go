//go:build linux

package mutants

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
)

// pictures is a mutant with another Screenshot.
func pictures(name string, take func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) ([]byte, error), breaks ...string) Mutant {
	return rewire(name, nil, func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery {
		return &broken{Machinery: inner, screenshot: func(ctx context.Context, name string) ([]byte, error) { return take(inner, c, ctx, name) }}
	}, breaks...)
}

// black is a picture of nothing.
func black() []byte {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, 640, 480)))
	return b.Bytes()
}

func screenshotMutants() []Mutant {
	return []Mutant{
		pictures("returns half of a picture", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) ([]byte, error) {
			data, err := inner.Screenshot(ctx, name)
			return data[:len(data)/2], err
		}, "MM-SHOT-001", "MM-SHOT-002"),
		pictures("returns the hypervisor's own kind of picture", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) ([]byte, error) {
			if _, err := inner.Screenshot(ctx, name); err != nil {
				return nil, err
			}
			return append([]byte("P6\n1 1\n255\n"), 0, 0, 0), nil
		}, "MM-SHOT-001", "MM-SHOT-002"),
		pictures("leaves the files of its pictures", func(inner *qemu.Machinery, c qemu.Config, ctx context.Context, name string) ([]byte, error) {
			data, err := inner.Screenshot(ctx, name)
			if err == nil {
				err = os.WriteFile(filepath.Join(c.DisposableDir, "picture.png"), data, 0o600)
			}
			return data, err
		}, "MM-SHOT-001"),
		pictures("resumes a paused machine to take its picture", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) ([]byte, error) {
			_ = inner.HandlePaused(ctx, name)
			return inner.Screenshot(ctx, name)
		}, "MM-SHOT-002"),
		pictures("returns a black picture where there is nothing to be seen", func(inner *qemu.Machinery, _ qemu.Config, ctx context.Context, name string) ([]byte, error) {
			data, err := inner.Screenshot(ctx, name)
			if errors.Is(err, machinery.ErrUnexpectedState) || errors.Is(err, machinery.ErrHypervisor) {
				return black(), nil
			}
			return data, err
		}, "MM-SHOT-003", "MM-SHOT-004"),
	}
}
