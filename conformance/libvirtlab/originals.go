//go:build linux

package libvirtlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/internal/qcow2"
)

// Originals implements conformance.Bench. With a snapshot that lies in the disk,
// the rest of the disk is what the machine's last run wrote: it is the snapshot
// that must not change. With a memory image, the disk that belongs to it must not.
func (b *bench) Originals(_ context.Context, name string) (map[string]string, error) {
	m := b.machines[name]
	sums := make(map[string]string)
	for what, path := range m.files {
		var err error
		switch {
		case what == "snapshot" || m.saved == nil:
			// A name, or the memory image once more.
		case what == "memory image" || m.files["memory image"] != "":
			sums[what], err = sumOf(path)
		default:
			err = sumSnapshots(sums, what, path)
		}
		if errors.Is(err, os.ErrNotExist) {
			sums[what] = "missing"
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// sumOf is the checksum of a file.
func sumOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// sumSnapshots adds the checksums of the snapshots in a disk.
func sumSnapshots(sums map[string]string, what, path string) error {
	all, err := qcow2.Snapshots(path)
	for _, s := range all {
		sums[fmt.Sprintf("snapshot %s in the %s", s.Name, what)] = fmt.Sprintf("%s with %d bytes of the machine", s.Sum, s.VMStateSize)
	}
	return err
}

// offered is what the lab can do with guests.
var offered = map[conformance.Feature]bool{
	conformance.FeaturePower:       true,
	conformance.FeatureGuest:       true,
	conformance.FeatureSavedPaused: true,
	conformance.FeatureKinds:       true,
	conformance.FeatureDamage:      true,
	conformance.FeatureLeftovers:   true,
	conformance.FeatureDump:        true,
	conformance.FeatureDisplay:     true,
	conformance.FeatureSecondDisk:  true,
	conformance.FeatureProcess:     true,
	conformance.FeatureNetwork:     true,

	conformance.FaultFeature(conformance.FaultKill):          true,
	conformance.FaultFeature(conformance.FaultWedge):         true,
	conformance.FaultFeature(conformance.FaultSilent):        true,
	conformance.FaultFeature(conformance.FaultStrangerPause): true,
	conformance.FaultFeature(conformance.FaultSlowStart):     true,
	conformance.FaultFeature(conformance.FaultRefuseStart):   true,
	conformance.FaultFeature(conformance.FaultNeverReady):    true,
	conformance.FaultFeature(conformance.FaultNoise):         true,
	conformance.FaultFeature(conformance.FaultRefuseResume):  true,
	conformance.FaultFeature(conformance.FaultRefuseQuit):    true,
	conformance.FaultFeature(conformance.FaultRefuseDump):    true,
	conformance.FaultFeature(conformance.FaultSlowDump):      true,
	conformance.FaultFeature(conformance.FaultNoProgram):     true,
	conformance.FaultFeature(conformance.FaultRestart):       true,
	conformance.FaultFeature(conformance.FaultGone):          true,
	// Of machines whose snapshot is a memory image; see bench.machine.
	conformance.FaultFeature(conformance.FaultChangeDisk):       true,
	conformance.FaultFeature(conformance.FaultChangeSecondDisk): true,
}

// offeredFake is what it can do with the fake libvirtd alone.
var offeredFake = map[conformance.Feature]bool{
	conformance.FaultFeature(conformance.FaultLocked): true,
}

// offeredTest is what it can do with libvirt's test driver.
// A restart of the daemon would make its machines anew.
var offeredTest = map[conformance.Feature]bool{
	conformance.FeaturePower:       true,
	conformance.FeatureSavedPaused: true,
	conformance.FeatureLeftovers:   true,

	conformance.FaultFeature(conformance.FaultSilent):        true,
	conformance.FaultFeature(conformance.FaultStrangerPause): true,
}

// exempt is what machines of libvirt with a snapshot in their disk do not have.
var exempt = map[conformance.Feature]string{
	conformance.FeatureDangerous: "who may define a domain of libvirt's decides what the host lets it do; it is not the configuration's affair",
}

// lackingFake are the reasons for what the lab offers with QEMU, and not with the
// fake libvirtd.
var lackingFake = map[conformance.Feature]string{
	conformance.FeatureProcess:                       "the machines of the fake libvirtd are in its own process, and what a QEMU has is its daemon's doing, to be seen with a real one",
	conformance.FaultFeature(conformance.FaultNoise): "the machines of the fake libvirtd print nothing, and what a QEMU prints its daemon reads, to be seen with a real one",
}

// Exempt implements conformance.Exempter.
func (l *Lab) Exempt(f conformance.Feature) string { return exempt[f] }

// Offers implements conformance.Lab.
func (l *Lab) Offers(f conformance.Feature) (bool, string) {
	if reason := lackingFake[f]; l.fake() && reason != "" {
		return false, reason
	}
	if l.driver == driverTest {
		return offeredTest[f], "the machines of libvirt's test driver are names with a state: no guest, no process, no file"
	}
	if offered[f] || l.fake() && offeredFake[f] {
		return true, ""
	}
	if f == conformance.FaultFeature(conformance.FaultLocked) {
		return false, "a real libvirtd gives nobody its locks"
	}
	return false, "the libvirt lab does not know it"
}
