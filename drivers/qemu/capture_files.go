//go:build linux

package qemu

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/machineries/machineries/drivers/internal/capture"
)

// finishCapture makes the file of the run's capture, if there is one, when its QEMU has ended.
func (v *vm) finishCapture(r *run) error {
	c := r.ledger.Capture
	if c == nil {
		return nil
	}
	err := c.Finish(true)
	// QEMU 7.2.22 says so when it cannot write, and records no more.
	if strings.Contains(r.proc.Tail(), "network dump write error") && !errors.Is(err, capture.ErrCutShort) {
		err = errors.Join(err, capture.ErrCutShort)
	}
	if err != nil {
		v.log.Warn("the machine's capture is not as it should be", "path", c.Path, "error", err)
		return &captureLost{err}
	}
	return nil
}

// captureLost is the error of a capture that could not be completed when the machine's run ended.
type captureLost struct{ err error }

func (e *captureLost) Error() string { return e.err.Error() }
func (e *captureLost) Unwrap() error { return e.err }

// dropCapture undoes a capture that could not be begun.
func (r *run) dropCapture() {
	c := r.ledger.Capture
	if c == nil {
		return
	}
	_ = c.Tool.End()
	if err := c.Remove(); err != nil {
		r.v.log.Warn("what was made for a capture cannot be removed", "error", err)
	}
	if err := r.note(func(l *ledger) { l.Capture = nil }); err != nil {
		r.v.log.Debug("the capture that came to nothing is still in the ledger", "error", err)
	}
}

// boundAsk is how often it is looked how much was recorded.
const boundAsk = time.Second

// boundCapture ends the recording when it has its bound. The file is made when the capture ends.
func (r *run) boundCapture(c *capture.Recording) {
	ticker := time.NewTicker(boundAsk)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-r.proc.Gone:
			return
		case <-r.released:
			return
		}
		r.mu.Lock()
		current := r.ledger.Capture == c
		r.mu.Unlock()
		if !current {
			return
		}
		if c.Recorded() < c.MaxBytes {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), adoptTime)
		var err error
		if c.Method == CaptureFilterDump {
			err = r.removeFilters(ctx, c)
		} else {
			c.Tool.Stop()
		}
		cancel()
		if err == nil {
			r.v.log.Warn("the capture has its bound, and nothing more is recorded", "path", c.Path, "bytes", c.MaxBytes)
			return
		}
		r.v.log.Debug("the capture is beyond its bound and cannot be ended", "error", err)
	}
}
