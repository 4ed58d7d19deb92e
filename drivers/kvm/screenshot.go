//go:build linux

package kvm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/picture"
	"github.com/machineries/machineries/machinery"
)

// Screenshot returns the picture of the machine's first display as a PNG file's bytes. It works on a machine that runs, is paused or
// is broken, as long as its hypervisor answers. libvirt 9.0.0 streams PNG from QEMU 7.2, and PPM from others and from its test driver,
// which is converted.
//
// Errors: ErrUnexpectedState if the machine is off or starting; ErrHypervisor with libvirt's words if it has no display.
func (d *Machinery) Screenshot(ctx context.Context, name string) ([]byte, error) {
	var shot []byte
	err := d.frame.Operate(ctx, machinery.OpScreenshot, name, func(v *vm, ctx context.Context) (err error) {
		shot, err = v.screenshot(ctx)
		return err
	})
	return shot, err
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
	case off(status) || status.State == machinery.StateStarting:
		return nil, v.wrongState(op, machinery.ErrUnexpectedState, status, "the machine is %s, so there is nothing to be seen")
	}
	data, err := getLong(ctx, v, "taking a picture of the machine's display", func(l *libvirt.Libvirt, dom libvirt.Domain) ([]byte, error) {
		var into limited
		if _, err := l.DomainScreenshot(dom, &into, 0, 0); err != nil {
			return nil, err
		}
		return into.Bytes(), into.err
	})
	if err != nil {
		return nil, v.refused(ctx, op, err, "taking a picture of the machine's display")
	}
	if bytes.HasPrefix(data, []byte("\x89PNG")) {
		err = picture.CheckPNG(data)
	} else {
		data, err = picture.FromPPM(data)
	}
	if err != nil {
		return nil, fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the picture of the machine's display cannot be used")
	}
	return data, nil
}

// limited takes in a picture, and not more. It never refuses, because the library would hang on that; err says that it was too much.
type limited struct {
	bytes.Buffer
	err error
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > picture.MaxSize {
		l.err = fmt.Errorf("the picture has more than %d bytes", picture.MaxSize)
		return len(p), nil
	}
	return l.Buffer.Write(p)
}
