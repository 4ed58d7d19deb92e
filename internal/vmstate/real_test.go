package vmstate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/qemuargs"
	"github.com/machineries/machineries/internal/require"
)

func TestWhatTheHostsQEMUWritesIsWholeAndABytesLessIsNot(t *testing.T) {
	version := require.QEMU(t, "quit\n", "-version")
	here, ok := qemuargs.ParseVersion(version)
	if !ok {
		t.Fatalf("%q is no version", version)
	}
	for _, name := range []qemuargs.Type{"q35", "pc"} {
		path := filepath.Join(t.TempDir(), "memory.snapshot")
		out := require.QEMU(t, fmt.Sprintf("migrate \"exec:cat >%s\"\nquit\n", path), "-M", string(name))
		found, err := examinedAt(t, path, false)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if want := string(name.In(here)); found.MachineType != want {
			t.Errorf("the snapshot is of %q, want %q", found.MachineType, want)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 400, len(data) / 2, len(data) - 20} {
			if err := os.WriteFile(path, data[:len(data)-n], 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := examinedAt(t, path, false); err == nil || !strings.Contains(err.Error(), "cut short") {
				t.Errorf("%d bytes less: %v", n, err)
			}
		}
	}
}
