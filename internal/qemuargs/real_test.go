package qemuargs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/machineries/machineries/internal/require"
)

func TestTheHostsQEMURefusesWhatIsSaidToBeGone(t *testing.T) {
	version := require.QEMU(t, "quit\n", "-version")
	if here, _ := ParseVersion(version); here.Major < 7 {
		t.Skipf("%s is older than what the table is of", version)
	}
	for _, name := range slices.Sorted(maps.Keys(goneOptions)) {
		args := []string{"-" + name}
		if goneOptions[name].value {
			args = append(args, "x")
		}
		if out := require.QEMU(t, "quit\n", args...); !strings.Contains(out, "-"+name+": invalid option") {
			t.Errorf("-%s is taken: %s", name, out)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	drive := "file=" + disk + ",format=raw,if=ide,"
	for _, c := range [][]string{
		{"-device", "ide-drive"}, {"-device", "scsi-disk"}, {"-device", "ivshmem"}, {"-device", "rtl8139,vlan=0"}, {"-net", "nic,vlan=0"}, {"-net", "user,vlan=1"},
		{"-drive", drive + "addr=3"}, {"-drive", drive + "boot=on"}, {"-drive", drive + "cyls=1"}, {"-drive", drive + "heads=1"}, {"-drive", drive + "secs=1"},
		{"-drive", drive + "serial=x"}, {"-drive", drive + "trans=none"},
		{"-M", "pc-0.15"}, {"-machine", "pc-1.3"}, {"-M", "pc-i440fx-1.3"}, {"-machine", "type=pc-1.0"},
	} {
		if found, _ := Gone(c); len(found) != 1 {
			t.Errorf("%q: %q", c, found)
		}
		if out := require.QEMU(t, "quit\n", c...); !strings.Contains(out, require.Emulator+": ") {
			t.Errorf("%q is taken: %s", c, out)
		}
	}
	for _, c := range [][]string{{"--nodefaults"}, {"-device", "ide-cd"}, {"-drive", strings.TrimSuffix(drive, ",")}, {"-M", "pc-i440fx-2.4"}, {"-usbdevice", "tablet"}, {"-watchdog-action", "reset"}} {
		if found, _ := Gone(c); len(found) != 0 {
			t.Errorf("%q: %q", c, found)
		}
		if out := require.QEMU(t, "quit\n", c...); strings.Contains(out, require.Emulator+": -") {
			t.Errorf("%q is refused: %s", c, out)
		}
	}
}
