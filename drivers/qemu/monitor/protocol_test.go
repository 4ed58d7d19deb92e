package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatDoesNotFitTheProtocolEndsTheConnection(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"text", "qemu: fatal\r\n", "not JSON"},
		{"binary", "\x00\xff\xfe\x01", "not JSON"},
		{"half a message and a whole one", `{"return": {}, "i` + stopLine, "not JSON"},
		{"half a message that the next one happens to complete", `{"return": {}, "id": ` + stopLine + stopLine, "not JSON"},
		{"an array", "[1,2]\r\n", "not a JSON object"},
		{"a string", `"str"` + "\r\n", "not a JSON object"},
		{"an empty object", "{}\r\n", "neither"},
		{"a second greeting", greetingLine, "second greeting"},
		// Captured from QEMU 7.2.22 after input that was not JSON.
		{"an error without id", `{"error": {"class": "GenericError", "desc": "JSON parse error, expecting value"}}` + "\r\n", "JSON parse error"},
		{"an answer without id", `{"return": {}}` + "\r\n", "without an id"},
		{"an answer to an id that was never used", `{"return": {}, "id": 77}` + "\r\n", "no command"},
		{"an answer to an id that was answered", `{"return": {}, "id": 1}` + "\r\n", "no command"},
		{"the command's id as a string", `{"return": {}, "id": "2"}` + "\r\n", "never used"},
		{"the command's id as a float", `{"return": {}, "id": 2.0}` + "\r\n", "never used"},
		{"a negative id", `{"return": {}, "id": -2}` + "\r\n", "never used"},
		{"the id null", `{"return": {}, "id": null}` + "\r\n", "never used"},
		{"return and error", `{"return": {}, "error": {"class": "GenericError", "desc": "x"}, "id": 2}` + "\r\n", "more than one"},
		{"return twice", `{"return": {}, "return": {"a":1}, "id": 2}` + "\r\n", "comes twice"},
		{"two ids", `{"return": {}, "id": 2, "id": 1}` + "\r\n", "comes twice"},
		{"RETURN in capitals", `{"RETURN": {}, "id": 2}` + "\r\n", "neither"},
		{"an error that is a string", `{"error": "no", "id": 2}` + "\r\n", "not an object"},
		{"an error whose text is a number", `{"error": {"desc": 5}, "id": 2}` + "\r\n", "cannot be read"},
		{"an event that is a number", `{"event": 5}` + "\r\n", "without a name"},
		{"an event whose data is a list", `{"event": "STOP", "data": []}` + "\r\n", "not an object"},
		{"an answer and an event in one", `{"event": "STOP", "return": {}, "id": 2}` + "\r\n", "more than one"},
		{"nesting without end", strings.Repeat(`{"a":`, 100_000), "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := connect(t, Options{}, func(s *server) {
				s.expect("query-status")
				s.send(c.text)
				s.untilGone()
			})
			err := m.Execute(within(t, patience), "query-status", nil, nil)
			wantError(t, err, ErrProtocol)
			wantError(t, m.Err(), ErrProtocol)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not say %q: %v", c.says, err)
			}
			if len(err.Error()) > 4*TraceTextLimit+400 {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
}

func TestTheFirstMessageMustBeAGreeting(t *testing.T) {
	for name, text := range map[string]string{
		"an answer":          `{"return": {}, "id": 1}`,
		"another protocol":   "SSH-2.0-OpenSSH_9.2\r\n",
		"a broken greeting":  `{"QMP": 5}`,
		"a version in words": `{"QMP": {"version": {"qemu": {"major": "seven"}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(within(t, patience), serve(t, func(s *server) { s.send(text); s.untilGone() }), Options{})
			wantError(t, err, ErrProtocol)
		})
	}
}

func TestAMessageOverTheLimitEndsTheConnectionAndOneAtTheLimitDoesNot(t *testing.T) {
	const limit = 4096
	frame := len(`{"return": "", "id": 2}`)
	for _, c := range []struct {
		length int
		fits   bool
	}{{limit, true}, {limit + 1, false}, {20 * limit, false}} {
		m := connect(t, Options{MessageLimit: limit}, func(s *server) {
			r := s.expect("query-qmp-schema")
			s.send("\r\n\r\n" + strings.TrimSpace(fmt.Sprintf(`{"return": "%s", "id": %d}`, strings.Repeat("x", c.length-frame), r.ID)))
			s.untilGone()
		})
		err := m.Execute(within(t, patience), "query-qmp-schema", nil, nil)
		if c.fits && err != nil || !c.fits && !errors.Is(err, ErrProtocol) {
			t.Errorf("a message of %d bytes under a limit of %d: error %v", c.length, limit, err)
		}
	}
}

func TestARefusalIsACommandErrorAndTheConnectionLives(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		r := s.expect("system_wakeup")
		// Captured from QEMU 7.2.22, key order too.
		s.send(fmt.Sprintf(`{"id": %d, "error": {"class": "GenericError", "desc": "Unable to wake up: guest is not in suspended state"}}`+"\r\n", r.ID))
		s.reply(s.expect("query-status"), `{"status": "paused"}`)
		s.untilGone()
	})
	err := m.Execute(within(t, patience), "system_wakeup", nil, nil)
	var refused *CommandError
	if !errors.As(err, &refused) {
		t.Fatalf("got error %v, want a CommandError", err)
	}
	if want := (CommandError{"system_wakeup", ClassGeneric, "Unable to wake up: guest is not in suspended state"}); *refused != want {
		t.Errorf("got %+v, want %+v", *refused, want)
	}
	if err := m.Execute(within(t, patience), "query-status", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestARefusedNegotiationFailsNewWithQEMUsWords(t *testing.T) {
	conn := serve(t, func(s *server) {
		s.send(greetingLine)
		r := s.expect("qmp_capabilities")
		s.send(fmt.Sprintf(`{"id": %d, "error": {"class": "CommandNotFound", "desc": "Capabilities negotiation is already complete, command ignored"}}`, r.ID))
		s.untilGone()
	})
	_, err := New(within(t, patience), conn, Options{})
	var refused *CommandError
	if !errors.As(err, &refused) || refused.Class != ClassCommandNotFound {
		t.Errorf("got error %v", err)
	}
}

func TestAnAnswerOfTheWrongShapeFailsItsCommandAlone(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, `{"status": 5}`)
		}
	})
	var got struct{ Status string }
	err := m.Execute(within(t, patience), "query-status", nil, &got)
	if err == nil || !strings.Contains(err.Error(), "query-status") {
		t.Errorf("got error %v", err)
	}
	if err := m.Execute(within(t, patience), "query-status", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeACommandIsNotSent(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		if r, ok := s.next(); ok {
			t.Errorf("the server got %s", r.Execute)
		}
	})
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, run := range map[string]func() error{
		"no name":          func() error { return m.Execute(context.Background(), "", nil, nil) },
		"a quote in it":    func() error { return m.Execute(context.Background(), `x","id":9,"y":"`, nil, nil) },
		"a list":           func() error { return m.Execute(context.Background(), "cont", []int{1}, nil) },
		"a nil pointer":    func() error { return m.Execute(context.Background(), "cont", (*struct{})(nil), nil) },
		"no number":        func() error { return m.Execute(context.Background(), "cont", map[string]float64{"x": math.NaN()}, nil) },
		"not UTF-8":        func() error { return m.Execute(context.Background(), "cont", map[string]string{"x": "\\\xff"}, nil) },
		"no file":          func() error { return m.ExecuteFile(context.Background(), "getfd", nil, nil, nil) },
		"an ended context": func() error { return m.Execute(cancelled, "cont", nil, nil) },
	} {
		if err := run(); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: got error %v, want one that matches %v", name, err, ErrNotSent)
		}
	}
}

func TestArgumentsArriveAsTheyWere(t *testing.T) {
	m := connect(t, Options{}, func(s *server) {
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, string(r.Arguments))
		}
	})
	for _, want := range []string{"", "plain", `"quoted" \ and \ufffd as text`, "<&>", "\ufffd itself", "zwölf", "\u2028", "a\nb\x00c", "{}[],:"} {
		var got map[string]string
		err := m.Execute(within(t, patience), "human-monitor-command", map[string]string{"x": want}, &got)
		if err != nil || got["x"] != want {
			t.Errorf("sent %q, arrived %q, error %v", want, got["x"], err)
		}
	}
}

func TestAServerThatStopsReadingIsWaitedForNoLongerThanTheContext(t *testing.T) {
	release := make(chan struct{})
	m := connect(t, Options{}, func(s *server) {
		<-release
		for {
			r, ok := s.next()
			if !ok {
				return
			}
			s.reply(r, fmt.Sprint(len(r.Arguments)))
		}
	})
	args := map[string]string{"x": strings.Repeat("x", 100_000)}
	notSent := 0
	for range 8 { // the socket buffers take about 200 KB, so one of these goes out in part and later ones not at all
		err := m.Execute(within(t, 20*time.Millisecond), "query-status", args, nil)
		wantError(t, err, context.DeadlineExceeded)
		if errors.Is(err, ErrNotSent) {
			notSent++
		}
	}
	if notSent == 0 || notSent == 8 {
		t.Errorf("%d of 8 commands were not sent at all", notSent)
	}
	close(release)
	var got int
	if err := m.Execute(within(t, patience), "query-status", args, &got); err != nil || got < 100_000 {
		t.Fatalf("after the server reads again: answer %d, error %v", got, err)
	}
}

func TestTooManyCommandsWithoutAnAnswerAreRefused(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.untilGone() })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range maxPending {
		if _, err := m.register(&call{answer: make(chan reply, 1)}, "query-status"); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, m.Execute(context.Background(), "query-status", nil, nil), ErrStalled)
	wantError(t, m.Execute(ctx, "query-status", nil, nil), context.Canceled)
}

func TestQuitEndsInErrQuitWhateverWayQEMUGoes(t *testing.T) {
	quitSeen := make(chan struct{})
	for name, script := range map[string]func(s *server, r request){
		"answer, then end of file": func(s *server, r request) { s.send(shutdownLine); s.reply(r, "{}") },
		"no answer":                func(s *server, r request) { s.send(shutdownLine) },
		"connection reset":         func(s *server, r request) { close(quitSeen); unread(s) },
	} {
		t.Run(name, func(t *testing.T) {
			m := connect(t, Options{}, func(s *server) { script(s, s.expect("quit")) })
			if name == "connection reset" {
				go func() {
					<-quitSeen
					m.Execute(context.Background(), "query-status", nil, nil)
				}()
			}
			if err := m.Quit(within(t, patience)); err != nil {
				t.Error(err)
			}
			wantError(t, m.Err(), ErrQuit)
			wantError(t, m.Err(), ErrDisconnected)
			if errors.Is(m.Err(), io.ErrUnexpectedEOF) {
				t.Errorf("the connection did not end inside a message: %v", m.Err())
			}
			if err := m.Quit(within(t, patience)); err != nil {
				t.Errorf("a second Quit: %v", err)
			}
		})
	}
}

// unread waits until the client has written something that is not read, so that closing resets the connection.
func unread(s *server) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) { // there is no event for "something came and was not read"
		if pendingBytes(s.t, s.conn) > 0 {
			return
		}
	}
	s.t.Error("the client wrote nothing")
}

func TestQuitThatLeavesTheConnectionOpenIsNoSuccess(t *testing.T) {
	m := connect(t, Options{}, func(s *server) { s.reply(s.expect("quit"), "{}"); s.untilGone() })
	wantError(t, m.Quit(within(t, 50*time.Millisecond)), context.DeadlineExceeded)
}

func TestTheTraceShowsTheLastMessagesCutShort(t *testing.T) {
	m := connect(t, Options{TraceLength: 3}, func(s *server) {
		s.reply(s.expect("query-status"), "{}")
		s.reply(s.expect("query-qmp-schema"), `"`+strings.Repeat("x", 2000)+`"`)
		s.untilGone()
	})
	if got := m.Trace(); len(got) != 3 || got[0].Sent || !strings.HasPrefix(got[0].Text, `{"QMP"`) || !got[1].Sent {
		t.Errorf("after negotiation: %v", got)
	}
	for _, command := range []string{"query-status", "query-qmp-schema"} {
		if err := m.Execute(within(t, patience), command, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := m.Trace()
	if len(got) != 3 || got[0].Sent || !got[1].Sent || got[2].Sent {
		t.Fatalf("got %v", got)
	}
	if want := `{"execute":"query-qmp-schema","id":3}`; got[1].Text != want || got[1].Size != len(want) {
		t.Errorf("got %+v, want %s", got[1], want)
	}
	if len(got[2].Text) != TraceTextLimit || got[2].Size < 2000 || !strings.Contains(got[2].String(), "bytes in all") {
		t.Errorf("got %d of %d bytes: %s", len(got[2].Text), got[2].Size, got[2])
	}
}

func TestASocketPathThatIsTooLongIsNamedWithTheLimit(t *testing.T) {
	_, err := Dial(context.Background(), "/tmp/"+strings.Repeat("x", 103))
	if err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("got error %v", err)
	}
}

func TestDialOfASocketThatIsNotThereFailsWithThePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no.sock")
	_, err := Dial(context.Background(), path)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v", err)
	}
}

func TestEachMemberSeesWhatEncodingJSONSees(t *testing.T) {
	for _, text := range []string{`{}`, `{ }`, `{"a":1}`, ` {"a" : [1,{"b":"}"}] , "c\u0041":"\"\\" ,"d":null,"e":-1.5e3,"f":true}`} {
		text = strings.TrimSpace(text)
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		got := map[string]json.RawMessage{}
		eachMember([]byte(text), func(key, value []byte) error { got[string(key)] = value; return nil })
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
