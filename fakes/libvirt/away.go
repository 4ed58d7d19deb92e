package libvirt

import "errors"

var errClosed = errors.New("the fake libvirtd is closed")

// Stop ends the daemon as SIGKILL would, until Start: its socket is gone, and its
// machines run on. Stopping it again does nothing.
func (s *Server) Stop() {
	s.restarts.Lock()
	defer s.restarts.Unlock()
	s.end()
}

// Start starts the daemon again after Stop. One that runs runs on.
func (s *Server) Start() error {
	s.restarts.Lock()
	defer s.restarts.Unlock()
	s.mu.Lock()
	closed, running := s.closed, s.life != nil
	s.mu.Unlock()
	switch {
	case closed:
		return errClosed
	case running:
		return nil
	}
	return s.begin()
}
