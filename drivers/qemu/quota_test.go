//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/internal/require"
	"github.com/machineries/machineries/machinery"
)

// writerDisk is a disk of 64 MiB whose boot sector writes one sector in each 64 KiB, for ever: with interrupts on, an extended write
// (int 13h, ah=43h) of the sector at lba; add lba, 128; again.
func writerDisk() []byte {
	disk := make([]byte, 64<<20)
	copy(disk, []byte{
		0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0xbe,
		0x20, 0x7c, 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13, 0x66, 0x81, 0x06,
		0x28, 0x7c, 0x80, 0x00, 0x00, 0x00, 0xeb, 0xeb, 0x10, 0x00, 0x01, 0x00,
		0x00, 0x7e, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	})
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

// awaitReason waits until the machine's state has the reason.
func awaitReason(t testing.TB, m machinery.Machinery, name, reason string) machinery.Status {
	t.Helper()
	ctx, cancel := context.WithCancel(limit(t))
	defer cancel()
	events, err := m.(machinery.Watcher).Watch(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	var last machinery.Status
	for e := range events {
		if last = e.Status; last.Reason == reason {
			return last
		}
	}
	t.Fatalf("the machine is %s, and not %q in time", last, reason)
	return last
}

func TestAGuestThatWritesMoreThanTheQuotaIsPausedAndIsAnError(t *testing.T) {
	snaps := realSnapshots(t)
	const quota = 4 << 20
	s := newSite(t)
	s.config.FileQuota = quota
	s.add("vm", writerDisk(), snaps.running)
	m := s.open(machinery.Options{})
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	status := awaitReason(t, m, "vm", reasonQuota)
	if status.State != machinery.StateError || !strings.Contains(status.Detail, "file_quota") {
		t.Errorf("the state is %s: %s", status, status.Detail)
	}
	info, err := os.Stat(m.frame.Named("vm").overlays[0])
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > quota || info.Size() < quota/2 {
		t.Errorf("the disposable disk has %d bytes, with a quota of %d", info.Size(), quota)
	}
	// Another driver sees the same, and what stands still can be looked into, though its dump is longer than the quota.
	other := s.open(machinery.Options{})
	mustState(t, other, "vm", machinery.StateError, reasonQuota)
	dump := filepath.Join(s.dir, "dump")
	if err := m.DumpMemory(limit(t), "vm", dump); err != nil {
		t.Fatalf("the memory cannot be dumped: %v", err)
	}
	if info, err := os.Stat(dump); err != nil || info.Size() < 16<<20 {
		t.Errorf("the dump has %d bytes, %v", info.Size(), err)
	}
	mustState(t, m, "vm", machinery.StateError, reasonQuota)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	mustState(t, other, "vm", machinery.StateError, reasonQuota)
	if err := other.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	mustState(t, other, "vm", machinery.StatePoweroff, "")
	s.clean()
}

// The guest writes to its serial port for ever: mov dx, 0x3f8; mov al, 'A'; out dx, al; jmp.
func TestTheLogOfASerialPortDoesNotBecomeLongerThanTheQuota(t *testing.T) {
	snaps := realSnapshots(t)
	const quota = 1 << 20
	s := newSite(t)
	s.config.FileQuota = quota
	log := filepath.Join(s.dir, "serial.log")
	disk := make([]byte, 1<<20)
	copy(disk, []byte{0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xeb, 0xfd})
	disk[510], disk[511] = 0x55, 0xaa
	s.add("vm", disk, snaps.running, machineArgs("-serial", "file:"+log)...).AllowArguments = []string{"-serial file"}
	m := s.open(machinery.Options{})
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(log)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for ctx := limit(t); size() < quota; {
		select {
		case <-ctx.Done():
			t.Fatalf("the log has %d bytes and does not come to its quota", size())
		case <-time.After(10 * time.Millisecond): // a file that grows tells nobody
		}
	}
	// The guest writes on meanwhile.
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if size() != quota {
		t.Errorf("the log has %d bytes, with a quota of %d", size(), quota)
	}
}

func TestWithoutAQuotaADiskGrowsToTheSizeOfTheGuestsDisk(t *testing.T) {
	require.Tool(t, "qemu", "qemu-system-x86_64")
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", writerDisk(), snaps.running)
	m := s.open(machinery.Options{})
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	overlay := m.frame.Named("vm").overlays[0]
	var size int64
	for ctx := limit(t); size < 64<<20; {
		select {
		case <-ctx.Done():
			t.Fatalf("the disposable disk has %d bytes and grows no more", size)
		case <-time.After(10 * time.Millisecond): // as above
		}
		info, err := os.Stat(overlay)
		if err != nil {
			t.Fatal(err)
		}
		size = info.Size()
	}
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	_, err := qcow2.Inspect(s.config.Machines[0].Disk)
	if err != nil {
		t.Error(err)
	}
}
