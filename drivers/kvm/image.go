//go:build linux

package kvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/digitalocean/go-libvirt"
	"github.com/machineries/machineries/drivers/internal/hostfile"
)

// The header of a memory image, as virsh save writes it with libvirt 9.0.0 (virQEMUSaveHeader): 16 bytes that say what it is, and
// numbers of four bytes in the byte order of the host: version, length of the XML, whether the machine ran, compression.
var (
	imageWhole = []byte("LibvirtQemudSave")
	imagePart  = []byte("LibvirtQemudPart")
)

// standing is what a machine is once it is restored.
type standing string

const (
	standsRunning standing = "running"
	standsPaused  standing = "paused, as it was saved"
	standsEither  standing = "running or paused"
)

// readImage says how a machine stands after it was restored from a memory image. What is no memory image is refused; one that this
// process may not read is left to libvirt.
func readImage(path string) (standing, error) {
	f, err := hostfile.OpenRegular(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return standsEither, nil
	case err != nil:
		return "", &unusable{fmt.Errorf("the memory image cannot be used: %w", err)}
	}
	defer f.Close()
	header := make([]byte, 28)
	_, err = io.ReadFull(f, header)
	switch {
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return "", &unusable{fmt.Errorf("the memory image cannot be used: %w", err)}
	case bytes.HasPrefix(header, imagePart):
		return "", &unusable{fmt.Errorf("%s is a memory image that was not written to its end; save the machine again", path)}
	case err != nil || !bytes.HasPrefix(header, imageWhole):
		return "", &unusable{fmt.Errorf("%s is no memory image of libvirt's; make one with virsh save", path)}
	case binary.NativeEndian.Uint32(header[24:]) == 0:
		return standsPaused, nil
	}
	return standsRunning, nil
}

// openImage reads the memory image: the definition in it, the domain that it is of, and how the machine stands afterwards. The error is
// *unusable if the machine cannot be restored from it.
func (v *vm) openImage(ctx context.Context) (definition string, dom libvirt.Domain, as standing, err error) {
	if err := v.mustBeHere("a memory image"); err != nil {
		return "", dom, "", err
	}
	if as, err = readImage(v.conf.Memory); err != nil {
		return "", dom, "", err
	}
	definition, err = get(ctx, v, "reading the definition in the memory image", func(l *libvirt.Libvirt, _ libvirt.Domain) (string, error) {
		return l.DomainSaveImageGetXMLDesc(v.conf.Memory, uint32(libvirt.DomainXMLSecure))
	})
	_, gone := errors.AsType[*noDomain](err)
	switch {
	case err == nil:
	case gone || unheard(err) || ctx.Err() != nil:
		return "", dom, "", err
	default:
		return "", dom, "", &unusable{fmt.Errorf("the memory image %s cannot be used: %w", v.conf.Memory, err)}
	}
	var of domainXML
	if err := parseXML(definition, &of); err != nil {
		return "", dom, "", err
	}
	if dom, _, err = v.domain(ctx); err != nil {
		return "", dom, "", err
	}
	if of.Name != v.conf.Label || of.UUID != uuidText(dom.UUID) {
		return "", dom, "", &unusable{fmt.Errorf("the memory image %s is of the domain %q (%s), and the machine's is %q (%s); libvirt would start that one: name the image of this machine, or make one with virsh save", v.conf.Memory, of.Name, of.UUID, v.conf.Label, uuidText(dom.UUID))}
	}
	return definition, dom, as, nil
}

// fromImage is what has to be called to restore the machine from its memory image, with an empty overlay above each of its disks, which
// are made here.
func (v *vm) fromImage(ctx context.Context, still bool) (begin func(*libvirt.Libvirt, libvirt.Domain) error, as standing, err error) {
	definition, dom, as, err := v.openImage(ctx)
	if err != nil {
		return nil, "", err
	}
	_, overlays, err := v.overlaid(definition, dom.UUID)
	if err == nil {
		err = v.pair.fits(v.conf.Memory, overlays)
	}
	if err != nil {
		return nil, "", err
	}
	definition, err = v.withOverlays(definition, dom.UUID)
	if err != nil {
		return nil, "", err
	}
	return func(l *libvirt.Libvirt, _ libvirt.Domain) error {
		return l.DomainRestoreFlags(v.conf.Memory, libvirt.OptString{definition}, uint32(onlyIf(still, libvirt.DomainSavePaused)))
	}, as, nil
}

// bootOverlaid is what has to be called to boot a machine that has a memory image, with an empty overlay above each of its disks, which
// are made here: what it writes must not change the disks that the image belongs to.
func (v *vm) bootOverlaid(ctx context.Context, still bool) (func(*libvirt.Libvirt, libvirt.Domain) error, error) {
	if err := v.mustBeHere("a disposable disk"); err != nil {
		return nil, err
	}
	definition, err := get(ctx, v, "reading the domain's definition", func(l *libvirt.Libvirt, dom libvirt.Domain) (string, error) {
		return l.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive|libvirt.DomainXMLSecure)
	})
	if err != nil {
		return nil, err
	}
	dom, _, err := v.domain(ctx)
	if err != nil {
		return nil, err
	}
	if definition, err = v.withOverlays(definition, dom.UUID); err != nil {
		return nil, err
	}
	return func(l *libvirt.Libvirt, _ libvirt.Domain) error {
		// The domain stays defined as it is; this is what it runs with.
		_, err := l.DomainCreateXML(definition, onlyIf(still, libvirt.DomainStartPaused))
		return err
	}, nil
}

// withOverlays makes the overlays for a definition, and returns it with them.
func (v *vm) withOverlays(definition string, uuid libvirt.UUID) (string, error) {
	changed, overlays, err := v.overlaid(definition, uuid)
	if err != nil {
		return "", err
	}
	// The ledger goes first: whatever ends this process, the next one finds what is to be cleared.
	err = v.note(func(l *ledger) {
		for _, o := range overlays {
			l.Overlays = append(l.Overlays, o.path)
		}
	})
	for _, o := range overlays {
		if err == nil {
			err = o.make()
		}
	}
	if err != nil {
		return "", fmt.Errorf("no disposable disk can be made for the machine: %w", err)
	}
	return changed, nil
}

// mustBeHere refuses what needs the hypervisor's files where it is on another host.
func (v *vm) mustBeHere(what string) error {
	if v.d.remote == "" {
		return nil
	}
	return &unusable{fmt.Errorf("%s can be used only where libvirt runs on this host, and %s is on %s", what, v.d.config.URI, v.d.remote)}
}

// uuidText is a UUID as XML has it.
func uuidText(u libvirt.UUID) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
