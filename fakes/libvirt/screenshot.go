package libvirt

import (
	"bytes"
	"image"
	"image/png"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// What QEMU's screen has before a guest sets another mode.
const screenWidth, screenHeight = 640, 480

// screenshot answers with the kind of picture, and sends the picture after that
// as a stream, whose end is a packet without content (seen on libvirt 9.0.0).
func screenshot(c *call, a *golibvirt.DomainScreenshotArgs) (ret golibvirt.DomainScreenshotRet, err error) {
	var picture []byte
	err = c.on(a.Dom, fromDomain, func(d *Domain) error {
		models := d.live.child("devices").all("video")
		switch {
		case len(models) == 0:
			return fail(codeInvalid, fromQEMU, "no screens to take screenshot from")
		case a.Screen > 0:
			return failArg(fromQEMU, "unable to find screen %d", a.Screen)
		}
		if err := d.monitor(c.ctx, d.gone, "screendump"); err != nil {
			return err
		}
		if models[0].child("model").attr("type") == "none" {
			return fail(codeInternal, fromQEMU, "unable to execute QEMU command 'screendump': There is no console to take a screendump from")
		}
		picture, err = drawScreen(d.state == stateRunning)
		return err
	})
	if err != nil {
		return ret, err
	}
	c.after = func() { c.stream(picture) }
	ret.Mime = golibvirt.OptString{"image/png"} // so from QEMU 7.1 on
	return ret, nil
}

// drawScreen is grey while the guest runs and black while it does not.
func drawScreen(running bool) ([]byte, error) {
	img := image.NewGray(image.Rect(0, 0, screenWidth, screenHeight))
	if running {
		for i := range img.Pix {
			img.Pix[i] = 0xaa
		}
	}
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}

// stream sends data as the stream of a call.
func (c *call) stream(data []byte) {
	c.client.mu.Lock()
	c.client.streams[c.packet.Serial] = true
	c.client.mu.Unlock()
	p := packet{header: c.packet.header}
	p.Type, p.Status = typeStream, statusContinue
	for len(data) > 0 {
		n := min(len(data), maxStreamData)
		p.payload = data[:n]
		c.client.send(p.encode())
		data = data[n:]
	}
	p.payload = nil
	c.client.send(p.encode())
}
