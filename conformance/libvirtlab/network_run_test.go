//go:build linux

package libvirtlab

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/machineries/machineries/conformance"
)

func TestARunThatEndedBeforeItWasSeenToRunDoesNotTakeTheNextOnesNetwork(t *testing.T) {
	var asked atomic.Int32
	n, err := listenNetwork(1, func(ctx context.Context) error {
		if asked.Add(1) == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port())))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial()
	var stale net.Conn
	for deadline := time.Now().Add(20 * time.Second); stale == nil || asked.Load() == 0; time.Sleep(time.Millisecond) { // that a connection was accepted has no event
		if time.Now().After(deadline) {
			t.Fatal("the first connection was not accepted")
		}
		n.mu.Lock()
		stale = n.latest
		n.mu.Unlock()
	}
	first.Close()
	second := dial()
	frame := make([]byte, 4+len(n.greeting))
	if _, err := io.ReadFull(second, frame); err != nil || string(frame[4:]) != string(n.greeting) {
		t.Fatalf("the first frame is %q, %v", frame, err)
	}
	n.greet(t.Context(), stale) // it sees the second run, and takes it for its own
	b := &bench{machines: map[string]*machine{"a": {network: n}}}
	sent := conformance.Frame("for the second run")
	read := make(chan error, 1)
	go func() {
		frame = make([]byte, 4+len(sent))
		_, err := io.ReadFull(second, frame)
		read <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Transmit(ctx, "a", sent); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || string(frame[4:]) != string(sent) {
		t.Errorf("%q, %v", frame, err)
	}
}
