//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/hostfile"
	"github.com/machineries/machineries/internal/qcow2"
	"github.com/machineries/machineries/machinery"
)

// bases is what a driver has seen of the images that a machine's snapshot belongs to. A snapshot fits them only as they were when
// it was made: what the guest has of its disks in memory would be wrong else, and destroy its file systems.
//
// With a manifest beside the snapshot every change since is noticed. Without one, those since this driver first saw the files: a
// change from before that cannot be told from a copy. A snapshot that has changed as well is taken for the one that belongs to the
// images as they are, as when a machine is made anew while the driver runs; so touching it ends the complaint about an image that was
// put back right.
type bases struct {
	mu sync.Mutex
	// snapshot and images are the files as they were when they were taken for a pair; images is nil before.
	snapshot hostfile.Identity
	images   map[string]hostfile.Identity
	// summed are files whose content was compared with the manifest's.
	summed map[string]hostfile.Identity
}

// changedError says that a file is not what the machine's snapshot belongs to.
type changedError struct {
	path, problem, advice string
}

func (e *changedError) Error() string {
	return fmt.Sprintf("%s has changed since the snapshot was made: %s; %s", e.path, e.problem, e.advice)
}

// imagesBelow are the files that a machine's disks are read from: each disk, and what it is based on.
func imagesBelow(disks []string) []string {
	var paths []string
	for _, disk := range disks {
		chain, _ := qcow2.Chain(disk) // what cannot be read of it QEMU says better
		for _, image := range chain {
			if !slices.Contains(paths, image.Path) {
				paths = append(paths, image.Path)
			}
		}
	}
	return paths
}

// see notes the files for the first time.
func (b *bases) see(snapshot string, disks []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.images == nil {
		_ = b.takePair(snapshot, disks)
	}
}

// takePair takes the files for a pair, as they are. The caller holds mu.
func (b *bases) takePair(snapshot string, disks []string) error {
	info, err := os.Stat(snapshot)
	if err != nil {
		return err
	}
	images := make(map[string]hostfile.Identity)
	for _, path := range imagesBelow(disks) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		images[path] = hostfile.IdentityOf(info)
	}
	b.snapshot, b.images = hostfile.IdentityOf(info), images
	return nil
}

// check refuses images that are not those of the snapshot. Files whose time differs from the manifest's are read through, for as
// long as ctx lets it, once for each content.
func (b *bases) check(ctx context.Context, snapshot string, disks []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := manifestOf(snapshot)
	if err != nil {
		return err
	}
	if m != nil {
		return b.compare(ctx, m, snapshot, disks)
	}
	info, err := os.Stat(snapshot)
	if err != nil {
		return err
	}
	if b.images == nil || hostfile.IdentityOf(info) != b.snapshot {
		return b.takePair(snapshot, disks)
	}
	for path, seen := range b.images {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if now := hostfile.IdentityOf(info); now != seen {
			return &changedError{path, seen.ChangeTo(now), fmt.Sprintf(
				"put the right one back, or make the snapshot anew; if they do belong together, touch %s", snapshot)}
		}
	}
	return nil
}

// compare compares the files with the manifest. The caller holds mu.
func (b *bases) compare(ctx context.Context, m *Manifest, snapshot string, disks []string) error {
	images := imagesBelow(disks)
	for _, path := range append([]string{snapshot}, images...) {
		if !slices.ContainsFunc(m.Files, func(f ManifestFile) bool { return sameFile(f.Path, path) }) {
			return fmt.Errorf("the manifest %s does not name %s, so that the snapshot belongs to another disk", ManifestPath(snapshot), path)
		}
	}
	for _, file := range m.Files {
		if err := b.compareFile(ctx, file, ManifestPath(snapshot)); err != nil {
			return err
		}
	}
	return nil
}

// compareFile compares a file with what the manifest says of it.
func (b *bases) compareFile(ctx context.Context, file ManifestFile, manifest string) error {
	changed := func(format string, args ...any) error {
		return &changedError{file.Path, fmt.Sprintf(format, args...), "put the right one back, or make the snapshot anew"}
	}
	info, err := os.Stat(file.Path)
	if err != nil {
		return err
	}
	id := hostfile.IdentityOf(info)
	switch {
	case info.Size() != file.Size:
		return changed("it has %d bytes, and had %d by the manifest %s", info.Size(), file.Size, manifest)
	case info.ModTime().Equal(file.Modified) || b.summed[file.Path] == id:
		return nil
	}
	// A copy has another time.
	found, err := sumOf(ctx, file.Path)
	if err != nil {
		return err
	}
	if found.SHA256 != file.SHA256 {
		return changed("its content is another than by the manifest %s", manifest)
	}
	if b.summed == nil {
		b.summed = make(map[string]hostfile.Identity)
	}
	b.summed[file.Path] = id
	return nil
}

// sameFile is whether two paths lead to one file.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// disks are the files that the machine's overlays go above: its disk, then its other media.
func (v *vm) disks() []string {
	paths := []string{v.conf.Disk}
	for _, m := range v.media() {
		paths = append(paths, m.path)
	}
	return paths
}

// CheckSnapshot is whether a machine's disks are what its snapshot was made with, as a restore would find: of a machine with a
// manifest beside its snapshot, that nothing has changed since; of one without, that nothing has since this driver first saw its files.
// Files whose time is not the manifest's are read through, which takes as long as copying them. It changes nothing, and needs no turn.
//
// Errors: ErrConfig if the files do not belong together or the machine cannot be used; ErrInterrupted if ctx ends.
func (d *Machinery) CheckSnapshot(ctx context.Context, name string) error {
	const op = OpCheckSnapshot
	v, err := d.frame.Lookup(ctx, op, name)
	if err != nil {
		return err
	}
	if problem := v.problem(); problem != nil {
		return fault.Fail(op, name, v.badKind, problem, "the machine cannot be used")
	}
	if err := v.checkBases(ctx); err != nil {
		if ctx.Err() != nil {
			return fault.Interrupted(op, name, ctx, "comparing the machine's files with their manifest")
		}
		return fault.Fail(op, name, machinery.ErrConfig, err, "the machine cannot be restored")
	}
	return nil
}

// OpCheckSnapshot is CheckSnapshot in errors and logs. It is an operation of this driver alone.
const OpCheckSnapshot = machinery.Op("check_snapshot")

// checkBases refuses a restore from files that do not belong together any more.
func (v *vm) checkBases(ctx context.Context) error {
	began := time.Now()
	err := v.bases.check(ctx, v.conf.Snapshot, v.disks())
	if took := time.Since(began); took > time.Second {
		v.log.Info("compared the machine's files with their manifest: their times are not the same", "duration", took)
	}
	if ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return err
}
