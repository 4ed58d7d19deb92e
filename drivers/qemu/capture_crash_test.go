//go:build linux

package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

func TestWheneverTheDriverDiesItsCaptureIsFinishedOrLeavesNothing(t *testing.T) {
	p := newPeer(t, scratch(t), "p")
	s, closed := netSite(t, p)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "x.pcap")
	files := 0
	for i := range 24 {
		child := startChild(t, s, "record", true)
		time.Sleep(time.Duration(i) * 4 * time.Millisecond) // a start takes some 60 ms: the driver dies at another moment of it each time
		killChild(child)
		m := s.open(machinery.Options{})
		if err := m.Stop(limit(t), "vm"); err != nil && !errors.Is(err, machinery.ErrStateReached) {
			t.Errorf("killed after %d ms: %v", 4*i, err)
		}
		if left := parts(t, s.dir); len(left) > 0 {
			t.Errorf("killed after %d ms: %q is left", 4*i, left)
		}
		s.clean()
		if fileExists(path) {
			recorded(t, path)
			mustRemove(t, path)
			files++
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Error("none of the drivers has come as far as to record")
	}
	t.Logf("%d of 24 runs left a capture", files)
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
