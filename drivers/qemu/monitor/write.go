package monitor

import (
	"context"
	"errors"
	"os"
	"time"
)

// longAgo as a deadline makes a write give up at once.
var longAgo = time.Unix(1, 0)

// send writes one command, and before it what an earlier one left. It is called with m.writing held. sent
// tells whether at least one byte of the command is gone; if so there is no error that matters here: the rest waits
// in m.unsent, or the connection is about to end.
func (m *Monitor) send(ctx context.Context, buf []byte, file *os.File) (sent bool, err error) {
	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			m.conn.SetWriteDeadline(longAgo)
			close(interrupted)
		})
		defer func() {
			if !stop() {
				<-interrupted
				m.conn.SetWriteDeadline(time.Time{})
			}
		}()
	}
	if len(m.unsent) > 0 {
		n, err := m.conn.Write(m.unsent)
		m.unsent = m.unsent[n:]
		if err != nil {
			return false, m.failWrite(ctx, err)
		}
		m.unsent = nil
	}
	m.trace.add(true, buf)
	n := 0
	if file != nil {
		// The descriptor goes with the first byte.
		if n, err = sendFile(m.conn, buf, file); err != nil && n == 0 {
			if errors.Is(err, errNoFile) {
				return false, err
			}
			return false, m.failWrite(ctx, err)
		}
	}
	if err == nil && n < len(buf) {
		var more int
		more, err = m.conn.Write(buf[n:])
		n += more
	}
	if err == nil {
		return true, nil
	}
	err = m.failWrite(ctx, err)
	if n == 0 {
		return false, err
	}
	m.unsent = buf[n:]
	return true, nil
}

// failWrite says why a write failed. If it was not ctx that stopped it, the connection is broken; then the reader
// gets a moment to take what QEMU said before, and ends.
func (m *Monitor) failWrite(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	m.mu.Lock()
	if m.writeErr == nil {
		m.writeErr = err
	}
	m.mu.Unlock()
	m.conn.SetReadDeadline(time.Now().Add(drainTime))
	return err
}
