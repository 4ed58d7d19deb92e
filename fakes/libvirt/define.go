package libvirt

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/fakes/guest"
)

// define makes a domain of its XML, or changes the one that it names. The server
// is locked.
func (s *Server) define(text string, persistent bool) (*Domain, error) {
	def, name, uuid, err := parseDomain(text)
	if err != nil {
		return nil, err
	}
	from := s.opts.Flavour.from()
	for _, d := range s.domains {
		switch {
		case d.name == name && d.uuid == uuid && persistent:
			d.def = def
			d.persistent = true
			s.lifecycle(d, eventDefined, 1)
			return d, nil
		case d.name == name && d.uuid != uuid:
			return nil, fail(codeFailed, from, "domain '%s' already exists with uuid %s", name, formatUUID(d.uuid))
		case d.uuid == uuid && d.name != name:
			return nil, fail(codeFailed, from, "domain '%s' is already defined with uuid %s", d.name, formatUUID(uuid))
		case d.name == name && d.active():
			return nil, fail(codeInvalid, fromDomain, "domain '%s' is already active", name)
		case d.name == name:
			return d, nil
		}
	}
	d := &Domain{server: s, name: name, uuid: uuid, def: def, persistent: persistent, id: -1}
	d.set(stateOff, 0)
	for i := range d.disks {
		d.disks[i] = &diskSlot{}
	}
	opts := guest.Options{Disk: d.disks[0], BootTime: s.opts.Durations.Boot, OnPowerOff: d.guestPowerOff, OnReset: d.guestReset}
	if len(diskElements(def)) > 1 {
		opts.Second = d.disks[1]
	}
	d.model = guest.New(opts)
	s.domains = append(s.domains, d)
	if persistent {
		s.lifecycle(d, eventDefined, 0)
	}
	return d, nil
}

// parseDomain reads a domain's XML and adds what libvirt adds that clients look
// at.
func parseDomain(text string) (def *element, name string, uuid golibvirt.UUID, err error) {
	def, err = parseXML(text, "domain")
	if err != nil {
		return nil, "", uuid, err
	}
	name = def.child("name").content()
	switch {
	case def.attr("type") == "":
		return nil, "", uuid, fail(codeXML, 20, "Missing required attribute 'type' in element 'domain'")
	case name == "":
		return nil, "", uuid, &Error{Code: 21, Domain: 20, Message: "missing name information"}
	case strings.Contains(name, "/"):
		return nil, "", uuid, fail(codeXML, fromDomain, "name %s cannot contain '/'", name)
	case def.child("os", "type") == nil:
		return nil, "", uuid, fail(codeXML, fromDomain, "an os <type> must be specified")
	case def.child("memory") == nil:
		return nil, "", uuid, &Error{Code: codeXML, Domain: fromDomain, Message: "missing element or attribute './memory[1]'"}
	}
	if u := def.child("uuid").content(); u == "" {
		rand.Read(uuid[:])
		uuid[6], uuid[8] = uuid[6]&0x0f|0x40, uuid[8]&0x3f|0x80
	} else {
		b, err := hex.DecodeString(strings.ReplaceAll(u, "-", ""))
		if err != nil || len(b) != len(uuid) {
			return nil, "", uuid, fail(codeInternal, fromDomain, "malformed uuid element")
		}
		copy(uuid[:], b)
	}
	// An id comes with XML of a machine that runs, and says nothing of the definition.
	for i, a := range def.attrs {
		if a.Name.Local == "id" {
			def.attrs = append(def.attrs[:i], def.attrs[i+1:]...)
			break
		}
	}
	def.ensure("uuid", "", "name").text = formatUUID(uuid)
	memory := def.child("memory")
	kib := memoryKiB(memory)
	memory.text = strconv.FormatInt(kib, 10)
	memory.setAttr("unit", "KiB")
	current := def.ensure("currentMemory", "", "memory")
	if current.content() == "" {
		current.text = memory.text
	} else {
		current.text = strconv.FormatInt(memoryKiB(current), 10)
	}
	current.setAttr("unit", "KiB")
	def.ensure("vcpu", "1", "currentMemory").setAttr("placement", "static")
	if full := machineTypes[def.child("os", "type").attr("machine")]; full != "" {
		def.child("os", "type").setAttr("machine", full)
	}
	def.ensure("clock", "", "features", "offset", "utc")
	def.ensure("on_poweroff", "destroy", "clock")
	def.ensure("on_reboot", "restart", "on_poweroff")
	def.ensure("on_crash", "destroy", "on_reboot")
	def.ensure("devices", "", "on_crash")
	return def, name, uuid, nil
}

// machineTypes are what QEMU 7.2's short names of machines stand for.
var machineTypes = map[string]string{"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2"}

// units are libvirt's units of memory, in bytes.
var units = map[string]int64{
	"b": 1, "bytes": 1, "": 1 << 10, "k": 1 << 10, "kib": 1 << 10, "kb": 1000, "m": 1 << 20, "mib": 1 << 20, "mb": 1000 * 1000,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1000 * 1000 * 1000,
}

// memoryKiB is an amount of memory in the unit in which libvirt tells them.
func memoryKiB(e *element) int64 {
	n, err := strconv.ParseInt(e.content(), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0
	}
	unit, ok := units[strings.ToLower(e.attr("unit"))]
	if !ok {
		unit = 1 << 10
	}
	return (n*unit + 1023) / 1024
}

// now is what the domain is: in its present run, or by its definition.
func (d *Domain) now() *element {
	if d.live != nil {
		return d.live
	}
	return d.def
}

// xml is the domain's XML as clients get it.
func (d *Domain) xml(inactive bool) string {
	if inactive || d.live == nil {
		return d.def.String()
	}
	e := d.live.clone()
	e.setAttr("id", strconv.Itoa(int(d.id)))
	return e.String()
}

// XML is the domain's XML, of its present run or, where inactive is set or the
// machine is off, of its definition.
func (d *Domain) XML(inactive bool) string {
	d.server.mu.Lock()
	defer d.server.mu.Unlock()
	return d.xml(inactive)
}

// diskElements are the disks of a domain that a guest can write to.
func diskElements(def *element) []*element {
	var out []*element
	for _, disk := range def.child("devices").all("disk") {
		if device := disk.attr("device"); device == "" || device == "disk" {
			out = append(out, disk)
		}
	}
	return out
}
