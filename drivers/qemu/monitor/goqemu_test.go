package monitor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"github.com/digitalocean/go-qemu/qmp/raw"
)

// typed is a server that answers query-status and cont.
func typed(s *server) {
	for {
		r, ok := s.next()
		switch {
		case !ok:
			return
		case r.Execute == "query-status":
			s.reply(r, `{"status": "paused", "singlestep": false, "running": false}`)
		case r.Execute == "cont":
			s.send(resumeLine + shutdownLine)
			s.reply(r, "{}")
		}
	}
}

func TestTheTypedCommandsOfGoQEMUWork(t *testing.T) {
	m := connect(t, Options{}, typed)
	mon := m.WithContext(within(t, patience))
	if err := mon.Connect(); err != nil {
		t.Fatal(err)
	}
	status, err := raw.NewMonitor(mon).QueryStatus()
	if err != nil || status.Status != raw.RunStatePaused || status.Running {
		t.Errorf("got %+v, error %v", status, err)
	}
	if err := raw.NewMonitor(mon).Cont(); err != nil {
		t.Error(err)
	}
	events, err := mon.Events(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	<-events
	e := <-events
	if e.Event != "SHUTDOWN" || e.Data["reason"] != "host-qmp-quit" || e.Timestamp.Seconds != 1795376144 || e.Timestamp.Microseconds != 948692 {
		t.Errorf("got %+v", e)
	}
	if err := mon.Disconnect(); err != nil {
		t.Error(err)
	}
	wantError(t, mon.Connect(), ErrClosed)
	if _, err := mon.Events(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("events after Disconnect: error %v", err)
	}
}

func TestRunKeepsTheCallersIDAndRefusesWhatItCannotSend(t *testing.T) {
	m := connect(t, Options{}, typed)
	mon := m.WithContext(within(t, patience))
	for command, want := range map[string]string{
		`{"execute": "cont"}`:                                  `{"return":{}}`,
		"{\"execute\":\"cont\",\"id\":\"mine\"}\n":             `{"return":{},"id":"mine"}`,
		` {"id": {"a": [1]}, "execute":"cont","arguments":{}}`: `{"return":{},"id":{"a": [1]}}`,
	} {
		if got, err := mon.Run([]byte(command)); err != nil || string(got) != want {
			t.Errorf("%s: got %s, error %v, want %s", command, got, err, want)
		}
	}
	for _, command := range []string{"", "garbage", "[]", "{}", `{"execute": 5}`, `{"execute":"cont","arguments":[]}`, `{"exec-oob":"cont"}`, `{"execute":"cont"`} {
		if _, err := mon.Run([]byte(command)); !errors.Is(err, ErrNotSent) {
			t.Errorf("%q: got error %v, want one that matches %v", command, err, ErrNotSent)
		}
	}
}

func TestWhatIsBoundToAContextEndsWithIt(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.untilGone() })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	mon := m.WithContext(ctx)
	events, err := mon.Events(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	_, err = raw.NewMonitor(mon).QueryStatus()
	wantError(t, err, context.DeadlineExceeded)
	inTime(t, "the event channel of an ended context", func() {
		for range events {
		}
	})
}

func TestCloseEndsEventsThatGoQEMUsSubscriberDoesNotRead(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.send(stopLine + stopLine + stopLine); s.untilGone() })
	var mon qmp.Monitor = m.WithContext(context.Background())
	if _, err := mon.Events(context.Background()); err != nil {
		t.Fatal(err)
	}
	inTime(t, "Close", func() { m.Close() })
}
