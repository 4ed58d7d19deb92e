package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll is every message in data, and the error at its end.
func readAll(src io.Reader, limit int) (messages [][]byte, err error) {
	r := newReader(src, limit)
	for {
		raw, err := r.next()
		if err != nil {
			return messages, err
		}
		messages = append(messages, raw)
	}
}

// FuzzReader gives arbitrary bytes to the reader and to the parser behind it. Nothing may panic; how the bytes are
// cut into pieces must not matter; each message must be a JSON object within the limit; and what the parser takes
// from it must be what encoding/json finds there.
func FuzzReader(f *testing.F) {
	for _, s := range captured(f, "testdata/lifecycle.txt") {
		f.Add([]byte(s.wire(1)))
	}
	if text, err := os.ReadFile("testdata/lifecycle.txt"); err == nil {
		f.Add(text)
	}
	f.Add([]byte(`{"return": {}, "id": 1}{"event":"STOP"}`))
	f.Add([]byte("{\n  \"event\": \"A\\u0042\",\n \"d\\u0061ta\": {\"\\\"}\": [1, {}]}\n}\n"))
	f.Add([]byte(`{"return": {}, "return": 1}[1] {}`))
	f.Add([]byte("\xff{\x00"))
	f.Add([]byte(`{"QMP": {"version": {"qemu": {"major": 1e9}}, "capabilities": [1, null, "oob"]}, "timestamp": -0}`))
	const limit = 2048
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, wholeErr := readAll(bytes.NewReader(data), limit)
		pieces, piecesErr := readAll(iotest.OneByteReader(bytes.NewReader(data)), limit)
		if len(whole) != len(pieces) || errors.Is(wholeErr, ErrProtocol) != errors.Is(piecesErr, ErrProtocol) || (wholeErr == io.EOF) != (piecesErr == io.EOF) {
			t.Fatalf("as a whole: %d messages, %v; byte by byte: %d messages, %v", len(whole), wholeErr, len(pieces), piecesErr)
		}
		for i, raw := range whole {
			if !bytes.Equal(raw, pieces[i]) {
				t.Fatalf("message %d: %q as a whole, %q byte by byte", i, raw, pieces[i])
			}
			if len(raw) > limit || !json.Valid(raw) || raw[0] != '{' {
				t.Fatalf("message %d is not an object within the limit: %q", i, raw)
			}
			checkParse(t, raw)
		}
	})
}

// checkParse compares what parseMessage makes of raw with a plain decoding.
func checkParse(t *testing.T, raw []byte) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	msg, err := parseMessage(raw)
	if err != nil {
		return
	}
	has := func(key string) bool { _, ok := members[key]; return ok }
	switch msg.kind {
	case kindGreeting:
		if !has("QMP") || has("event") || has("return") || has("error") {
			t.Fatalf("taken for a greeting: %q", raw)
		}
	case kindEvent:
		var name string
		if err := json.Unmarshal(members["event"], &name); err != nil || name != msg.event.Name || name == "" {
			t.Fatalf("taken for the event %q: %q", msg.event.Name, raw)
		}
		if !bytes.Equal(msg.event.Data, members["data"]) {
			t.Fatalf("data %q taken from %q", msg.event.Data, raw)
		}
		msg.event.goQEMU()
	case kindAnswer:
		if has("return") == has("error") || !bytes.Equal(msg.reply.value, members["return"]) {
			t.Fatalf("the answer %q taken from %q", msg.reply.value, raw)
		}
		var id uint64
		if msg.hasID && (json.Unmarshal(members["id"], &id) != nil || id != msg.id) {
			t.Fatalf("the id %d taken from %q", msg.id, raw)
		}
		if msg.hasID != has("id") {
			t.Fatalf("id seen: %v, in %q", msg.hasID, raw)
		}
	}
}

func TestTheReaderTellsHowItsInputEnds(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		src    io.Reader
		count  int
		middle bool
	}{
		{"nothing", strings.NewReader(""), 0, false},
		{"white space", strings.NewReader(" \r\n"), 0, false},
		{"a message", strings.NewReader(stopLine), 1, false},
		{"a message and a half", strings.NewReader(stopLine + `{"ev`), 1, true},
		{"a failure behind a message", io.MultiReader(strings.NewReader(stopLine), iotest.ErrReader(broken)), 1, false},
		{"a failure inside a message", io.MultiReader(strings.NewReader(stopLine+"{"), iotest.ErrReader(broken)), 1, true},
	} {
		got, err := readAll(c.src, 1000)
		if len(got) != c.count || errors.Is(err, io.ErrUnexpectedEOF) != c.middle {
			t.Errorf("%s: %d messages, error %v", c.name, len(got), err)
		}
		if wantCause := strings.Contains(c.name, "failure"); wantCause != errors.Is(err, broken) {
			t.Errorf("%s: error %v", c.name, err)
		}
	}
}

func TestPrettyPrintedMessagesAreRead(t *testing.T) {
	got, err := readAll(strings.NewReader("{\r\n    \"return\": {\r\n        \"a\": 1\r\n    },\r\n    \"id\": 1\r\n}\r\n{\r\n    \"event\": \"STOP\"\r\n}\r\n"), 1000)
	if len(got) != 2 || err != io.EOF {
		t.Errorf("%d messages, error %v", len(got), err)
	}
}
