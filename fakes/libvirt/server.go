package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Server is a fake libvirtd. Its methods may be called from any goroutine.
type Server struct {
	opts   Options
	dir    string // of a socket that has a directory of its own
	socket string

	mu       sync.Mutex // everything below, and every domain
	closed   bool
	life     *life // of the daemon; nil while it is down
	domains  []*Domain
	nextID   int32
	limit    int
	plan     plan
	calls    []Call
	silent   chan struct{} // closed when a silence ends; nil while there is none
	changed  *sync.Cond
	restarts sync.Mutex     // one at a time
	leaving  sync.WaitGroup // machines of domains that were removed, serial ports, and dumps
}

// life is what ends when the daemon does, while its machines run on.
type life struct {
	ctx     context.Context
	cancel  context.CancelFunc
	listen  *net.UnixListener
	clients []*client
	work    sync.WaitGroup
}

// New starts a fake libvirtd. Close ends it.
func New(o Options) (*Server, error) {
	s := &Server{opts: o.withDefaults(), socket: o.Socket}
	s.nextID, s.limit = s.opts.FirstID, s.opts.Clients
	s.changed = sync.NewCond(&s.mu)
	if s.socket == "" {
		dir, err := os.MkdirTemp("/tmp", "mlv-")
		if err != nil {
			return nil, err
		}
		s.dir, s.socket = dir, filepath.Join(dir, "libvirt-sock")
	}
	if err := s.begin(); err != nil {
		if s.dir != "" {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
		return nil, err
	}
	return s, nil
}

// begin starts the daemon.
func (s *Server) begin() error {
	if len(s.socket) > 107 {
		return fmt.Errorf("the path of the socket has %d bytes, which are more than the 107 that a unix socket may have: %s", len(s.socket), s.socket)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the fake libvirtd cannot listen: %w; end who listens there, or remove what is left there of one that was killed", err)
	case err != nil:
		return fmt.Errorf("the fake libvirtd cannot listen: %w", err)
	}
	lf := &life{listen: l}
	lf.ctx, lf.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	s.life = lf
	for _, d := range s.domains {
		if d.state == statePaused && (d.reason == pausedDump || d.reason == pausedSave) {
			lf.work.Go(func() { d.recover(lf.ctx) })
		}
	}
	s.mu.Unlock()
	lf.work.Go(func() { s.accept(lf) })
	return nil
}

// end ends the daemon: its connections and calls, not its machines.
func (s *Server) end() {
	s.mu.Lock()
	lf := s.life
	s.life = nil
	s.mu.Unlock()
	if lf == nil {
		return
	}
	lf.cancel()
	lf.listen.Close()
	s.mu.Lock()
	for _, c := range lf.clients {
		c.close()
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	lf.work.Wait()
}

// Close ends the daemon and its machines. When it returns, nothing of them is
// left but what clients had written.
func (s *Server) Close() error {
	s.restarts.Lock()
	defer s.restarts.Unlock()
	s.end()
	s.mu.Lock()
	s.closed = true
	domains := s.domains
	s.domains = nil
	for _, d := range domains {
		d.cut()
	}
	s.mu.Unlock()
	var err error
	for _, d := range domains {
		err = errors.Join(err, d.release())
	}
	s.leaving.Wait()
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// Restart ends the daemon as SIGKILL would, and starts it again after down has
// passed: connections break, calls under way are never answered, and machines
// run on, as those of a real libvirtd do. A machine that was being started is
// off afterwards. One that was being dumped or saved is resumed by the new daemon,
// unless its hypervisor is still writing the dump: then it stays paused.
func (s *Server) Restart(down time.Duration) error {
	s.restarts.Lock()
	defer s.restarts.Unlock()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	s.end()
	time.Sleep(down) // the daemon is to be away for that long; there is nothing to wait for
	return s.begin()
}

// Socket is the path of the socket.
func (s *Server) Socket() string { return s.socket }

// URI is what clients connect to, such as "qemu:///system?socket=/run/x". That of
// the test driver says unix, without which libvirt's own clients run that
// driver in their own process.
func (s *Server) URI() string {
	if s.opts.Flavour == Test {
		return "test+unix:///default?socket=" + s.socket
	}
	return s.uri() + "?socket=" + s.socket
}

// uri is what the daemon calls itself.
func (s *Server) uri() string {
	if s.opts.Flavour == Test {
		return "test:///default"
	}
	return "qemu:///system"
}

// accept takes connections.
func (s *Server) accept(lf *life) {
	for {
		conn, err := lf.listen.AcceptUnix()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.life != lf || len(lf.clients) >= s.limit {
			s.mu.Unlock()
			conn.Close()
			continue
		}
		c := newClient(s, lf, conn)
		lf.clients = append(lf.clients, c)
		lf.work.Go(c.write)
		lf.work.Go(c.read)
		s.mu.Unlock()
	}
}

// drop forgets a connection. The server is locked.
func (s *Server) drop(c *client) {
	c.close()
	if i := slices.Index(c.life.clients, c); i >= 0 {
		c.life.clients = slices.Delete(c.life.clients, i, i+1)
	}
	s.changed.Broadcast()
}

// Clients is how many connections there are.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life == nil {
		return 0
	}
	return len(s.life.clients)
}

// Limit sets how many connections there may be at once; one more is closed as
// soon as it is made.
func (s *Server) Limit(clients int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = clients
}

// Silence makes the daemon say nothing more, as a process that is stopped: what
// comes in is not read, connections are made and nothing comes over them. The
// function that it returns ends that, and what had come in is answered.
func (s *Server) Silence() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent == nil {
		s.silent = make(chan struct{})
	}
	ch := s.silent
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.silent == ch {
			close(ch)
			s.silent = nil
		}
	}
}

// hush waits while the daemon is silent; false when it ended meanwhile.
func (s *Server) hush(lf *life) bool {
	for {
		s.mu.Lock()
		ch := s.silent
		s.mu.Unlock()
		if ch == nil {
			return lf.ctx.Err() == nil
		}
		select {
		case <-ch:
		case <-lf.ctx.Done():
			return false
		}
	}
}
