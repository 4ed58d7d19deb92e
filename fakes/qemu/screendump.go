//go:build linux

package qemu

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"slices"
	"strings"
)

var displayCommands = map[string]command{
	"screendump": {args: []arg{{name: "filename", kind: kindString}, {name: "device", kind: kindString, optional: true},
		{name: "head", kind: kindInt, optional: true}, {name: "format", kind: kindEnum, optional: true, values: strings.Fields("ppm png")}}, run: screendump},
}

// What QEMU's screen has before a guest sets another mode.
const screenWidth, screenHeight = 640, 480

// screendump writes a picture of the screen: grey while the guest runs, black while
// it does not.
func screendump(m *machine, _ *session, args *dict) (any, error) {
	switch {
	case args.has("head") && !args.has("device"):
		return nil, generic("'head' must be specified together with 'device'")
	case args.has("device"):
		return nil, &qerror{"DeviceNotFound", fmt.Sprintf("Device '%s' not found", args.str("device"))}
	case !m.screen():
		return nil, generic("There is no console to take a screendump from")
	}
	c := color.Gray{0}
	if m.running() {
		c.Y = 0xaa
	}
	var b bytes.Buffer
	if args.str("format") == "png" {
		img := image.NewGray(image.Rect(0, 0, screenWidth, screenHeight))
		for i := range img.Pix {
			img.Pix[i] = c.Y
		}
		if err := png.Encode(&b, img); err != nil {
			return nil, err
		}
	} else {
		fmt.Fprintf(&b, "P6\n%d %d\n255\n", screenWidth, screenHeight)
		b.Write(bytes.Repeat([]byte{c.Y}, 3*screenWidth*screenHeight))
	}
	f, err := os.OpenFile(args.str("filename"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, generic("failed to open file '%s': %s", args.str("filename"), strerror(err))
	}
	_, err = f.Write(b.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, generic("failed to write file '%s': %s", args.str("filename"), strerror(err))
	}
	return nil, nil
}

// screen says whether the machine has a graphics device.
func (m *machine) screen() bool {
	for _, dev := range m.devices {
		if slices.Contains(strings.Fields("VGA cirrus-vga qxl-vga qxl virtio-vga virtio-gpu-pci vmware-svga bochs-display secondary-vga ramfb"), dev.opts.get("driver")) {
			return true
		}
	}
	return m.display && (!m.noDefaults || m.vga)
}
