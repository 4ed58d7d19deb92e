//go:build linux

package libvirtlab

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// client is a connection of the lab's own to a daemon.
type client = libvirt.Libvirt

// daemon is a libvirtd, real or fake, that the lab commands.
type daemon interface {
	// Socket is where it listens, and URI what it calls what it manages.
	Socket() string
	URI() string
	// Stop ends it, Kill without any warning, and Start starts it again. Machines
	// run on.
	Stop(ctx context.Context) error
	Kill(ctx context.Context) error
	Start(ctx context.Context) error
	// Silence makes it answer nothing until Wake.
	Silence() error
	Wake() error
	// Heal makes it run and answer, whatever was done to it.
	Heal(ctx context.Context) error
	// Close ends it and its machines, and removes what it has made.
	Close() error
}

// askPatience bounds a call of the lab's own that its context does not.
const askPatience = 60 * time.Second

// ask connects to a daemon, calls f, and lets go. The lab asks rarely, and a
// daemon may have been restarted since: a connection that is held would save
// nothing.
func ask(ctx context.Context, d daemon, f func(c *client) error) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.Socket())
	if err != nil {
		return err
	}
	// The library knows no context; without its connection it gives up.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := c.ConnectToURI(libvirt.ConnectURI(d.URI())); err != nil {
		conn.Close()
		return fmt.Errorf("connecting to %s: %w", d.URI(), err)
	}
	err = f(c)
	if over := ctx.Err(); over != nil {
		conn.Close()
		return fmt.Errorf("%w (%v)", over, err)
	}
	_ = c.Disconnect() // the daemon has answered; what it says to a farewell is of no use
	return err
}
