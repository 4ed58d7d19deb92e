//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// BenchmarkDump measures DumpMemory against QEMU's own dump of the same guest to the same file system, commanded on the same
// monitor: as both leave it, and synced to disk. All take turns. It reports the
// medians in MiB/s, and the driver's as a share of both.
func BenchmarkDump(b *testing.B) {
	snaps := realSnapshots(b)
	s := newSite(b)
	s.add("vm", snaps.disk, snaps.running, big()...)
	for name, dir := range map[string]string{"disk": s.dir, "tmpfs": "/dev/shm"} {
		b.Run(name, func(b *testing.B) {
			dir, err := os.MkdirTemp(dir, "m")
			if err != nil {
				b.Skip(err)
			}
			defer os.RemoveAll(dir)
			m := s.open(machinery.Options{})
			if err := m.NoRestoreStart(limit(b), "vm"); err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			c, err := m.Monitor(ctx, "vm")
			if err != nil {
				b.Fatal(err)
			}
			path := filepath.Join(dir, "dump")
			var driver, own, synced []time.Duration
			var size int64
			for b.Loop() {
				began := time.Now()
				if err := m.DumpMemory(ctx, "vm", path); err != nil {
					b.Fatal(err)
				}
				driver = append(driver, time.Since(began))
				if err := os.Remove(path); err != nil {
					b.Fatal(err)
				}
				began = time.Now()
				if err := c.Execute(ctx, "dump-guest-memory", map[string]any{"paging": false, "protocol": "file:" + path}, nil); err != nil {
					b.Fatal(err)
				}
				own = append(own, time.Since(began))
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				synced = append(synced, time.Since(began))
				info, err := f.Stat()
				if err != nil {
					b.Fatal(err)
				}
				size = info.Size()
				f.Close()
				if err := os.Remove(path); err != nil {
					b.Fatal(err)
				}
			}
			rate := func(d []time.Duration) float64 { return float64(size) / (1 << 20) / milliseconds(d) * 1000 }
			b.ReportMetric(rate(driver), "driver-MiB/s")
			b.ReportMetric(rate(own), "qemu-MiB/s")
			b.ReportMetric(rate(synced), "qemu+sync-MiB/s")
			b.ReportMetric(rate(driver)/rate(own), "driver/qemu")
			b.ReportMetric(rate(driver)/rate(synced), "driver/qemu+sync")
			b.ReportMetric(0, "ns/op")
			if err := m.Shutdown(ctx); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkState measures State against a bare query-status on the same connection, in turns, and reports the medians.
func BenchmarkState(b *testing.B) {
	snaps := realSnapshots(b)
	s := newSite(b)
	s.add("vm", snaps.disk, snaps.paused)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(b), "vm"); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	c, err := m.Monitor(ctx, "vm")
	if err != nil {
		b.Fatal(err)
	}
	var driver, bare []time.Duration
	for b.Loop() {
		began := time.Now()
		if _, err := m.State(ctx, "vm"); err != nil {
			b.Fatal(err)
		}
		driver = append(driver, time.Since(began))
		began = time.Now()
		var answer struct{ Status string }
		if err := c.Execute(ctx, "query-status", nil, &answer); err != nil {
			b.Fatal(err)
		}
		bare = append(bare, time.Since(began))
	}
	b.ReportMetric(1000*milliseconds(driver), "state-µs")
	b.ReportMetric(1000*milliseconds(bare), "query-status-µs")
	b.ReportMetric(milliseconds(driver)/milliseconds(bare), "state/query-status")
	b.ReportMetric(0, "ns/op")
}
