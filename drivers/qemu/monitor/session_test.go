package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// play is a server that answers with captured steps, through deliver.
func play(s *server, steps []step, deliver func(text string)) {
	deliver(steps[0].wire(0))
	for _, step := range steps[1:] {
		r, ok := s.next()
		if !ok {
			return
		}
		if r.Execute != step.command {
			s.t.Errorf("the client sent %s, expected %s", r.Execute, step.command)
			return
		}
		deliver(step.wire(r.ID))
	}
}

// replay runs the captured commands on conn and describes all that a caller sees: answers, refusals, then events.
// The error is the first that is not a refusal.
func replay(t testing.TB, conn net.Conn, steps []step) (log []string, err error) {
	ctx := within(t, patience)
	m, err := New(ctx, conn, Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var failed error
	for _, step := range steps[2:] { // after greeting and negotiation
		b := m.WithContext(ctx)
		answer, err := b.Run([]byte(`{"execute": "` + step.command + `"}`))
		var refused *CommandError
		switch {
		case errors.As(err, &refused):
			log = append(log, fmt.Sprintf("%s: %s: %s", step.command, refused.Class, refused.Desc))
		case err != nil:
			failed = err
		default:
			log = append(log, fmt.Sprintf("%s: %s", step.command, answer))
		}
		if failed != nil {
			break
		}
	}
	select {
	case <-m.Done():
	case <-ctx.Done():
		t.Fatal("the connection did not end")
	}
	for e := range m.Events(ctx) {
		log = append(log, e.Name)
	}
	if failed == nil && !errors.Is(m.Err(), ErrDisconnected) {
		failed = m.Err()
	}
	return log, failed
}

// expected is what replay has to find, read from the captured lines by other means.
func expected(steps []step) (log []string) {
	for _, step := range steps[2:] {
		text := step.answer
		if strings.HasPrefix(text, `{"error"`) {
			part := strings.Split(text, `"`)
			text = part[5] + ": " + part[9]
		} else {
			text = strings.Replace(text, `"return": `, `"return":`, 1)
		}
		log = append(log, step.command+": "+text)
	}
	for _, step := range steps {
		for _, line := range step.output {
			if _, after, ok := strings.Cut(line, `"event": "`); ok {
				log = append(log, after[:strings.Index(after, `"`)])
			}
		}
	}
	return log
}

func TestACapturedSessionGivesTheSameHoweverItIsCutIntoPieces(t *testing.T) {
	steps := captured(t, "testdata/lifecycle.txt")
	want := strings.Join(expected(steps), "\n")
	for _, size := range []int{1, 2, 3, 7, 64, 1 << 20} {
		conn := serve(t, func(s *server) {
			play(s, steps, func(text string) {
				for len(text) > 0 {
					n := min(size, len(text))
					s.send(text[:n])
					text = text[n:]
				}
			})
		})
		got, err := replay(t, conn, steps)
		if err != nil || strings.Join(got, "\n") != want {
			t.Fatalf("in pieces of %d bytes: error %v\ngot:\n%s\nwant:\n%s", size, err, strings.Join(got, "\n"), want)
		}
	}
}

func TestASessionThatBreaksOffAtAnyByteEndsInDisconnectionWithWhatCameBefore(t *testing.T) {
	steps := captured(t, "testdata/lifecycle.txt")
	want := expected(steps)
	length := 0
	for i, step := range steps {
		length += len(step.wire(uint64(i)))
	}
	for cut := range length {
		left := cut
		conn := serve(t, func(s *server) {
			play(s, steps, func(text string) {
				if n := min(left, len(text)); n > 0 {
					s.send(text[:n])
				}
				if left -= len(text); left <= 0 {
					s.conn.CloseWrite()
					s.untilGone()
				}
			})
		})
		got, err := replay(t, conn, steps)
		if err != nil && !errors.Is(err, ErrDisconnected) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("broken off after %d bytes: error %v", cut, err)
		}
		if err == nil && cut < length-4 {
			// Only the white space behind the last message, and that message's end, may be missing.
			t.Fatalf("broken off after %d bytes of %d: no error", cut, length)
		}
		// What was seen has to be in the full session, in that order.
		rest := want
		for _, line := range got {
			for len(rest) > 0 && rest[0] != line {
				rest = rest[1:]
			}
			if len(rest) == 0 {
				t.Fatalf("broken off after %d bytes: %q was not sent, or not then", cut, line)
			}
			rest = rest[1:]
		}
	}
}

func TestASessionThatStallsAtAnyByteEndsWithTheContext(t *testing.T) {
	begin := greetingLine + `{"return": {}, "id": 1}` + "\r\n"
	for cut := range len(begin) - 3 {
		ctx, cancel := context.WithCancel(context.Background())
		conn := serve(t, func(s *server) {
			s.send(begin[:cut])
			for len(greetingLine)-2 <= cut { // the negotiation is sent as soon as the greeting is whole
				if _, ok := s.next(); ok {
					break
				}
			}
			cancel()
			s.untilGone()
		})
		inTime(t, fmt.Sprintf("New with %d bytes", cut), func() {
			if _, err := New(ctx, conn, Options{}); !errors.Is(err, context.Canceled) {
				t.Errorf("with %d bytes: error %v, want one that matches %v", cut, err, context.Canceled)
			}
		})
	}
}
