//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/disposable"
	"github.com/machineries/machineries/drivers/internal/fault"
	"github.com/machineries/machineries/drivers/internal/outfile"
	"github.com/machineries/machineries/drivers/internal/process"
	"github.com/machineries/machineries/machinery"
)

// OpSealSnapshot is SealSnapshot in errors and logs. It is an operation of this driver alone.
const OpSealSnapshot = machinery.Op("seal_snapshot")

// SealSnapshot says that a machine's snapshot and its disk belong together as they are: it writes a [Manifest] beside the snapshot,
// from which on a change of either is noticed by every restore. It reads both through, and returns the manifest's path. It is for
// machines that SaveSnapshot did not make.
//
// Errors: ErrUnexpectedState if the machine is not off; ErrConfig if there is a manifest already, the machine cannot be used, or
// there is no room or right to write there; ErrHypervisor if something writes to its disk; ErrInterrupted if ctx ends.
func (d *Machinery) SealSnapshot(ctx context.Context, name string) (path string, err error) {
	err = d.frame.Operate(ctx, OpSealSnapshot, name, func(v *vm, ctx context.Context) error {
		path, err = v.seal(ctx)
		return err
	})
	return path, err
}

// seal is SealSnapshot for whoever has the turn.
func (v *vm) seal(ctx context.Context) (string, error) {
	const op = OpSealSnapshot
	if problem := v.problem(); problem != nil {
		return "", fault.Fail(op, v.machine.Name, v.badKind, problem, "the machine cannot be used")
	}
	if err := v.notOff(ctx, op); err != nil {
		return "", err
	}
	for _, disk := range v.disks() {
		if err := disposable.RefuseWritten(disk); err != nil {
			return "", fault.Fail(op, v.machine.Name, machinery.ErrHypervisor, err, "the machine's disk cannot be taken for what its snapshot belongs to")
		}
	}
	path := ManifestPath(v.conf.Snapshot)
	if _, err := os.Lstat(path); err == nil {
		return "", fault.Fail(op, v.machine.Name, machinery.ErrConfig, nil, "the snapshot is sealed already: there is %s; to seal the files as they are now, remove that first", path)
	}
	if err := v.writeSeal(ctx, path); err != nil {
		if ctx.Err() != nil {
			return "", fault.Interrupted(op, v.machine.Name, ctx, "reading the machine's files")
		}
		return "", fault.Fail(op, v.machine.Name, machinery.ErrConfig, err, "no manifest can be written for the snapshot")
	}
	return path, nil
}

// writeSeal writes the manifest: whole, or not at all.
func (v *vm) writeSeal(ctx context.Context, path string) error {
	file, err := outfile.New(path)
	if err != nil {
		return err
	}
	m, err := newManifest(ctx, filepath.Dir(path), append([]string{v.conf.Snapshot}, imagesBelow(v.disks())...))
	var data []byte
	if err == nil {
		m.Arguments = process.Digest(v.args.args)
		data, err = m.text()
	}
	if err == nil {
		_, err = file.File.Write(data)
	}
	if err == nil {
		err = file.Sync(ctx)
	}
	if err == nil {
		err = file.Publish()
	}
	if err != nil {
		file.Drop()
	}
	return err
}
