//go:build linux

package kvm

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/internal/qcow2"
)

// overlay is a disposable disk and what is below it.
type overlay struct {
	path string
	base qcow2.Info
}

// overlaid gives each disk that the guest can write to an overlay: it returns the domain's definition with those in the places of the disks, and what
// has to be made for it. The rest of the definition is as it was, to the byte.
func (v *vm) overlaid(definition string, uuid libvirt.UUID) (string, []overlay, error) {
	var domain struct {
		domainXML
		NVRAM *struct{} `xml:"os>nvram"`
	}
	if err := parseXML(definition, &domain); err != nil {
		return "", nil, err
	}
	if domain.NVRAM != nil {
		return "", nil, &unusable{errors.New("the firmware of the domain keeps variables in a file (nvram), which would go from one run to the next; use an internal snapshot, or a machine without")}
	}
	var made []overlay
	var problems []error
	changed, err := replaceDisks(definition, func(d diskXML) (string, bool) {
		if !d.writable() || d.Transient != nil {
			return "", false
		}
		o, err := v.newOverlay(d, uuid)
		if err != nil {
			problems = append(problems, err)
			return "", false
		}
		made = append(made, o)
		return o.path, true
	})
	if err != nil {
		return "", nil, err
	}
	if err := fault.Join(problems); err != nil {
		return "", nil, &unusable{err}
	}
	return changed, made, nil
}

// newOverlay says what overlay a disk gets.
func (v *vm) newOverlay(d diskXML, uuid libvirt.UUID) (overlay, error) {
	refuse := func(format string, args ...any) (overlay, error) {
		return overlay{}, fmt.Errorf("the disk %s (%s) cannot be given a disposable disk: "+format, append([]any{d.Target.Dev, d.where()}, args...)...)
	}
	format := d.Driver.Type
	if format == "" {
		format = "raw" // libvirt's default
	}
	switch {
	case d.Type != "file" || d.Source.File == "":
		return refuse("it is a disk of type %q, not a file", d.Type)
	case format != "qcow2" && format != "raw":
		return refuse("its format is %s; only qcow2 and raw are supported (qemu-img convert makes one)", format)
	}
	base, err := qcow2.Inspect(d.Source.File)
	switch {
	case err != nil:
		return refuse("%w", err)
	case base.Format != format && format == "qcow2":
		return refuse("it is to be qcow2, but it is %s", base.Format)
	}
	base.Path = d.Source.File
	if format == "raw" && base.Format != "raw" {
		info, err := os.Stat(d.Source.File)
		if err != nil {
			return refuse("%w", err)
		}
		base.VirtualSize = info.Size() // a raw disk whose guest has written an image's header on it
	}
	base.Format = format
	dir := v.d.config.DisposableDir
	if dir == "" {
		dir = filepath.Dir(d.Source.File)
	}
	return overlay{filepath.Join(dir, disposable.Name(v.conf.Label, hex.EncodeToString(uuid[:8]), d.Target.Dev)), base}, nil
}

// make writes the overlay. One that is there already is of a run that is over, as its name has the domain's UUID and the domain is off; it is an error if
// a QEMU has it open all the same, such as one that another libvirt runs.
func (o overlay) make() error {
	own, err := disposable.Make(o.path, o.base)
	if err != nil {
		return err
	}
	defer disposable.Release(own) // before QEMU has it: only a driver with this domain's turn and directory comes here
	// QEMU may run as another user. libvirt gives it the files that it is to use, unless it was told not to (dynamic_ownership = 0); who may
	// use the disk may then use what is above it.
	if info, err := os.Stat(o.base.Path); err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && os.Chown(o.path, int(s.Uid), int(s.Gid)) == nil {
			_ = os.Chmod(o.path, info.Mode().Perm()&^0o007|0o600)
		}
	}
	return nil
}

var (
	typeAttribute = regexp.MustCompile(`(\stype=)("[^"]*"|'[^']*')`)
	fileAttribute = regexp.MustCompile(`(\sfile=)("[^"]*"|'[^']*')`)
)

// replaceDisks returns a domain's definition in which the disks have the files that replace names as their sources, in the format qcow2.
func replaceDisks(definition string, replace func(diskXML) (path string, is bool)) (string, error) {
	var out bytes.Buffer
	at := 0 // what of the definition is in out
	splice := func(from, to int, text string) {
		out.WriteString(definition[at:from])
		out.WriteString(text)
		at = to
	}
	dec := xml.NewDecoder(strings.NewReader(definition))
	var path []string
	for {
		begin := int(dec.InputOffset())
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("libvirt's XML cannot be read: %w", err)
		}
		switch t := token.(type) {
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.StartElement:
			path = append(path, t.Name.Local)
			if strings.Join(path, "/") != "domain/devices/disk" {
				continue
			}
			var d diskXML
			if err := dec.DecodeElement(&d, &t); err != nil {
				return "", fmt.Errorf("libvirt's XML cannot be read: %w", err)
			}
			path = path[:len(path)-1]
			end := int(dec.InputOffset())
			if file, is := replace(d); is {
				changed, err := replaceDisk(definition[begin:end], file)
				if err != nil {
					return "", err
				}
				splice(begin, end, changed)
			}
		}
	}
	splice(len(definition), len(definition), "")
	return out.String(), nil
}

// replaceDisk returns a disk's element with another source. What libvirt has found below the old one is left out.
func replaceDisk(element, file string) (string, error) {
	var quoted strings.Builder
	if err := xml.EscapeText(&quoted, []byte(file)); err != nil {
		return "", err
	}
	var out bytes.Buffer
	at, driver := 0, false
	dec := xml.NewDecoder(strings.NewReader(element))
	depth := 0
	for {
		begin := int(dec.InputOffset())
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("libvirt's XML cannot be read: %w", err)
		}
		switch t := token.(type) {
		case xml.EndElement:
			depth--
		case xml.StartElement:
			depth++
			if depth != 2 {
				continue
			}
			end := int(dec.InputOffset())
			tag := element[begin:end]
			switch t.Name.Local {
			case "backingStore", "mirror":
				if err := dec.Skip(); err != nil {
					return "", fmt.Errorf("libvirt's XML cannot be read: %w", err)
				}
				depth--
				end, tag = int(dec.InputOffset()), ""
			case "driver":
				driver = true
				if typeAttribute.MatchString(tag) {
					tag = typeAttribute.ReplaceAllString(tag, `${1}"qcow2"`)
				} else {
					tag = "<driver type=\"qcow2\"" + strings.TrimPrefix(tag, "<driver")
				}
			case "source":
				tag = fileAttribute.ReplaceAllLiteralString(tag, ` file="`+quoted.String()+`"`)
			default:
				continue
			}
			out.WriteString(element[at:begin])
			out.WriteString(tag)
			at = end
		}
	}
	out.WriteString(element[at:])
	text := out.String()
	if !driver {
		open := strings.Index(text, ">") + 1
		text = text[:open] + `<driver name="qemu" type="qcow2"/>` + text[open:]
	}
	return text, nil
}
