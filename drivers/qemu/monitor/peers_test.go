package monitor

// One test for each defect that is known of other QMP clients, so that this one does not come to have it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestASilentServerCannotHoldNewBeyondItsContext(t *testing.T) {
	conn := serve(t, func(s *server) { s.untilGone() })
	_, err := New(within(t, 30*time.Millisecond), conn, Options{})
	wantError(t, err, context.DeadlineExceeded)
}

func TestAServerThatGreetsAndIgnoresNegotiationCannotHoldNewBeyondItsContext(t *testing.T) {
	conn := serve(t, func(s *server) { s.send(greetingLine); s.untilGone() })
	_, err := New(within(t, 30*time.Millisecond), conn, Options{})
	wantError(t, err, context.DeadlineExceeded)
}

func TestASilentServerCannotHoldExecuteBeyondItsContext(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.untilGone() })
	err := m.Execute(within(t, 30*time.Millisecond), "query-status", nil, nil)
	wantError(t, err, context.DeadlineExceeded)
	if errors.Is(err, ErrNotSent) {
		t.Errorf("the command was sent, but the error says it was not: %v", err)
	}
	if m.Err() != nil {
		t.Errorf("a command without an answer ended the connection: %v", m.Err())
	}
}

func TestAnUnreadSubscriberBlocksNeitherCommandsNorClose(t *testing.T) {
	m := connect(t, Options{EventQueue: 4}, func(s *server) {
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.send(strings.Repeat(stopLine, 100))
			s.reply(r, "{}")
		}
	})
	m.Events(context.Background()) // never read
	for range 10 {
		if err := m.Execute(within(t, patience), "query-status", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	inTime(t, "Close with an unread subscriber", func() { m.Close() })
}

func TestAnEventBetweenNegotiationAndItsAnswerShiftsNoAnswers(t *testing.T) {
	conn := serve(t, func(s *server) {
		s.send(greetingLine)
		r := s.expect("qmp_capabilities")
		s.send(stopLine)
		s.reply(r, "{}")
		for n := 0; ; n++ {
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, fmt.Sprintf(`{"n": %d}`, n))
		}
	})
	m, err := New(within(t, patience), conn, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for n := range 3 {
		var got struct{ N int }
		if err := m.Execute(within(t, patience), "query-status", nil, &got); err != nil || got.N != n {
			t.Fatalf("command %d got answer %d, error %v", n, got.N, err)
		}
	}
	if e := receive(t, m.Events(within(t, patience))); e.Name != "STOP" {
		t.Errorf("got event %s, want STOP", e.Name)
	}
}

func TestEventsInOneSegmentWithGreetingAndAnswerAreNotLost(t *testing.T) {
	conn := serve(t, func(s *server) {
		s.send(resumeLine + greetingLine + stopLine)
		r := s.expect("qmp_capabilities")
		s.send(stopLine + fmt.Sprintf(`{"return": {}, "id": %d}`, r.ID) + "\r\n" + resumeLine + stopLine + shutdownLine)
	})
	m, err := New(within(t, patience), conn, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	wantError(t, ended(t, m), ErrDisconnected)
	got := names(t, m.Events(within(t, patience)))
	if want := "RESUME STOP STOP RESUME STOP SHUTDOWN"; strings.Join(got, " ") != want {
		t.Errorf("got events %v, want %s", got, want)
	}
}

func TestAnAnswerLongerThan64KiBIsRead(t *testing.T) {
	long := strings.Repeat("x", 207_000) // as long as query-qmp-schema on QEMU 7.2.22
	m := connect(t, Options{}, func(s *server) {
		s.reply(s.expect("query-qmp-schema"), `"`+long+`"`)
		s.untilGone()
	})
	var got string
	if err := m.Execute(within(t, patience), "query-qmp-schema", nil, &got); err != nil || got != long {
		t.Fatalf("got %d bytes, error %v", len(got), err)
	}
}

func TestAnExitDuringACommandIsADisconnection(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.expect("cont") })
	err := m.Execute(within(t, patience), "cont", nil, nil)
	wantError(t, err, ErrDisconnected)
	if errors.Is(err, ErrNotSent) {
		t.Errorf("the command was sent, but the error says it was not: %v", err)
	}
	wantError(t, m.Execute(within(t, patience), "cont", nil, nil), ErrNotSent)
}

func TestAnswersDoNotShareMemory(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for n := 0; ; n++ {
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, fmt.Sprintf(`{"n": %06d}`, 100000+n))
		}
	})
	var kept []json.RawMessage
	for range 100 {
		var raw json.RawMessage
		if err := m.Execute(within(t, patience), "query-status", nil, &raw); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, raw)
	}
	for n, raw := range kept {
		if want := fmt.Sprintf(`{"n": %06d}`, 100000+n); string(raw) != want {
			t.Fatalf("answer %d has become %s, was %s", n, raw, want)
		}
	}
}

func TestALateAnswerIsDroppedAndTheNextOneIsRight(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		late := s.expect("query-status")
		r := s.expect("query-version")
		s.reply(late, `{"wrong": true}`)
		s.reply(r, `{"right": true}`)
		s.untilGone()
	})
	wantError(t, m.Execute(within(t, 20*time.Millisecond), "query-status", nil, nil), context.DeadlineExceeded)
	var got struct{ Right, Wrong bool }
	if err := m.Execute(within(t, patience), "query-version", nil, &got); err != nil || !got.Right || got.Wrong {
		t.Fatalf("got %+v, error %v", got, err)
	}
}

func TestContextsThatEndAtAnyInstantLeaveTheConnectionWhole(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.send(stopLine)
			s.reply(r, string(r.Arguments))
		}
	})
	m.Events(context.Background()) // never read
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(150))*time.Microsecond)
				want := worker*1000 + i
				var got struct{ N int }
				err := m.Execute(ctx, "query-status", map[string]int{"n": want}, &got)
				cancel()
				if err == nil && got.N != want || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("command %d got answer %d, error %v", want, got.N, err)
					return
				}
			}
		})
	}
	inTime(t, "a command whose context has ended", wg.Wait)
	if err := m.Execute(within(t, patience), "query-status", struct{}{}, nil); err != nil {
		t.Fatalf("the connection is no longer usable: %v", err)
	}
}

func TestCloseDuringCommandsEndsThem(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.untilGone() })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := m.Execute(context.Background(), "query-status", nil, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("got error %v, want one that matches %v", err, ErrClosed)
			}
		})
	}
	for range 3 {
		wg.Go(func() { m.Close() })
	}
	inTime(t, "Close or a command under it", wg.Wait)
	wantError(t, m.Err(), ErrClosed)
}
