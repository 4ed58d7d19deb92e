package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/machineries/machineries/fakes/guest"
)

// marked is a machine that runs with a mark in memory and one on the disk.
func marked(t *testing.T, memory, disk uint32) (*Server, *Domain) {
	t.Helper()
	s, d := started(t, Options{}, "a")
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	mark(t, d, memory, disk)
	return s, d
}

func mark(t *testing.T, d *Domain, memory, disk uint32) {
	t.Helper()
	await(t, "the guest has booted", func() bool { return d.Guest().Info().Booted })
	d.Guest().SetMemory(0, memory)
	if err := guest.WriteDiskMark(d.disks[0], 0, disk); err != nil {
		t.Fatal(err)
	}
}

func wantMarks(t *testing.T, what string, d *Domain, memory, disk uint32) {
	t.Helper()
	got, err := guest.ReadDiskMark(d.disks[0], 0)
	if m := d.Guest().Memory(0); m != memory || got != disk || err != nil {
		t.Errorf("%s: memory %d, disk %d (%v), want %d and %d", what, m, got, err, memory, disk)
	}
}

func TestRevertBringsBackMemoryAndDisk(t *testing.T) {
	_, d := marked(t, 1, 2)
	if err := d.TakeSnapshot("running"); err != nil {
		t.Fatal(err)
	}
	mark(t, d, 3, 4)
	if err := d.Suspend(); err != nil {
		t.Fatal(err)
	}
	if err := d.TakeSnapshot("paused"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"running", "paused", "running", "paused"} {
		if err := d.Revert(name); err != nil {
			t.Fatal(err)
		}
		if name == "running" {
			wantState(t, name, d, stateRunning, runningFromSnapshot)
			wantMarks(t, name, d, 1, 2)
		} else {
			wantState(t, name, d, statePaused, pausedFromSnapshot)
			wantMarks(t, name, d, 3, 4)
		}
		d.Guest().SetMemory(0, 99)
	}
}

func TestASnapshotGoesWithACopyOfItsDisk(t *testing.T) {
	s, d := marked(t, 5, 6)
	if err := d.TakeSnapshot("clean"); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	b, err := c.call("DomainSnapshotGetXMLDesc", golibvirt.DomainSnapshotGetXMLDescArgs{Snap: golibvirt.DomainSnapshot{Name: "clean", Dom: d.ref()}})
	var described golibvirt.DomainSnapshotGetXMLDescRet
	if err == nil {
		err = decodeXDR(b, &described)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
	old := diskElements(d.def)[0].child("source").attr("file")
	copied := filepath.Join(t.TempDir(), "copy.qcow2")
	image, err := os.ReadFile(old)
	if err == nil {
		err = os.WriteFile(copied, image, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	change := strings.NewReplacer(old, copied, "<name>a</name>", "<name>b</name>", d.UUID(), "01234567-89ab-4def-8123-456789abcdef")
	other, err := s.Define(change.Replace(d.XML(true)))
	if err != nil {
		t.Fatal(err)
	}
	create := golibvirt.DomainSnapshotCreateXMLArgs{Dom: other.ref(), XMLDesc: change.Replace(described.XML), Flags: createRedefine | createCurrent}
	if _, err := c.call("DomainSnapshotCreateXML", create); err != nil {
		t.Fatal(err)
	}
	if err := other.Revert("clean"); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, "the copy", other, 5, 6)
	if d.Running() {
		t.Error("the first machine runs")
	}
	// One that is not in the image is found out when it is reverted to.
	create.XMLDesc = strings.Replace(create.XMLDesc, "<name>clean</name>", "<name>other</name>", 1)
	if _, err := c.call("DomainSnapshotCreateXML", create); err != nil {
		t.Fatal(err)
	}
	err = other.Revert("other")
	wantError(t, "missing in the image", err, codeInternal, fromQEMU,
		"internal error: process exited while connecting to monitor: Error: Device 'libvirt-1-format' does not have the requested snapshot 'other'")
	if other.Running() {
		t.Error("a revert that failed left the machine on")
	}
}

func TestAMemoryImageIsRestoredAboveOtherDisks(t *testing.T) {
	s, d := marked(t, 7, 8)
	c := dial(t, s)
	image := filepath.Join(t.TempDir(), "image")
	if _, err := c.call("DomainSaveFlags", golibvirt.DomainSaveFlagsArgs{Dom: d.ref(), To: image, Flags: savePaused}); err != nil {
		t.Fatal(err)
	}
	wantState(t, "saved", d, stateOff, offSaved)
	other := filepath.Join(t.TempDir(), "other.qcow2")
	if err := makeDisk(other); err != nil {
		t.Fatal(err)
	}
	old := diskElements(d.def)[0].child("source").attr("file")
	changed := strings.Replace(d.XML(true), old, other, 1)
	restore := golibvirt.DomainRestoreFlagsArgs{From: image, Dxml: golibvirt.OptString{changed}}
	if _, err := c.call("DomainRestoreFlags", restore); err != nil {
		t.Fatal(err)
	}
	wantState(t, "restored", d, statePaused, pausedMigration)
	wantMarks(t, "restored", d, 7, 0)
	if live := d.XML(false); !strings.Contains(live, other) || strings.Contains(d.XML(true), other) {
		t.Error("the other disk is not in the run alone")
	}
	if err := d.Destroy(); err != nil {
		t.Fatal(err)
	}
	restore.Dxml[0] = strings.Replace(changed, "<memory unit='KiB'>16384", "<memory unit='KiB'>32768", 1)
	_, err := c.call("DomainRestoreFlags", restore)
	wantError(t, "with more memory", err, codeConfig, fromDomain, "unsupported configuration: Target domain max memory 32768 does not match source 16384")
}

func TestWhatCannotBeSnapshotIsRefused(t *testing.T) {
	s, d := started(t, Options{}, "a")
	raw, err := s.Define(strings.NewReplacer("<name>a</name>", "<name>raw</name>", d.UUID(), "01234567-89ab-4def-8123-456789abcdef", "type='qcow2'", "type='raw'").Replace(d.XML(true)))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "raw", raw.TakeSnapshot("x"), codeConfig, fromQEMU, "unsupported configuration: internal snapshot for disk vda unsupported for storage type raw")
	bare, err := s.Define("<domain type='qemu'><name>bare</name><memory>16384</memory><os><type>hvm</type></os></domain>")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "bare and off", bare.TakeSnapshot("x"), codeConfig, fromQEMU, "unsupported configuration: nothing selected for snapshot")
	if err := bare.Start(); err != nil {
		t.Fatal(err)
	}
	wantError(t, "bare", bare.TakeSnapshot("x"), codeConfig, fromQEMU, "unsupported configuration: internal and full system snapshots require all disks to be selected for snapshot")
	wantState(t, "bare", bare, stateRunning, runningBooted)
}
