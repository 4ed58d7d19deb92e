//go:build linux

package disposable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/qcow2"
	"golang.org/x/sys/unix"
)

// base is a disk and a path for an overlay above it.
func base(t *testing.T) (info qcow2.Info, overlay string) {
	t.Helper()
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.qcow2")
	if err := qcow2.Create(disk, qcow2.Options{VirtualSize: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	info, err := qcow2.Inspect(disk)
	if err != nil {
		t.Fatal(err)
	}
	return info, filepath.Join(dir, "overlay.qcow2")
}

// lock locks a byte of a file as QEMU does, until the file is closed.
func lock(t *testing.T, path string, at int64, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestANameIsReadableAndDependsOnNothingButTheMachineAndItsKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		keys []string
		want string
	}{
		{"win10_1", []string{"00ff"}, "win10_1-00ff_disposable.qcow2"},
		{"ä/.. 10", []string{"00ff", "sda"}, "_____10-00ff-sda_disposable.qcow2"},
		{strings.Repeat("x", 200), []string{"k/y"}, strings.Repeat("x", 40) + "-k_y_disposable.qcow2"},
	} {
		if got := Name(c.name, c.keys...); got != c.want {
			t.Errorf("%q, %q: %q; want %q", c.name, c.keys, got, c.want)
		}
	}
}

func TestADiskThatAnEarlierRunLeftIsReplaced(t *testing.T) {
	info, path := base(t)
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := Make(path, info)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := qcow2.Inspect(path); err != nil || made.BackingFile != info.Path || made.VirtualSize != info.VirtualSize {
		t.Errorf("the overlay is %+v, %v", made, err)
	}
	if !InUse(path) {
		t.Error("nobody sees that a driver has just made it")
	}
	Release(own)
	if InUse(path) {
		t.Error("it is in use after it was released")
	}
}

func TestADiskThatAnotherUsesIsLeftAlone(t *testing.T) {
	for who, at := range map[string]int64{"a QEMU": lockFirst, "a driver": ownByte} {
		info, path := base(t)
		if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		theirs := lock(t, path, at, os.O_RDWR)
		if own, err := Make(path, info); own != nil || err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s has it: %v, %v; want an error that names it", who, own, err)
		}
		if _, err := Take(path); !errors.Is(err, ErrInUse) {
			t.Errorf("%s has it: Take says %v", who, err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "theirs" {
			t.Errorf("%s had it, and it is %q now, %v", who, text, err)
		}
		theirs.Close()
	}
}

func TestABaseThatIsWrittenToIsRefusedAndOneThatIsReadIsNot(t *testing.T) {
	info, overlay := base(t)
	if err := qcow2.CreateOverlay(overlay, info.Path, info.Format, info.VirtualSize); err != nil {
		t.Fatal(err)
	}
	reader := lock(t, info.Path, lockFirst, os.O_RDONLY)
	defer reader.Close()
	if err := RefuseWritten(overlay); err != nil {
		t.Errorf("somebody reads it: %v", err)
	}
	writer := lock(t, info.Path, writeByte, os.O_RDWR)
	defer writer.Close()
	if err := RefuseWritten(overlay); err == nil || !strings.Contains(err.Error(), info.Path) {
		t.Errorf("somebody writes to what it is based on: %v; want an error that names it", err)
	}
}

func TestWhatIsThereIsRemovedAndWhatIsNotIsNoError(t *testing.T) {
	_, path := base(t)
	full := filepath.Join(filepath.Dir(path), "directory")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.MkdirAll(filepath.Join(full, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll([]string{full, path, path + ".none"}); err == nil || !strings.Contains(err.Error(), full) {
		t.Errorf("the error is %v; want one that names %s", err, full)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("what comes after one that cannot be removed is still there")
	}
}
