//go:build linux

package libvirtlab

import (
	"net"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// held is a connection that is open and not used.
type held struct{ c *client }

// connectHold connects to a daemon for good. The test driver's machines are
// there for as long as anyone is connected to it, and begin anew with the next who
// connects.
func connectHold(d daemon) (*held, error) {
	conn, err := net.Dial("unix", d.Socket())
	if err != nil {
		return nil, err
	}
	c := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := c.ConnectToURI(libvirt.ConnectURI(d.URI())); err != nil {
		conn.Close()
		return nil, err
	}
	return &held{c}, nil
}

func (h *held) close() {
	if h != nil {
		_ = h.c.Disconnect()
	}
}
