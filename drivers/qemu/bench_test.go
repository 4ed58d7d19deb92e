//go:build linux

package qemu

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/machinery"
)

// BenchmarkRestore measures the driver against the floor: the same QEMU with the same snapshot and inherited descriptors,
// started directly and spoken to in fixed bytes. Both take turns, so that what else the host does hits both. It reports the
// medians in milliseconds, their ratio, and for Stop how long QEMU's process takes to be gone.
func BenchmarkRestore(b *testing.B) {
	snaps := realSnapshots(b)
	for _, c := range []struct {
		name     string
		snapshot []byte
	}{{"paused", snaps.paused}, {"running", snaps.running}} {
		b.Run(c.name, func(b *testing.B) {
			s := newSite(b)
			s.add("vm", snaps.disk, c.snapshot)
			m := s.open(machinery.Options{})
			f := newFloor(b, m.frame.Named("vm"))
			var driver, floor, stop []time.Duration
			for b.Loop() {
				began := time.Now()
				if err := m.RestoreStart(limit(b), "vm"); err != nil {
					b.Fatal(err)
				}
				driver = append(driver, time.Since(began))
				began = time.Now()
				if err := m.Stop(limit(b), "vm"); err != nil {
					b.Fatal(err)
				}
				stop = append(stop, time.Since(began))
				floor = append(floor, f.restore())
			}
			b.ReportMetric(milliseconds(driver), "restore-ms")
			b.ReportMetric(milliseconds(floor), "floor-ms")
			b.ReportMetric(milliseconds(driver)/milliseconds(floor), "restore/floor")
			b.ReportMetric(milliseconds(stop), "stop-ms")
			b.ReportMetric(0, "ns/op") // both together, which says nothing
		})
	}
}

// BenchmarkFloor is the floor alone.
func BenchmarkFloor(b *testing.B) {
	snaps := realSnapshots(b)
	s := newSite(b)
	s.add("vm", snaps.disk, snaps.paused)
	f := newFloor(b, s.open(machinery.Options{}).frame.Named("vm"))
	var took []time.Duration
	for b.Loop() {
		took = append(took, f.restore())
	}
	b.ReportMetric(milliseconds(took), "floor-ms")
	b.ReportMetric(0, "ns/op")
}

// milliseconds is the median.
func milliseconds(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2]) / float64(time.Millisecond)
}

// floor starts a machine's QEMU with as little as possible around it.
type floor struct {
	b    *testing.B
	v    *vm
	dir  string
	args []string
}

func newFloor(b *testing.B, v *vm) *floor {
	f := &floor{b: b, v: v, dir: scratch(b)}
	f.args = append([]string{v.d.config.QEMU}, v.args.with(filepath.Join(f.dir, "overlay"))...)
	f.args = append(f.args, "-chardev", "socket,id=q,fd=3,server=on,wait=off", "-mon", "chardev=q,mode=control",
		"-global", "migration.x-events=on", "-incoming", "fd:4")
	return f
}

// restore is the time from before the start of QEMU until the snapshot is loaded.
func (f *floor) restore() time.Duration {
	b := f.b
	check := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	overlay, socket := filepath.Join(f.dir, "overlay"), filepath.Join(f.dir, "q")
	info, err := checkDisk(f.v.conf.Disk)
	check(err)
	check(qcow2.CreateOverlay(overlay, info.Path, info.Format, info.VirtualSize))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	check(err)
	listening, err := l.File()
	check(err)
	snapshot, err := os.Open(f.v.conf.Snapshot)
	check(err)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	check(err)

	began := time.Now()
	p, err := os.StartProcess(f.args[0], f.args, &os.ProcAttr{Files: []*os.File{null, null, null, listening, snapshot}})
	check(err)
	c, err := net.Dial("unix", socket)
	check(err)
	check(c.SetDeadline(time.Now().Add(30 * time.Second)))
	// As in a driver, the end of the load may have come before the connection was negotiated.
	in := bufio.NewReader(c)
	until := func(words ...string) string {
		for {
			line, err := in.ReadBytes('\n')
			check(err)
			for _, word := range words {
				if bytes.Contains(line, []byte(word)) {
					return word
				}
			}
		}
	}
	until(`"QMP"`)
	fmt.Fprintln(c, `{"execute":"qmp_capabilities"}`)
	until(`"return"`)
	fmt.Fprintln(c, `{"execute":"query-status"}`)
	if until(`"inmigrate"`, `"completed"`, `"paused"`, `"running": true`) == `"inmigrate"` {
		until(`"completed"`)
	}
	took := time.Since(began)

	fmt.Fprintln(c, `{"execute":"quit"}`)
	_, err = p.Wait()
	check(err)
	for _, f := range []interface{ Close() error }{c, listening, snapshot, null, l} {
		_ = f.Close()
	}
	check(os.Remove(overlay))
	return took
}
