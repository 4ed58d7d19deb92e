package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// imageHeader begins a memory image, as libvirt writes it since 9.0 (version 2):
// numbers in the host's byte order, then DataLen bytes with the domain's XML and a
// zero byte, then what the hypervisor saved.
type imageHeader struct {
	Magic                                                  [16]byte
	Version, DataLen, WasRunning, Compressed, CookieOffset uint32
	Unused                                                 [14]uint32
}

const (
	imageMagic   = "LibvirtQemudSave"
	imageVersion = 2
	maxImage     = 1 << 30
)

// memoryImage is a memory image, taken apart.
type memoryImage struct {
	running bool
	def     *element
	memory  []byte
}

func (m memoryImage) encode() []byte {
	text := append([]byte(m.def.String()), 0)
	h := imageHeader{Version: imageVersion, DataLen: uint32(len(text))}
	copy(h.Magic[:], imageMagic)
	if m.running {
		h.WasRunning = 1
	}
	b, _ := binary.Append(nil, binary.NativeEndian, h) // it has a fixed size
	return append(append(b, text...), m.memory...)
}

// decodeImage takes an image apart; path is for the errors, which are libvirt's.
func decodeImage(b []byte, path string) (memoryImage, error) {
	var h imageHeader
	var m memoryImage
	size := binary.Size(h)
	if len(b) < size {
		return m, fail(codeFailed, fromQEMU, "failed to read qemu header")
	}
	_ = binary.Read(bytes.NewReader(b), binary.NativeEndian, &h) // it is long enough
	switch {
	case string(h.Magic[:]) != imageMagic:
		return m, fail(codeFailed, fromQEMU, "image magic is incorrect")
	case h.Version > imageVersion:
		return m, fail(codeFailed, fromQEMU, "image version is not supported (%d > %d)", h.Version, imageVersion)
	case h.DataLen == 0:
		return m, fail(codeFailed, fromQEMU, "invalid header data length: %d", h.DataLen)
	case int64(h.DataLen) > int64(len(b)-size):
		return m, fail(codeFailed, fromQEMU, "failed to read domain XML")
	case h.Compressed != 0:
		return m, fail(codeFailed, fromQEMU, "Invalid compressed save format %d", h.Compressed)
	}
	text := b[size : size+int(h.DataLen)]
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	def, _, _, err := parseDomain(string(text))
	if err != nil {
		return m, err
	}
	return memoryImage{h.WasRunning != 0, def, b[size+int(h.DataLen):]}, nil
}

// readImage reads a memory image from a file.
func readImage(path string) (memoryImage, error) {
	f, err := os.Open(path)
	if err != nil {
		return memoryImage{}, failSystem(fromQEMU, err, "Failed to open file '%s'", path)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxImage))
	if err != nil {
		return memoryImage{}, failSystem(fromQEMU, err, "Failed to read file '%s'", path)
	}
	return decodeImage(b, path)
}

// Flags of saving and restoring (VIR_DOMAIN_SAVE_).
const (
	saveRunning = 2
	savePaused  = 4
)

var saveProcedures = []procedure{
	remote(55, "DomainSave", func(c *call, a *golibvirt.DomainSaveArgs) (none, error) { return none{}, c.save(a.Dom, a.To, nil, 0) }),
	remote(232, "DomainSaveFlags", func(c *call, a *golibvirt.DomainSaveFlagsArgs) (none, error) {
		return none{}, c.save(a.Dom, a.To, a.Dxml, a.Flags)
	}),
	remote(54, "DomainRestore", func(c *call, a *golibvirt.DomainRestoreArgs) (none, error) {
		return none{}, c.restoreFrom(a.From, nil, 0)
	}),
	remote(233, "DomainRestoreFlags", func(c *call, a *golibvirt.DomainRestoreFlagsArgs) (none, error) {
		return none{}, c.restoreFrom(a.From, a.Dxml, a.Flags)
	}),
	remote(235, "DomainSaveImageGetXMLDesc", func(_ *call, a *golibvirt.DomainSaveImageGetXMLDescArgs) (ret golibvirt.DomainSaveImageGetXMLDescRet, err error) {
		m, err := readImage(a.File)
		if err == nil {
			ret.XML = m.def.String()
		}
		return ret, err
	}),
	remote(182, "DomainManagedSave", func(c *call, a *golibvirt.DomainManagedSaveArgs) (none, error) {
		return none{}, c.on(a.Dom, fromDomain, func(d *Domain) error {
			if !d.persistent {
				return fail(codeInvalid, fromQEMU, "cannot do managed save for transient domain")
			}
			image, err := d.saved(c.ctx, nil, a.Flags)
			if err == nil {
				d.managed = image
			}
			return err
		})
	}),
	remote(183, "DomainHasManagedSaveImage", func(c *call, a *golibvirt.DomainHasManagedSaveImageArgs) (ret golibvirt.DomainHasManagedSaveImageRet, err error) {
		d, err := c.find(a.Dom)
		if err == nil && d.managed != nil {
			ret.Result = 1
		}
		return ret, err
	}),
	remote(184, "DomainManagedSaveRemove", func(c *call, a *golibvirt.DomainManagedSaveRemoveArgs) (none, error) {
		d, err := c.find(a.Dom)
		if err == nil {
			d.managed = nil
		}
		return none{}, err
	}),
}

// optionalXML reads the XML that a client may give instead of what is saved.
func optionalXML(dxml golibvirt.OptString) (*element, error) {
	if len(dxml) == 0 || dxml[0] == "" {
		return nil, nil
	}
	def, _, _, err := parseDomain(dxml[0])
	return def, err
}

func (c *call) save(ref golibvirt.Domain, to string, dxml golibvirt.OptString, flags uint32) error {
	def, err := optionalXML(dxml)
	if err != nil {
		return err
	}
	return c.on(ref, fromDomain, func(d *Domain) error {
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return failSystem(fromQEMU, err, "Failed to create file '%s'", to)
		}
		image, err := d.saved(c.ctx, def, flags)
		if err == nil {
			_, err = f.Write(image)
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			if c.ctx.Err() == nil { // a daemon that was killed removes nothing
				os.Remove(to)
			}
			return asError(err, fromQEMU)
		}
		return nil
	})
}

// saved saves the machine's memory and ends the machine.
func (d *Domain) saved(ctx context.Context, def *element, flags uint32) ([]byte, error) {
	gone := d.gone
	wasRunning := d.state == stateRunning
	d.beginJob()
	if wasRunning {
		if err := d.suspend(ctx, pausedSave); err != nil {
			return nil, err
		}
	}
	err := d.monitor(ctx, gone, "save")
	if err == nil {
		err = d.waitJob(ctx, gone, d.server.opts.Durations.Save, "domain save job")
	}
	var memory []byte
	if err == nil {
		memory, err = d.saveMemory()
	}
	if err != nil {
		if wasRunning && d.gone == gone {
			err = errors.Join(err, d.resume(ctx))
		}
		return nil, err
	}
	if def == nil {
		def = d.live
	}
	m := memoryImage{running: wasRunning && flags&savePaused == 0 || flags&saveRunning != 0, def: def, memory: memory}
	image := m.encode()
	d.server.savedMemory(d, true)
	d.stopped(offSaved, stoppedSaved)
	return image, nil
}

func (c *call) restoreFrom(path string, dxml golibvirt.OptString, flags uint32) error {
	m, err := readImage(path)
	if err != nil {
		return err
	}
	given, err := optionalXML(dxml)
	if err != nil {
		return err
	}
	def := m.def
	if given != nil {
		// libvirt lets paths differ, not what the guest sees.
		if a, b := given.child("uuid").content(), def.child("uuid").content(); a != b {
			return fail(codeConfig, fromDomain, "Target domain uuid %s does not match source %s", a, b)
		}
		if a, b := memoryKiB(given.child("memory")), memoryKiB(def.child("memory")); a != b {
			return fail(codeConfig, fromDomain, "Target domain max memory %d does not match source %d", a, b)
		}
		def = given
	}
	d, err := c.defineRun(def)
	if err != nil {
		return err
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return err
	}
	defer d.unlock()
	if d.active() {
		return fail(codeInvalid, fromDomain, "domain '%s' is already active", d.name)
	}
	switch {
	case flags&saveRunning != 0:
		m.running = true
	case flags&savePaused != 0:
		m.running = false
	}
	return d.fromImage(c.ctx, m, def)
}

// defineRun is the domain that runs by that XML: one that is defined, or a new one
// that is there for the run alone.
func (s *Server) defineRun(def *element) (*Domain, error) {
	d, err := s.define(def.String(), false)
	if err != nil {
		return nil, err
	}
	if d.active() {
		return nil, fail(codeInvalid, fromDomain, "domain '%s' is already active", d.name)
	}
	return d, nil
}

// fromImage starts the machine from saved memory.
func (d *Domain) fromImage(ctx context.Context, m memoryImage, def *element) error {
	state, err := d.openMemory(m.memory, def)
	if err == nil {
		err = d.begin(ctx, boot{state: state, paused: !m.running, took: d.server.opts.Durations.Revert, xml: def, running: runningRestored, stopped: pausedMigration})
	}
	if err != nil {
		d.leave()
		return err
	}
	d.server.lifecycle(d, eventStarted, startedRestored)
	if m.running {
		d.server.lifecycle(d, eventResumed, resumedFromSnapshot)
	} else {
		d.server.lifecycle(d, eventSuspended, suspendedRestored)
	}
	return nil
}

// restore starts the machine from what managed save left.
func (d *Domain) restore(ctx context.Context, image []byte, paused bool) error {
	m, err := decodeImage(image, "")
	if err != nil {
		return err
	}
	m.running = m.running && !paused
	return d.fromImage(ctx, m, m.def)
}
