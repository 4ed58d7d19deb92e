package libvirt

import (
	"strconv"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/internal/qcow2"
)

// Flags of DomainSnapshotCreateXML (VIR_DOMAIN_SNAPSHOT_CREATE_).
const (
	createRedefine   = 1
	createCurrent    = 2
	createNoMetadata = 4
	createHalt       = 8
	createDiskOnly   = 16
)

// Flags of lists of snapshots (VIR_DOMAIN_SNAPSHOT_LIST_).
const (
	listRoots     = 1
	listLeaves    = 4
	listNoLeaves  = 8
	listOffAlone  = 32
	listOnAlone   = 64
	listDisksOnly = 128
	listExternal  = 512
	listSorted    = 1024
)

var snapshotProcedures = []procedure{
	remote(185, "DomainSnapshotCreateXML", snapshotCreate),
	remote(186, "DomainSnapshotGetXMLDesc", func(c *call, a *golibvirt.DomainSnapshotGetXMLDescArgs) (ret golibvirt.DomainSnapshotGetXMLDescRet, err error) {
		_, s, err := c.findSnapshot(a.Snap)
		if err == nil {
			ret.XML = s.xml()
		}
		return ret, err
	}),
	remote(187, "DomainSnapshotNum", func(c *call, a *golibvirt.DomainSnapshotNumArgs) (ret golibvirt.DomainSnapshotNumRet, err error) {
		d, err := c.find(a.Dom)
		if err == nil {
			ret.Num = int32(len(d.listSnapshots(a.Flags)))
		}
		return ret, err
	}),
	remote(188, "DomainSnapshotListNames", func(c *call, a *golibvirt.DomainSnapshotListNamesArgs) (ret golibvirt.DomainSnapshotListNamesRet, err error) {
		d, err := c.find(a.Dom)
		if err != nil {
			return ret, err
		}
		for _, s := range d.listSnapshots(a.Flags) {
			if len(ret.Names) < int(a.Maxnames) {
				ret.Names = append(ret.Names, s.name)
			}
		}
		return ret, nil
	}),
	remote(274, "DomainListAllSnapshots", func(c *call, a *golibvirt.DomainListAllSnapshotsArgs) (ret golibvirt.DomainListAllSnapshotsRet, err error) {
		d, err := c.find(a.Dom)
		if err != nil {
			return ret, err
		}
		for _, s := range d.listSnapshots(a.Flags) {
			ret.Ret++
			if a.NeedResults != 0 {
				ret.Snapshots = append(ret.Snapshots, d.snapRef(s))
			}
		}
		return ret, nil
	}),
	remote(189, "DomainSnapshotLookupByName", func(c *call, a *golibvirt.DomainSnapshotLookupByNameArgs) (ret golibvirt.DomainSnapshotLookupByNameRet, err error) {
		d, err := c.find(a.Dom)
		if err != nil {
			return ret, err
		}
		s, err := d.snapshot(a.Name)
		if err == nil {
			ret.Snap = d.snapRef(s)
		}
		return ret, err
	}),
	remote(190, "DomainHasCurrentSnapshot", func(c *call, a *golibvirt.DomainHasCurrentSnapshotArgs) (ret golibvirt.DomainHasCurrentSnapshotRet, err error) {
		d, err := c.find(a.Dom)
		if err == nil && d.current != nil {
			ret.Result = 1
		}
		return ret, err
	}),
	remote(191, "DomainSnapshotCurrent", func(c *call, a *golibvirt.DomainSnapshotCurrentArgs) (ret golibvirt.DomainSnapshotCurrentRet, err error) {
		d, err := c.find(a.Dom)
		switch {
		case err != nil:
		case d.current == nil:
			err = fail(codeNoSnapshot, c.opts.Flavour.from(), "the domain does not have a current snapshot")
		default:
			ret.Snap = d.snapRef(d.current)
		}
		return ret, err
	}),
	remote(192, "DomainRevertToSnapshot", func(c *call, a *golibvirt.DomainRevertToSnapshotArgs) (none, error) {
		return none{}, c.withSnapshot(a.Snap, func(d *Domain, s *snapshot) error { return d.revert(c.ctx, s, a.Flags) })
	}),
	remote(193, "DomainSnapshotDelete", func(c *call, a *golibvirt.DomainSnapshotDeleteArgs) (none, error) {
		return none{}, c.withSnapshot(a.Snap, func(d *Domain, s *snapshot) error { return d.deleteSnapshot(s, uint32(a.Flags)) })
	}),
	remote(244, "DomainSnapshotGetParent", func(c *call, a *golibvirt.DomainSnapshotGetParentArgs) (ret golibvirt.DomainSnapshotGetParentRet, err error) {
		d, s, err := c.findSnapshot(a.Snap)
		switch {
		case err != nil:
		case s.parent == "":
			err = fail(codeNoSnapshot, c.opts.Flavour.from(), "snapshot '%s' does not have a parent", s.name)
		default:
			ret.Snap = golibvirt.DomainSnapshot{Name: s.parent, Dom: d.ref()}
		}
		return ret, err
	}),
	remote(271, "DomainSnapshotIsCurrent", func(c *call, a *golibvirt.DomainSnapshotIsCurrentArgs) (ret golibvirt.DomainSnapshotIsCurrentRet, err error) {
		d, s, err := c.findSnapshot(a.Snap)
		if err == nil && d.current == s {
			ret.Current = 1
		}
		return ret, err
	}),
	remote(272, "DomainSnapshotHasMetadata", func(c *call, a *golibvirt.DomainSnapshotHasMetadataArgs) (golibvirt.DomainSnapshotHasMetadataRet, error) {
		_, _, err := c.findSnapshot(a.Snap)
		return golibvirt.DomainSnapshotHasMetadataRet{Metadata: 1}, err
	}),
	remote(246, "DomainSnapshotNumChildren", func(c *call, a *golibvirt.DomainSnapshotNumChildrenArgs) (ret golibvirt.DomainSnapshotNumChildrenRet, err error) {
		d, s, err := c.findSnapshot(a.Snap)
		if err == nil {
			ret.Num = int32(len(d.children(s.name)))
		}
		return ret, err
	}),
}

// withSnapshot does something to a snapshot, alone.
func (c *call) withSnapshot(ref golibvirt.DomainSnapshot, do func(*Domain, *snapshot) error) error {
	d, _, err := c.findSnapshot(ref)
	if err != nil {
		return err
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return err
	}
	defer d.unlock()
	s, err := d.snapshot(ref.Name)
	if err != nil {
		return err
	}
	return do(d, s)
}

func (c *call) findSnapshot(ref golibvirt.DomainSnapshot) (*Domain, *snapshot, error) {
	d, err := c.find(ref.Dom)
	if err != nil {
		return nil, nil, err
	}
	s, err := d.snapshot(ref.Name)
	return d, s, err
}

func (d *Domain) children(name string) []*snapshot {
	var out []*snapshot
	for _, s := range d.snapshots {
		if s.parent == name {
			out = append(out, s)
		}
	}
	return out
}

// listSnapshots are those that flags ask for.
func (d *Domain) listSnapshots(flags uint32) []*snapshot {
	var out []*snapshot
	for _, s := range d.snapshots {
		leaf := len(d.children(s.name)) == 0
		off := s.state == "shutoff"
		states := flags & (listOffAlone | listOnAlone | listDisksOnly)
		switch {
		case flags&listRoots != 0 && s.parent != "",
			flags&(listLeaves|listNoLeaves) == listLeaves && !leaf,
			flags&(listLeaves|listNoLeaves) == listNoLeaves && leaf,
			states != 0 && off && flags&listOffAlone == 0,
			states != 0 && !off && flags&listOnAlone == 0,
			flags&(listExternal|listExternal>>1) == listExternal:
			continue
		}
		out = append(out, s)
	}
	return out
}

func snapshotCreate(c *call, a *golibvirt.DomainSnapshotCreateXMLArgs) (ret golibvirt.DomainSnapshotCreateXMLRet, err error) {
	d, err := c.find(a.Dom)
	if err != nil {
		return ret, err
	}
	s, err := parseSnapshot(a.XMLDesc)
	if err != nil {
		return ret, err
	}
	if s.external || a.Flags&createDiskOnly != 0 {
		return ret, fail(codeConfig, fromQEMU, "external snapshots are not there in the fake libvirtd")
	}
	if err := d.lock(c.ctx, c.holder()); err != nil {
		return ret, err
	}
	defer d.unlock()
	if a.Flags&createRedefine != 0 {
		return d.redefine(s, a.Flags&createCurrent != 0)
	}
	if s, err = d.takeSnapshot(c.ctx, s); err != nil {
		return ret, err
	}
	ret.Snap = d.snapRef(s)
	if a.Flags&createNoMetadata != 0 {
		d.forgetSnapshot(s)
	}
	if a.Flags&createHalt != 0 && d.active() {
		d.stopped(offFromSnapshot, stoppedFromSnapshot)
	}
	return ret, nil
}

// redefine tells libvirt of a snapshot that the images have already; whether
// they do shows when it is reverted to.
func (d *Domain) redefine(s *snapshot, current bool) (ret golibvirt.DomainSnapshotCreateXMLRet, err error) {
	if s.name == "" || s.state == "" {
		return ret, fail(codeXML, fromSnapshot, "a redefined snapshot must have a name and a state")
	}
	if old, err := d.snapshot(s.name); err == nil {
		*old = *s
		s = old
	} else {
		d.snapshots = append(d.snapshots, s)
	}
	if len(s.disks) == 0 {
		for _, disk := range diskElements(d.def) {
			s.setDisk(disk.child("target").attr("dev"), "internal")
		}
	}
	if s.def == nil {
		s.def = d.def.clone()
	}
	if current {
		d.current = s
	}
	ret.Snap = d.snapRef(s)
	return ret, nil
}

// parseSnapshot reads a snapshot's XML.
func parseSnapshot(text string) (*snapshot, error) {
	e, err := parseXML(text, "domainsnapshot")
	if err != nil {
		return nil, err
	}
	s := &snapshot{
		name: e.child("name").content(), description: e.child("description").content(), state: e.child("state").content(),
		parent: e.child("parent", "name").content(), external: e.child("memory").attr("snapshot") == "external", created: time.Now(), def: e.child("domain"),
	}
	if at, err := strconv.ParseInt(e.child("creationTime").content(), 10, 64); err == nil {
		s.created = time.Unix(at, 0)
	}
	for _, disk := range e.child("disks").all("disk") {
		s.disks = append(s.disks, disk)
		s.external = s.external || disk.attr("snapshot") == "external"
	}
	return s, nil
}

// Flags of DomainSnapshotDelete (VIR_DOMAIN_SNAPSHOT_DELETE_).
const (
	deleteChildren     = 1
	deleteMetadata     = 2
	deleteChildrenOnly = 4
)

func (d *Domain) deleteSnapshot(s *snapshot, flags uint32) error {
	if flags&(deleteChildren|deleteChildrenOnly) != 0 {
		for _, child := range d.children(s.name) {
			if err := d.deleteSnapshot(child, flags&deleteMetadata|deleteChildren); err != nil {
				return err
			}
		}
		if flags&deleteChildrenOnly != 0 {
			return nil
		}
	}
	if flags&deleteMetadata == 0 && d.server.opts.Flavour == QEMU {
		remove := func(im *qcow2.Image, _ bool) error { return im.DeleteSnapshot(s.name) }
		var err error
		if d.active() {
			for i, disk := range diskElements(d.live) {
				if im, ok := d.disks[min(i, len(d.disks)-1)].image(); ok && s.holds(disk) {
					err = remove(im, i == 0)
				}
			}
		} else {
			err = d.eachImage(s, d.def, remove)
		}
		if err != nil {
			return asError(err, fromQEMU)
		}
	}
	d.forgetSnapshot(s)
	return nil
}
