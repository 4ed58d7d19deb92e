//go:build linux

package libvirtlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/conformance"
)

var _ conformance.Networked = (*bench)(nil)

// network is the other end of a machine's network card (<interface
// type='client'>): QEMU connects to it as it starts, and sends and receives frames
// there, each with its length before it (-netdev socket,connect=, QEMU 7.2).
//
// The first frame is sent when the machine begins to run, as libvirt says. QEMU
// would take it in from a socket before that, and keep it for the guest, which no
// network does; and libvirt lets nobody add a filter before QEMU is connected.
type network struct {
	runs     func(context.Context) error // waits until the machine runs
	end      context.CancelFunc
	listener net.Listener
	greeting []byte
	served   sync.WaitGroup

	mu     sync.Mutex
	latest net.Conn      // of the machine's latest run
	conn   net.Conn      // latest, when the machine runs; nil before
	there  chan struct{} // closed when conn is there
}

// listenNowhere takes connections and answers nothing.
func listenNowhere() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.1:0") }

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// listenNetwork waits for a machine's card, and greets it with its first frame.
func listenNetwork(number int, runs func(context.Context) error) (*network, error) {
	l, err := listenNowhere()
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	n := &network{runs: runs, end: end, listener: l, greeting: conformance.Frame(fmt.Sprintf("the first frame for machine %d", number)), there: make(chan struct{})}
	n.served.Go(func() { n.accept(ctx) })
	return n, nil
}

func (n *network) port() int { return portOf(n.listener) }

func (n *network) accept(ctx context.Context) {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			return
		}
		n.mu.Lock()
		if n.latest != nil {
			n.latest.Close()
		}
		if n.conn != nil {
			n.conn, n.there = nil, make(chan struct{})
		}
		n.latest = c
		n.mu.Unlock()
		n.served.Go(func() { n.greet(ctx, c) })
	}
}

// greet sends the first frame when the machine runs. A run may end before it was seen to run, and its connection must not be taken for that
// of the next one, which is seen to run in its place.
func (n *network) greet(ctx context.Context, c net.Conn) {
	if n.runs(ctx) != nil { // it was removed, or the bench ended
		c.Close()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.latest == c {
		_ = writeFrame(c, n.greeting) // a short one: it does not wait for the machine
		n.conn = c
		close(n.there)
	}
}

// runsAsk is how often it is asked whether a machine runs.
const runsAsk = time.Millisecond

// untilRuns waits until the machine runs.
func (b *bench) untilRuns(ctx context.Context, m *machine) error {
	return ask(ctx, b.daemon, func(c *client) error {
		dom, err := c.DomainLookupByName(m.domain.Name)
		if err != nil {
			return err
		}
		for {
			state, _, err := c.DomainGetState(dom, 0)
			switch {
			case err != nil:
				return err
			case libvirt.DomainState(state) == libvirt.DomainRunning:
				return nil
			}
			select {
			case <-time.After(runsAsk):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

func writeFrame(c net.Conn, frame []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
	return err
}

func (n *network) close() error {
	err := n.listener.Close()
	n.end()
	n.served.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.latest != nil {
		n.latest.Close()
	}
	return err
}

// Greeting implements conformance.Networked.
func (b *bench) Greeting(name string) []byte { return b.machines[name].network.greeting }

// Transmit implements conformance.Networked.
func (b *bench) Transmit(ctx context.Context, name string, frame []byte) error {
	n := b.machines[name].network
	for {
		n.mu.Lock()
		there := n.there
		n.mu.Unlock()
		select {
		case <-there:
		case <-ctx.Done():
			return fmt.Errorf("the machine's network card is not connected: %w", ctx.Err())
		}
		n.mu.Lock()
		c := n.conn
		n.mu.Unlock()
		if c == nil {
			continue
		}
		err := transmit(ctx, c, frame)
		if err == nil || ctx.Err() != nil {
			return err
		}
		// It was that of the machine's last run; the next one's may be on its way.
		n.forget(c)
	}
}

// forget drops a connection that is over.
func (n *network) forget(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == c {
		c.Close()
		n.conn, n.there = nil, make(chan struct{})
	}
}

// transmit sends a frame and waits until it was read.
func transmit(ctx context.Context, c net.Conn, frame []byte) error {
	if err := writeFrame(c, frame); err != nil {
		return err
	}
	// QEMU reads a frame and lets it go through its filters in one go, so that what
	// is out of its socket is in the recording before QEMU does anything else. There
	// is no event for that.
	for {
		left, err := waiting(c)
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

// waiting is how much of what was written to a local TCP connection has not been
// read at its other end: what is on the way, and what has arrived. See proc(5),
// /proc/net/tcp.
func waiting(c net.Conn) (int, error) {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return 0, err
	}
	ours, theirs := hexAddress(c.LocalAddr()), hexAddress(c.RemoteAddr())
	left, found := 0, false
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			continue
		}
		var tx, rx int
		if _, err := fmt.Sscanf(fields[4], "%X:%X", &tx, &rx); err != nil {
			continue
		}
		switch {
		case fields[1] == ours && fields[2] == theirs:
			left, found = left+tx, true
		case fields[1] == theirs && fields[2] == ours:
			left += rx
		}
	}
	if !found {
		return 0, errors.New("the connection to the machine's network card is gone")
	}
	return left, nil
}

// hexAddress is an IPv4 address and port as /proc/net/tcp has it: the address in
// the host's byte order, the port as a number.
func hexAddress(a net.Addr) string {
	t := a.(*net.TCPAddr)
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(t.IP.To4()), t.Port)
}
