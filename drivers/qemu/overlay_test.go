//go:build linux

package qemu

import (
	"os"
	"strings"
	"testing"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/machinery"
	"golang.org/x/sys/unix"
)

func TestADisposableDiskOfAnEarlierBootIsReplacedUnlessItIsInUse(t *testing.T) {
	snaps := realSnapshots(t)
	s := newSite(t)
	s.add("vm", snaps.disk, snaps.running)
	m := s.open(machinery.Options{})
	overlay := m.frame.Named("vm").overlays[0]
	if err := os.WriteFile(overlay, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(overlay, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// As a QEMU does that has the image open.
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	err = m.RestoreStart(limit(t), "vm")
	mustKind(t, err, machinery.ErrHypervisor)
	if !strings.Contains(err.Error(), overlay) {
		t.Errorf("%v does not name %s", err, overlay)
	}
	f.Close()
	if err := m.RestoreStart(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	if info, err := qcow2.Inspect(overlay); err != nil || info.Format != "qcow2" {
		t.Errorf("the disposable disk is %+v, %v", info, err)
	}
	if info, err := os.Stat(overlay); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if !disposable.InUse(overlay) {
		t.Error("QEMU's locks on the image are not seen")
	}
	if err := m.Stop(limit(t), "vm"); err != nil {
		t.Fatal(err)
	}
	s.clean()
}
