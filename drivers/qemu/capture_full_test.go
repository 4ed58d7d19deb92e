//go:build linux

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

// smallDisk is a file system of that many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := scratch(t)
	if err := unix.Mount("machineries-test", dir, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskLeavesNoHalfCapture(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	for _, c := range []struct {
		name    string
		exclude bool
		fill    bool // everything but what is recorded until then
	}{
		{name: "while it is recorded", fill: true},
		{name: "when the file is made"},
		{name: "when the file is made and something is left out", exclude: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := smallDisk(t, "1m")
			sockets := scratch(t)
			p := newPeer(t, sockets, "p")
			s, m := netSite(t, p)
			path := filepath.Join(dir, "x.pcap")
			server := []machinery.Endpoint{{Host: "192.0.2.1", Port: 2042}}
			if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path, Exclude: server}); err != nil {
				t.Fatal(err)
			}
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			conn := p.conn()
			packet := append(ethernet("again"), make([]byte, 1000)...)
			if c.exclude {
				packet = append(datagram("192.0.2.1:2042", "192.0.2.9:9", "to be left out"), make([]byte, 1000)...)
			}
			if c.fill {
				// QEMU stops recording in the midst of this.
				for range 1200 {
					send(conn, packet)
				}
			} else {
				// More than half of the disk: the file does not go beside it.
				for range 700 {
					send(conn, packet)
				}
				send(conn, ethernet("the last"))
				arrived(t, dir, "the last")
				until(t, "the recording", func() bool {
					info, err := os.Stat(parts(t, dir)[0])
					return err == nil && info.Size() > 700*1000
				})
			}
			err := m.Stop(limit(t), "vm")
			if c.fill {
				mustKind(t, err, machinery.ErrCapture)
				if !strings.Contains(err.Error(), "ended before it should have") {
					t.Errorf("the error does not say what is missing: %v", err)
				}
			} else if err != nil {
				t.Errorf("there is room for the recording itself, and it becomes the file: %v", err)
			}
			mustState(t, m, "vm", machinery.StatePoweroff, "")
			got := recorded(t, path)
			want := 701
			if c.fill {
				want = 800
			}
			if c.exclude {
				want = 2
			}
			if len(got) < want || !has(got, "first of p") || c.exclude && has(got, "to be left out") {
				t.Errorf("%d packets are recorded; want %d", len(got), want)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("%v is left", left)
			}
			s.clean()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}

			// With room again it works again.
			if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: path}); err != nil {
				t.Fatal(err)
			}
			if err := m.RestoreStart(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			p.conn()
			if err := m.Stop(limit(t), "vm"); err != nil {
				t.Fatal(err)
			}
			recorded(t, path)
			s.clean()
		})
	}
}

func TestADiskWithoutAnyRoomFailsTheStart(t *testing.T) {
	if !require.OwnMounts(t) {
		return
	}
	dir := smallDisk(t, "64k")
	p := newPeer(t, scratch(t), "p")
	s, m := netSite(t, p)
	if err := m.StartCapture(limit(t), "vm", machinery.Capture{Path: filepath.Join(dir, "x.pcap")}); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrCapture)
	t.Log(err)
	if left := parts(t, dir); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	s.clean()
}
