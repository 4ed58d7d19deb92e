package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A script is a daemon that answers as a test says. It opens connections as libvirt does, and leaves the rest
// to answer, which returns false to drop the connection.
type script struct {
	t           testing.TB
	answer      func(nc net.Conn, call *packet) bool
	opening     func(nc net.Conn, call *packet) (handled, goOn bool) // may be nil
	connections atomic.Int32
	wg          sync.WaitGroup

	mu    sync.Mutex
	open  []net.Conn
	ended bool
}

func serve(t testing.TB, answer func(net.Conn, *packet) bool) *script {
	s := &script{t: t, answer: answer}
	t.Cleanup(func() {
		s.drop(true)
		s.wg.Wait()
	})
	return s
}

// drop closes every connection.
func (s *script) drop(forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended || forGood
	for _, nc := range s.open {
		nc.Close()
	}
	s.open = nil
}

func (s *script) client(o Options) *Client {
	s.t.Helper()
	o.Dial = s.dial
	c, err := New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// dial makes a pair of sockets, as a pipe in memory would not take what nobody reads.
func (s *script) dial(ctx context.Context) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		ours.Close()
		theirs.Close()
		return nil, errors.New("the script has ended")
	}
	s.open = append(s.open, theirs)
	s.connections.Add(1)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer theirs.Close()
		r := bufio.NewReader(theirs)
		for {
			p, err := readPacket(r)
			if err != nil {
				return
			}
			if s.opening != nil {
				if handled, goOn := s.opening(theirs, p); handled {
					if !goOn {
						return
					}
					continue
				}
			}
			switch {
			case p.kind == typeCall && p.procedure == procAuthList:
				reply(theirs, p, []byte{0, 0, 0, 1, 0, 0, 0, 0})
			case p.kind == typeCall && p.procedure == procConnectOpen:
				reply(theirs, p, nil)
			default:
				if !s.answer(theirs, p) {
					return
				}
			}
		}
	}()
	return ours, nil
}

func reply(nc net.Conn, call *packet, payload []byte) {
	p := *call
	p.kind, p.payload = typeReply, payload
	nc.Write(p.bytes())
}

// goodState answers DomainGetState with running (1) and its reason unpaused (5).
func goodState(nc net.Conn, call *packet) bool {
	switch call.procedure {
	case procDomainGetState:
		reply(nc, call, []byte{0, 0, 0, 1, 0, 0, 0, 5})
	case procConnectGetType:
		reply(nc, call, appendText(nil, "QEMU"))
	}
	return true
}

func number(n ...uint32) (b []byte) {
	for _, n := range n {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}
