//go:build linux

package kvm

import (
	"strings"
	"testing"
)

// described is a snapshot as libvirt 9.0.0 describes it, with what differs put in.
func described(state, memory, disks, domainDisks string) string {
	return `<domainsnapshot><name>clean</name><state>` + state + `</state><memory snapshot='` + memory + `'/><disks>` + disks + `</disks>
<domain type='qemu'><name>win10</name><devices>` + domainDisks + `</devices></domain></domainsnapshot>`
}

const (
	sda      = `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/vms/a.qcow2'/><target dev='sda' bus='sata'/></disk>`
	sdb      = `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/vms/b.raw'/><target dev='sdb' bus='sata'/></disk>`
	inside   = `<disk name='sda' snapshot='internal'/>`
	external = `<disk name='sda' snapshot='external'/>`
)

func TestASnapshotThatDoesNotRestoreAllIsRefusedWithWhatToDo(t *testing.T) {
	for _, c := range []struct {
		what, xml, hypervisor string
		version               uint64
		want                  string // empty for one that is taken
	}{
		{"a whole one", described("running", "internal", inside, sda), "QEMU", 9_000_000, ""},
		{"one saved paused", described("paused", "internal", inside, sda), "QEMU", 9_000_000, ""},
		{"one of a machine that was off", described("shutoff", "no", inside, sda), "QEMU", 9_000_000, "would boot"},
		{"one of the disks alone", described("disk-snapshot", "no", external, sda), "QEMU", 10_000_000, "no memory"},
		{"one of a machine that crashed", described("crashed", "internal", inside, sda), "QEMU", 9_000_000, `"crashed"`},
		{"one without a disk", described("running", "internal", inside+`<disk name='sdb' snapshot='no'/>`, sda+sdb), "QEMU", 9_000_000, "sdb (/vms/b.raw)"},
		{"one that does not know a disk", described("running", "internal", inside, sda+sdb), "QEMU", 9_000_000, "sdb (/vms/b.raw)"},
		{"one without a disk that cannot be written", described("running", "internal", inside, sda+strings.Replace(sdb, "</disk>", "<readonly/></disk>", 1)), "QEMU", 9_000_000, ""},
		{"one without a disk that libvirt reverts", described("running", "internal", inside, sda+strings.Replace(sdb, "</disk>", "<transient/></disk>", 1)), "QEMU", 9_000_000, ""},
		{"one without a CD", described("running", "internal", inside, sda+strings.Replace(sdb, "device='disk'", "device='cdrom'", 1)), "QEMU", 9_000_000, ""},
		{"an external one on an old libvirt", described("running", "external", external, sda), "QEMU", 9_000_000, "9.9.0"},
		{"an external one on a new libvirt", described("running", "external", external, sda), "QEMU", 9_009_000, ""},
		{"one of the test driver", described("running", "", "", sda), "Test", 9_000_000, ""},
	} {
		var s snapshotXML
		if err := parseXML(c.xml, &s); err != nil {
			t.Fatal(err)
		}
		err := s.check(c.hypervisor, c.version)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s is refused: %v", c.what, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q in it", c.what, err, c.want)
		}
	}
}

func TestVersionsAreToldAsPeopleWriteThem(t *testing.T) {
	for v, want := range map[uint64]string{7_002_022: "7.2.22", 9_000_000: "9.0.0", 2: "0.0.2", 10_000_001: "10.0.1"} {
		if got := versionText(v); got != want {
			t.Errorf("%d is %s, want %s", v, got, want)
		}
	}
}
