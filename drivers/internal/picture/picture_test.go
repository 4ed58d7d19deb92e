package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"testing"
)

func TestAPixmapIsConvertedOrRefused(t *testing.T) {
	good := "P6\n2 1\n255\n\x01\x02\x03\xff\n\x00"
	data, err := FromPPM([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil || img.Bounds() != image.Rect(0, 0, 2, 1) {
		t.Fatal(img, err)
	}
	if got := fmt.Sprint(img.At(0, 0), img.At(1, 0)); got != "{1 2 3 255} {255 10 0 255}" {
		t.Errorf("the pixels are %s", got)
	}
	for _, bad := range []string{"", "P5\n2 1\n255\n", "P6\n2 1\n255\n\x00", "P6\n-2 -1\n255\n\x01\x02\x03\xff\x00\x00", "P6\n2 1\n65535\n\x01\x02\x03\xff\x00\x00",
		"P6\n9223372036854775807 9223372036854775807\n255\n\x00\x00\x00", "P6\n99999999999999999999 1\n255\n", good + "more"} {
		if _, err := FromPPM([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestAPictureCutShortAnywhereIsRefused(t *testing.T) {
	var whole bytes.Buffer
	if err := png.Encode(&whole, image.NewNRGBA(image.Rect(0, 0, 64, 48))); err != nil {
		t.Fatal(err)
	}
	if err := CheckPNG(whole.Bytes()); err != nil {
		t.Errorf("a whole picture is refused: %v", err)
	}
	for size := range whole.Len() {
		if CheckPNG(whole.Bytes()[:size]) == nil {
			t.Errorf("the first %d of %d bytes are taken for a picture", size, whole.Len())
		}
	}
}
