package rpc

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"
)

func TestAWatcherThatDoesNotReadIsToldThatEventsWereLost(t *testing.T) {
	event := append(number(7), appendText(nil, "a")...)
	event = append(event, make([]byte, 16)...)
	event = append(event, number(3, 4, 1)...)
	sent := make(chan struct{})
	s := serve(t, func(nc net.Conn, call *packet) bool {
		if call.procedure == procEventCallbackRegister {
			// Events before the answer are not lost either.
			p := &packet{program: remoteProgram, version: 1, procedure: procEventLifecycle, kind: typeEvent, payload: event}
			nc.Write(p.bytes())
			reply(nc, call, number(7))
			for range 3 * longestBacklog {
				nc.Write(p.bytes())
			}
			close(sent)
		}
		return true
	})
	c := s.client(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := c.Watch(ctx)
	first := <-events
	if !first.Lost || first.Err != nil {
		t.Errorf("the first event is %+v", first)
	}
	second := <-events
	if second.Lost || second.Domain.Name != "a" || second.Domain.ID != 3 || second.Event != 4 || second.Detail != 1 {
		t.Errorf("the second event is %+v", second)
	}
	<-sent
	overflown := func() bool {
		c.watching.mu.Lock()
		defer c.watching.mu.Unlock()
		for w := range c.watching.watchers {
			return slices.ContainsFunc(w.queue, func(e Event) bool { return e.Lost })
		}
		return false
	}
	for deadline := time.Now().Add(10 * time.Second); !overflown() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // between two looks at a queue
	}
	lost, n := false, 2
	for !lost {
		select {
		case e := <-events:
			n++
			lost = e.Lost
		case <-time.After(10 * time.Second):
			t.Fatalf("no sign of a loss after %d events", n)
		}
	}
	cancel()
	for range events { // until it is closed
	}
}
