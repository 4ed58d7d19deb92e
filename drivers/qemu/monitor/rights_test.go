package monitor

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTheFileArrivesBesideItsCommand(t *testing.T) {
	received := make(chan []int, 1)
	m := connect(t, Options{}, func(s *server) {
		buf, oob := make([]byte, 1024), make([]byte, 1024)
		_, n, _, _, err := s.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			t.Error(err)
			return
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		var fds []int
		for _, m := range messages {
			more, _ := unix.ParseUnixRights(&m)
			fds = append(fds, more...)
		}
		received <- fds
		s.send(`{"return": {}, "id": 2}`)
		s.untilGone()
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := m.ExecuteFile(within(t, patience), "getfd", map[string]string{"fdname": "x"}, w, nil); err != nil {
		t.Fatal(err)
	}
	fds := <-received
	if len(fds) != 1 {
		t.Fatalf("%d descriptors arrived", len(fds))
	}
	defer unix.Close(fds[0])
	if _, err := unix.Write(fds[0], []byte("x")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	if _, err := r.Read(got); err != nil || got[0] != 'x' {
		t.Errorf("through the pipe came %q, error %v", got, err)
	}
}

func TestAFileThatCannotBeSentLeavesTheConnectionWhole(t *testing.T) {
	m := connect(t, Options{}, typed)
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for range 3 {
		wantError(t, m.ExecuteFile(within(t, patience), "getfd", nil, closed, nil), ErrNotSent)
	}
	if err := m.Execute(within(t, patience), "query-status", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestAFileNeedsAUnixSocket(t *testing.T) {
	client, conn := net.Pipe()
	go func() {
		conn.Write([]byte(greetingLine))
		conn.Read(make([]byte, 1024))
		conn.Write([]byte(`{"return": {}, "id": 1}`))
	}()
	defer conn.Close()
	m, err := New(within(t, patience), client, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	wantError(t, m.ExecuteFile(within(t, patience), "getfd", nil, os.Stdin, nil), ErrNotSent)
	if m.Err() != nil {
		t.Error(m.Err())
	}
}
