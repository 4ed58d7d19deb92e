//go:build linux

package libvirtlab

import (
	"context"

	"github.com/digitalocean/go-libvirt"
)

// makeTest makes a machine of libvirt's test driver, which is a name with a
// state. Its snapshots hold no more than that.
func (b *bench) makeTest(ctx context.Context, m *machine) error {
	return ask(ctx, b.daemon, func(c *client) error {
		dom, err := c.DomainDefineXML(m.domain.xml())
		if err != nil {
			return err
		}
		if err := c.DomainCreate(dom); err != nil {
			return err
		}
		if m.spec.SavedPaused {
			if err := c.DomainSuspend(dom); err != nil {
				return err
			}
		}
		if _, err := c.DomainSnapshotCreateXML(dom, "<domainsnapshot><name>"+snapshotName+"</name></domainsnapshot>", 0); err != nil {
			return err
		}
		return c.DomainDestroyFlags(dom, libvirt.DomainDestroyDefault)
	})
}
