package qcow2

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/require"
)

// snapshotImage is an image with content in a few clusters.
func snapshotImage(t *testing.T) (string, *Image) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.qcow2")
	if err := Create(path, Options{VirtualSize: 1 << 20, ClusterBits: 12}); err != nil {
		t.Fatal(err)
	}
	d, err := Open(path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return path, d.(*Image)
}

func put(t *testing.T, d Disk, at int64, text string) {
	t.Helper()
	if _, err := d.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, d Disk, at int64, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := d.ReadAt(got, at); err != nil || string(got) != text {
		t.Errorf("at %#x: %q (%v), want %q", at, got, err, text)
	}
}

func TestASnapshotBringsBackWhatWasThere(t *testing.T) {
	path, im := snapshotImage(t)
	state := bytes.Repeat([]byte("machine "), 5000)
	put(t, im, 0, "first")
	put(t, im, 0x40000, "far")
	if err := im.TakeSnapshot("one", state, time.Unix(1700000000, 0)); err != nil {
		t.Fatal(err)
	}
	before, err := Snapshots(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, im, 0, "later")
	put(t, im, 0x80000, "new")
	if err := im.TakeSnapshot("two", nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := im.ApplySnapshot("one"); err != nil {
			t.Fatal(err)
		}
		has(t, im, 0, "first")
		has(t, im, 0x40000, "far")
		has(t, im, 0x80000, "\x00\x00\x00")
		put(t, im, 0, "spoil")
		if err := im.ApplySnapshot("two"); err != nil {
			t.Fatal(err)
		}
		has(t, im, 0, "later")
		has(t, im, 0x80000, "new")
		put(t, im, 0x80000, "no!")
	}
	got, err := im.SnapshotState("one")
	if err != nil || !bytes.Equal(got, state) {
		t.Errorf("the machine's part: %d bytes, %v", len(got), err)
	}
	after, err := Snapshots(path)
	if err != nil || len(after) != 2 || after[0] != before[0] {
		t.Errorf("the snapshot changed: %+v, %+v, %v", before, after, err)
	}
}

func TestSnapshotsThatAreNotThereAndThatAreThereAlready(t *testing.T) {
	_, im := snapshotImage(t)
	for what, err := range map[string]error{"apply": im.ApplySnapshot("x"), "delete": im.DeleteSnapshot("x")} {
		if !strings.Contains(err.Error(), "no such snapshot") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := im.TakeSnapshot("x", nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := im.TakeSnapshot("x", nil, time.Now()); err == nil {
		t.Error("two snapshots of one name")
	}
}

func TestQEMUFindsOurSnapshotsRight(t *testing.T) {
	require.Tool(t, "qemu", "qemu-img")
	path, im := snapshotImage(t)
	img := func(args ...string) string {
		out, err := exec.Command("qemu-img", append(args, path)...).CombinedOutput()
		if err != nil {
			t.Fatalf("qemu-img %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	check := func() {
		t.Helper()
		if out := img("check"); !strings.Contains(out, "No errors were found") {
			t.Error(out)
		}
	}
	put(t, im, 0, "first")
	for _, step := range []func() error{
		func() error { return im.TakeSnapshot("one", bytes.Repeat([]byte("m"), 3_000_000), time.Now()) },
		func() error { put(t, im, 0, "later"); return nil },
		func() error { return im.TakeSnapshot("two", nil, time.Now()) },
		func() error { return im.ApplySnapshot("one") },
		func() error { put(t, im, 4096, "more"); return nil },
		func() error { return im.DeleteSnapshot("two") },
		func() error { put(t, im, 0, "again"); return nil },
		func() error { return im.ApplySnapshot("one") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		check()
	}
	if out := img("snapshot", "-l"); !strings.Contains(out, "one") || !strings.Contains(out, "2.86 MiB") {
		t.Error(out)
	}
	put(t, im, 0, "spoil")
	im.Close()
	img("snapshot", "-a", "one")
	check()
	d, err := Open(path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	has(t, d, 0, "first")
	if state, err := d.(*Image).SnapshotState("one"); err != nil || len(state) != 3_000_000 {
		t.Errorf("%d bytes, %v", len(state), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
