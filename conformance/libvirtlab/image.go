//go:build linux

package libvirtlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
)

// imageHeader is the beginning of a memory image as libvirt writes it
// (qemu_saveimage.h, version 2, as of libvirt 9.0.0): numbers in the host's byte order,
// then DataLen bytes with the domain's XML and, at CookieOffset if that is not 0,
// what libvirt notes beside, and then QEMU's own data.
type imageHeader struct {
	Magic                                                  [16]byte
	Version, DataLen, WasRunning, Compressed, CookieOffset uint32
	Unused                                                 [14]uint32
}

const imageMagic = "LibvirtQemudSave"

// moveImage copies a memory image to a path at which there is none, for a domain
// that is the same but for the words that change: a domain of another name or id,
// and other paths. libvirt itself takes no image of another domain.
func moveImage(to, from string, change *strings.Replacer) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var h imageHeader
	size := binary.Size(h)
	if len(data) < size {
		return fmt.Errorf("%s is no memory image: it has %d bytes", from, len(data))
	}
	if err := binary.Read(bytes.NewReader(data), binary.NativeEndian, &h); err != nil {
		return err
	}
	if string(h.Magic[:]) != imageMagic || h.Version != 2 || len(data) < size+int(h.DataLen) {
		return fmt.Errorf("%s is no memory image that the lab knows: magic %q, version %d", from, h.Magic, h.Version)
	}
	notes, rest := data[size:size+int(h.DataLen)], data[size+int(h.DataLen):]
	end := bytes.IndexByte(notes, 0)
	if end < 0 {
		return errors.New("the memory image's XML has no end")
	}
	var cookie []byte
	if h.CookieOffset != 0 && int(h.CookieOffset) < len(notes) {
		cookie = notes[h.CookieOffset:]
		if i := bytes.IndexByte(cookie, 0); i >= 0 {
			cookie = cookie[:i+1]
		}
	}
	changed := append([]byte(change.Replace(string(notes[:end]))), 0)
	if cookie != nil {
		h.CookieOffset = uint32(len(changed))
		changed = append(changed, cookie...)
	}
	if short := len(notes) - len(changed); short > 0 {
		changed = append(changed, make([]byte, short)...)
	}
	h.DataLen = uint32(len(changed))
	var out bytes.Buffer
	if err := binary.Write(&out, binary.NativeEndian, h); err != nil {
		return err
	}
	out.Write(changed)
	out.Write(rest)
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(out.Bytes())
	return errors.Join(err, f.Close())
}
