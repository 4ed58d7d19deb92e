//go:build linux

package qemulab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

var _ conformance.Networked = (*bench)(nil)

// network is the other end of a machine's network card. QEMU connects to it as it starts, and sends and receives frames there,
// each with its length before it (-netdev stream, QEMU 7.2).
type network struct {
	listener net.Listener
	path     string
	greeting []byte
	served   sync.WaitGroup

	mu    sync.Mutex
	conn  net.Conn
	there chan struct{} // closed when there is a connection
}

// listenNetwork waits for a machine's card, and greets it with its first frame.
func listenNetwork(path string, number int) (*network, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	n := &network{listener: l, path: path, greeting: conformance.Frame(fmt.Sprintf("the first frame for machine %d", number)), there: make(chan struct{})}
	n.served.Go(n.accept)
	return n, nil
}

func (n *network) accept() {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			return
		}
		_ = write(c, n.greeting)
		n.mu.Lock()
		if n.conn != nil {
			n.conn.Close()
		} else {
			close(n.there)
		}
		n.conn = c
		n.mu.Unlock()
	}
}

func write(c net.Conn, frame []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

func (n *network) close() error {
	err := n.listener.Close()
	n.served.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		n.conn.Close()
	}
	return err
}

// card is the arguments for a machine's network card: one that takes what comes though no driver has set it up. Without a path
// nothing is connected to it.
func card(path string) []string {
	if path == "" {
		return []string{"-device", "pcnet,romfile="}
	}
	return []string{"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=" + path, "-device", "pcnet,romfile=,netdev=net"}
}

// Greeting implements conformance.Networked.
func (b *bench) Greeting(name string) []byte { return b.machines[name].network.greeting }

// Transmit implements conformance.Networked.
func (b *bench) Transmit(ctx context.Context, name string, frame []byte) error {
	n := b.machines[name].network
	select {
	case <-n.there:
	case <-ctx.Done():
		return fmt.Errorf("the machine's network card is not connected: %w", ctx.Err())
	}
	n.mu.Lock()
	c := n.conn
	n.mu.Unlock()
	if err := write(c, frame); err != nil {
		return err
	}
	// QEMU reads a frame and lets it go through its filters in one go, so that what is out of the socket is in the recording before
	// QEMU does anything else. There is no event for that.
	for {
		left, err := labkit.Unread(c)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("QEMU does not read what its network card gets (%d bytes)", left), ctx.Err())
		}
	}
}

// networkPath is where the network of the bench's machine is.
func (b *bench) networkPath(number int) string {
	return filepath.Join(b.dir, fmt.Sprintf("%d.n", number))
}
