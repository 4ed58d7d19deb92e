package vmstate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/vmstate/vmstatetest"
)

// examined is what Examine says of a file with that content.
func examined(t testing.TB, path string, data []byte, quick bool) (Stream, error) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return examinedAt(t, path, quick)
}

// examinedAt is what Examine says of a file.
func examinedAt(t testing.TB, path string, quick bool) (Stream, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Examine(t.Context(), f, quick)
}

func TestASnapshotIsWholeOrCutShortWhereverItIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, how := range vmstatetest.Packings {
		data := vmstatetest.Packed(t, how, vmstatetest.Stream("pc-q35-7.2", 200))
		for _, quick := range []bool{false, true} {
			if got, err := examined(t, path, data, quick); err != nil || got.MachineType != "pc-q35-7.2" {
				t.Errorf("%s, whole, quick %t: %+v, %v", how, quick, got, err)
			}
		}
		for n := range data {
			if _, err := examined(t, path, data[:n], false); err == nil {
				t.Fatalf("%s: the first %d of %d bytes are taken for whole", how, n, len(data))
			} else if text := err.Error(); !strings.HasPrefix(text, "is ") && !strings.HasPrefix(text, "has nothing") && err != ErrNoDescription {
				t.Fatalf("%s: of the first %d of %d bytes it says %q", how, n, len(data), text)
			}
		}
	}
	// Old machine types have no description, and neither have those that are told to leave it out.
	bare := vmstatetest.Stream("pc-i440fx-2.2", 200)
	bare = bare[:bytes.LastIndexByte(bare, 6)]
	for _, how := range []string{"raw", "lz4"} {
		if got, err := examined(t, path, vmstatetest.Packed(t, how, bare), false); err != ErrNoDescription || got.MachineType != "pc-i440fx-2.2" {
			t.Errorf("%s, without a description: %+v, %v", how, got, err)
		}
	}
	// What is large is not looked at as a whole, but its end is.
	large := vmstatetest.Stream("pc-q35-7.2", 400_000)
	for _, how := range []string{"raw", "gzip"} {
		if _, err := examined(t, path, vmstatetest.Packed(t, how, large), false); err != nil {
			t.Errorf("%s, large: %v", how, err)
		}
		if _, err := examined(t, path, vmstatetest.Packed(t, how, large[:len(large)-1]), false); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Errorf("%s, large and cut: %v", how, err)
		}
	}
}

func TestWhatIsNoSnapshotIsSaidToBeNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	z := vmstatetest.Packed(t, "gzip", []byte("hello, world"))
	for want, data := range map[string]string{
		"is empty": "",
		"is not a memory snapshot of QEMU: it begins with 51 46 49 fb":         "QFI\xfb and so on",
		"is not a memory snapshot of QEMU: what is in it begins with 68 65 6c": string(z),
		"is a migration stream of version 4, and QEMU reads version 3":         "QEVM\x00\x00\x00\x04\x07\x00\x00\x00\x02ab",
		"has nothing of a machine in it: ":                                     "QEVM\x00\x00\x00\x03\x07\x00\x00\x00\x02ab\x00\x06\x00\x00\x00\x02{}",
		"has nothing in it once it is unpacked":                                string(vmstatetest.Packed(t, "gzip", nil)),
		"is damaged: gzip: ":                                                   string(z[:4]) + "\xff\xff\xff\xff\xff\xff" + strings.Repeat("\xff", 40),
	} {
		if _, err := examined(t, path, []byte(data), false); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("of %q it says %v, want %q", data, err, want)
		}
	}
}

func FuzzExamine(f *testing.F) {
	for _, how := range vmstatetest.Packings {
		f.Add(vmstatetest.Packed(f, how, vmstatetest.Stream("pc-q35-7.2", 20)))
	}
	path := filepath.Join(f.TempDir(), "s")
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := examined(t, path, data, false)
		if len(found.MachineType) > maxTypeName {
			t.Errorf("%d bytes of a name", len(found.MachineType))
		}
		if err == nil && len(data) < 20 {
			t.Errorf("%q is no snapshot", data)
		}
	})
}
