//go:build linux

package guest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/machineries/machineries/fakes/guest"
	"github.com/machineries/machineries/internal/require"
)

// chosen leaves out what a run need not show: with -short it is enough that the guest works on the first two
// machines, and the second KVM machine runs only on demand.
func (v variant) chosen(i int) bool {
	if require.Demanded(v.accel) {
		return true
	}
	return i < 2 || !testing.Short() && i != len(variants)-1
}

// Under nested KVM the BIOS needs 3 s for a boot, so there the whole table runs only on demand.
func TestRealGuest(t *testing.T) {
	for i, v := range variants {
		if !v.chosen(i) {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			for _, b := range behaviours {
				if v.console && b.name == answersEarlyName {
					continue
				}
				if v.accel == "kvm" && !b.core && !require.Demanded("kvm") {
					continue
				}
				t.Run(b.name, func(t *testing.T) {
					if v.accel == "tcg" {
						t.Parallel() // most of the time these wait; a boot under KVM needs a whole processor
					}
					b.run(t, newQEMU(v))
				})
			}
		})
	}
}

func TestRealGuestTellsThatTheDiskRefusesAWrite(t *testing.T) {
	_, c := boot(t, newQEMU(variant{accel: "tcg", machine: "q35", bus: "virtio", format: "raw", drive: ",readonly=on"}))
	ctx := within(t, answerTime)
	err := c.SetDisk(ctx, 0, 1)
	var status *StatusError
	if !errors.As(err, &status) || status.Status != guest.StatusDiskError {
		t.Errorf("SetDisk on a read-only disk: %v, want a disk error", err)
	}
	if v := get[uint32](t)(c.Disk(ctx, 0)); v != 0 {
		t.Errorf("the disk mark is %d, want 0", v)
	}
}

func TestRealGuestBootsFromTheSmallestDisk(t *testing.T) {
	for _, bus := range []string{"ide", "virtio"} {
		_, c := boot(t, newQEMU(variant{accel: "tcg", machine: "pc", bus: bus, format: "raw", size: 1}))
		keeps(t, c.Disk, c.SetDisk)
	}
}

func TestImageIsTheBuildOfItsSource(t *testing.T) {
	require.Tool(t, "nasm")
	built := filepath.Join(t.TempDir(), "guest.bin")
	if out, err := exec.Command("nasm", "-Werror", "-f", "bin", "-o", built, "guest.asm").CombinedOutput(); err != nil {
		t.Fatalf("nasm: %v: %s", err, out)
	}
	if b := get[[]byte](t)(os.ReadFile(built)); !bytes.Equal(b, code) {
		t.Error("guest.bin is not the build of guest.asm: nasm -f bin -o guest.bin guest.asm")
	}
}

// An idle guest may use a twentieth of a processor: a suite has several of them running at a time.
func TestIdleGuestCostsLittle(t *testing.T) {
	for i, v := range variants {
		if !v.chosen(i) || v.accel == "tcg" && i > 1 {
			continue // the machine types and the accelerators differ, the disks do not matter
		}
		t.Run(v.name, func(t *testing.T) {
			m, _ := boot(t, newQEMU(v))
			q := m.(*qemu)
			time.Sleep(200 * time.Millisecond) // what the boot has left behind
			before, began := q.cpu(t), time.Now()
			time.Sleep(2 * time.Second) // time is what is measured
			used, took := q.cpu(t)-before, time.Since(began)
			share := 100 * float64(used) / float64(took)
			t.Logf("an idle guest uses %.1f %% of a processor", share)
			if share > 5 {
				t.Errorf("an idle guest uses %.1f %% of a processor, want 5 %% at most", share)
			}
		})
	}
}
