// Package picture checks and converts the pictures of a machine's display that hypervisors make.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
)

// MaxSize bounds what is read of a picture, in bytes: 8K in PPM has 100 MB.
const MaxSize = 256 << 20

// CheckPNG is an error unless data is a PNG file with all of its pixels and its end. A full file system can leave the beginning of one,
// whose header is as good as that of a whole one.
func CheckPNG(data []byte) error {
	header, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("it is no PNG file: %w", err)
	}
	if int64(header.Width)*int64(header.Height) > MaxSize/4 {
		return fmt.Errorf("it has %d × %d pixels, which is more than %d", header.Width, header.Height, MaxSize/4)
	}
	if _, err := png.Decode(bytes.NewReader(data)); err != nil {
		return fmt.Errorf("it is not whole after %d bytes: %w", len(data), err)
	}
	return nil
}

// FromPPM makes PNG of a portable pixmap as QEMU writes it: "P6", width, height and 255, each followed by one blank, and three
// bytes for each pixel.
func FromPPM(data []byte) ([]byte, error) {
	var width, height, most int
	in := bytes.NewReader(data)
	if n, err := fmt.Fscanf(in, "P6\n%d %d\n%d\n", &width, &height, &most); err != nil || n != 3 {
		return nil, errors.New("it is not a portable pixmap (P6)")
	}
	pixels := data[len(data)-in.Len():]
	if most != 255 || width <= 0 || height <= 0 || width > MaxSize || height > MaxSize || len(pixels) != 3*width*height {
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
