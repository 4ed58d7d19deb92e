package rpc

import (
	"context"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
)

// RetryLocked runs do again while libvirt says that another operation holds the domain ("Timed out during
// operation: cannot acquire state change lock", VIR_ERR_OPERATION_TIMEOUT, 68; libvirt itself waits 30 s for
// the lock before it says so), until ctx ends. Nothing has been done when libvirt says this, so that a
// second attempt is safe. The last error is returned.
func RetryLocked(ctx context.Context, do func() error) error {
	pause := 50 * time.Millisecond
	for {
		err := do()
		if !IsLocked(err) || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		pause = min(2*pause, time.Second)
	}
}

// IsLocked tells whether libvirt refused because another operation holds the domain.
func IsLocked(err error) bool { return IsCode(err, libvirt.ErrOperationTimeout) }

// Text finds a text among typed parameters.
func Text(params []libvirt.TypedParam, name string) (string, bool) {
	for _, p := range params {
		if s, ok := p.Value.I.(string); ok && p.Field == name {
			return s, true
		}
	}
	return "", false
}
