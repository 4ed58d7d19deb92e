package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAnEventCarriesNameDataAndTime(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		s.send(shutdownLine + `{"event": "STOP", "timestamp": {"seconds": -1, "microseconds": -1}}`)
	})
	events := m.Events(within(t, patience))
	e := receive(t, events)
	var data struct {
		Guest  bool
		Reason string
	}
	if err := e.Decode(&data); err != nil || data.Reason != "host-qmp-quit" {
		t.Errorf("got data %+v, error %v", data, err)
	}
	if want := time.Unix(1795376144, 948692000); e.Name != "SHUTDOWN" || !e.Time.Equal(want) {
		t.Errorf("got %s at %v, want SHUTDOWN at %v", e.Name, e.Time, want)
	}
	e = receive(t, events)
	if e.Name != "STOP" || e.Data != nil || !e.Time.IsZero() {
		t.Errorf("got %+v, want STOP without data or time", e)
	}
	if err := e.Decode(&data); err != nil || data.Reason != "host-qmp-quit" {
		t.Errorf("decoding no data: %+v, error %v", data, err)
	}
}

func TestAFloodOfEventsLeavesCommandsAloneAndMarksTheGap(t *testing.T) {
	const flood, queue = 100_000, 16
	m := connect(t, Options{EventQueue: queue}, func(s *server) {
		var b strings.Builder
		for n := range flood {
			fmt.Fprintf(&b, `{"event": "STOP", "data": {"n": %d}}`+"\r\n", n)
			if n%1000 != 999 {
				continue
			}
			s.send(b.String())
			b.Reset()
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, fmt.Sprint(n))
		}
	})
	slow := m.Events(within(t, patience))
	for batch := range flood / 1000 {
		var got int
		if err := m.Execute(within(t, patience), "query-status", nil, &got); err != nil || got != batch*1000+999 {
			t.Fatalf("command %d: answer %d, error %v", batch, got, err)
		}
	}
	wantError(t, ended(t, m), ErrDisconnected)
	next, received := 0, 0
	for e := range slow {
		var data struct{ N int }
		if err := e.Decode(&data); err != nil {
			t.Fatal(err)
		}
		if next += e.Missed; data.N != next {
			t.Fatalf("got event %d with %d missed before it, want event %d", data.N, e.Missed, next)
		}
		next++
		received++
	}
	if next != flood {
		t.Errorf("received and missed events are %d together, want %d", next, flood)
	}
	if received > queue+2 || received < queue { // one may be on its way to the channel
		t.Errorf("received %d events through a queue of %d that was not read", received, queue)
	}
}

func TestQueuedEventsAreBoundedInBytesToo(t *testing.T) {
	m := connect(t, Options{MessageLimit: 10_000, EventQueue: 1000}, func(s *server) {
		for n := range 100 {
			s.send(fmt.Sprintf(`{"event": "STOP", "data": {"n": %d}, "junk": "%s"}`, n, strings.Repeat("x", 3000)))
		}
	})
	ended(t, m)
	events := m.Events(within(t, patience))
	first := receive(t, events)
	if rest := names(t, events); len(rest) != 2 || first.Missed != 97 {
		t.Errorf("got %d events after %d missed, want 3 after 97", 1+len(rest), first.Missed)
	}
}

func TestEverySubscriberGetsEveryEvent(t *testing.T) {
	begin := make(chan struct{})
	m := connect(t, Options{}, func(s *server) { <-begin; s.send(stopLine + resumeLine + shutdownLine) })
	var all []<-chan Event
	for range 3 {
		all = append(all, m.Events(within(t, patience)))
	}
	close(begin)
	for i, events := range all {
		if got := strings.Join(names(t, events), " "); got != "STOP RESUME SHUTDOWN" {
			t.Errorf("subscriber %d got %s", i, got)
		}
	}
}

func TestOnlyTheFirstSubscriberGetsWhatCameBefore(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.send(stopLine) })
	ended(t, m)
	if got := names(t, m.Events(within(t, patience))); len(got) != 1 {
		t.Errorf("the first subscriber got %v", got)
	}
	if got := names(t, m.Events(within(t, patience))); len(got) != 0 {
		t.Errorf("the second subscriber got %v", got)
	}
}

func TestTheEndOfTheContextClosesTheEventChannelAndNothingElse(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		s.reply(s.expect("query-status"), "{}")
		s.untilGone()
	})
	ctx, cancel := context.WithCancel(context.Background())
	events := m.Events(ctx)
	cancel()
	names(t, events)
	m.eventMu.Lock()
	left := len(m.queues)
	m.eventMu.Unlock()
	if err := m.Execute(within(t, patience), "query-status", nil, nil); err != nil || left > 1 {
		t.Errorf("error %v, %d queues left", err, left)
	}
}

func TestEventsAfterCloseAreAClosedChannel(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.untilGone() })
	m.Close()
	if got := names(t, m.Events(context.Background())); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestEventsOfACommandAreQueuedBeforeItsAnswer(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.send(stopLine)
			s.reply(r, "{}")
		}
	})
	for n := range 200 {
		if err := m.Execute(within(t, patience), "stop", nil, nil); err != nil {
			t.Fatal(err)
		}
		m.eventMu.Lock()
		got := len(m.backlog.events)
		m.eventMu.Unlock()
		if got != n+1 {
			t.Fatalf("after %d commands %d events are queued", n+1, got)
		}
	}
}

func TestEventDataIsValidForTheSubscriberWhileOthersArrive(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for n := range 500 {
			s.send(fmt.Sprintf(`{"event": "STOP", "data": {"n": %d}}`, n))
		}
	})
	var kept []json.RawMessage
	for e := range m.Events(within(t, patience)) {
		kept = append(kept, e.Data)
	}
	for n, data := range kept {
		if want := fmt.Sprintf(`{"n": %d}`, n); string(data) != want {
			t.Fatalf("data %d has become %s", n, data)
		}
	}
	if len(kept) != 500 {
		t.Errorf("got %d events, want 500", len(kept))
	}
}
