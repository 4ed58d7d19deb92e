//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/machinery"
)

// pairSite is a site with one machine, "vm", that is off, and its files.
func pairSite(t *testing.T) (s *site, vm MachineConfig) {
	t.Helper()
	snaps := realSnapshots(t)
	s = newSite(t)
	return s, *s.add("vm", snaps.disk, snaps.running)
}

// changeByte changes a byte of a file, and leaves its length as it is.
func changeByte(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// refused holds that the machine is not restored, because of this file, and that nothing is left of the try.
func refused(t *testing.T, s *site, m *Machinery, wants ...string) {
	t.Helper()
	err := m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrConfig)
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error should say %q: %v", want, err)
		}
	}
	s.clean()
}

// runs holds that the machine is restored, and stops it.
func runs(t *testing.T, m *Machinery) {
	t.Helper()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
}

func TestADiskThatChangedSinceTheDriverSawItIsRefusedByItsName(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	runs(t, m)
	original, err := os.ReadFile(vm.Disk)
	if err != nil {
		t.Fatal(err)
	}
	changeByte(t, vm.Disk, int64(len(original))-1)
	refused(t, s, m, vm.Disk+" has changed since the snapshot was made: it was written to at ", "touch "+vm.Snapshot)
	// A new snapshot for it makes a pair again.
	if err := os.WriteFile(vm.Disk, original, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, s, m, vm.Disk)
	if err := os.Chtimes(vm.Snapshot, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	runs(t, m)
	// Booting needs no snapshot, so that it may have changed.
	changeByte(t, vm.Disk, int64(len(original))-1)
	if err := m.NoRestoreStart(limit(t), "vm"); err != nil {
		t.Error(err)
	}
}

func TestADiskThatChangesWhileItsMachineRunsIsRefusedAtTheNextStart(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	changeByte(t, vm.Disk, 70000) // as a program does that knows nothing of QEMU's locks
	mustState(t, m, "vm", machinery.StateRunning, "")
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	refused(t, s, m, vm.Disk)
}

func TestAReplacedDiskIsRefusedThoughItsTimeIsTheSame(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	info, err := os.Stat(vm.Disk)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(vm.Disk)
	if err != nil {
		t.Fatal(err)
	}
	other := s.write("other", data)
	if err := os.Chtimes(other, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, vm.Disk); err != nil {
		t.Fatal(err)
	}
	refused(t, s, m, vm.Disk, "replaced by another file")
}

func TestWithAManifestAnyDriverNoticesAChange(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	path, err := m.SealSnapshot(limit(t), "vm")
	if err != nil || path != ManifestPath(vm.Snapshot) {
		t.Fatalf("%s, %v", path, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	_, err = m.SealSnapshot(limit(t), "vm")
	mustKind(t, err, machinery.ErrConfig)
	runs(t, m)

	// A copy is read through, and is right.
	if err := os.Chtimes(vm.Disk, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	runs(t, m)
	runs(t, s.open(machinery.Options{}))

	changeByte(t, vm.Disk, 70000)
	for range 2 { // by the driver that has seen it before, and by one that has not
		refused(t, s, m, vm.Disk+" has changed since the snapshot was made: its content is another than by the manifest "+path)
		m = s.open(machinery.Options{})
	}
	changeByte(t, vm.Disk, 70000)
	runs(t, m)
	if err := os.Truncate(vm.Disk, 5<<20); err != nil {
		t.Fatal(err)
	}
	refused(t, s, m, vm.Disk, "it has 5242880 bytes")
}

func TestASnapshotThatIsNotTheManifestsIsRefused(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	path, err := m.SealSnapshot(limit(t), "vm")
	if err != nil {
		t.Fatal(err)
	}
	changeByte(t, vm.Snapshot, 1<<16)
	refused(t, s, m, vm.Snapshot+" has changed")
	changeByte(t, vm.Snapshot, 1<<16)

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, problem string }{
		{strings.Replace(string(text), `"disk"`, `"../other"`, 1), "does not name " + vm.Disk},
		{"{", "is not one: unexpected EOF"},
	} {
		s.write("other", nil)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, s, m, path, c.problem)
	}
}

func TestOnlyAMachineAtRestIsSealed(t *testing.T) {
	s, vm := pairSite(t)
	m := s.open(machinery.Options{})
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	_, err := m.SealSnapshot(limit(t), "vm")
	mustKind(t, err, machinery.ErrUnexpectedState)
	_, err = s.open(machinery.Options{}).SealSnapshot(limit(t), "vm")
	mustKind(t, err, machinery.ErrUnexpectedState)
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = m.SealSnapshot(ctx, "vm")
	mustKind(t, err, machinery.ErrInterrupted)
	if found, _ := filepath.Glob(vm.Snapshot + ".*"); len(found) > 0 {
		t.Errorf("left: %q", found)
	}
	if found, _ := filepath.Glob(filepath.Dir(vm.Snapshot) + "/.*"); len(found) > 0 {
		t.Errorf("left: %q", found)
	}
}
