//go:build linux

package qemulab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

// Inject implements conformance.Bench.
func (b *bench) Inject(ctx context.Context, name string, f conformance.Fault) error {
	m := b.machines[name]
	switch f.Kind {
	case conformance.FaultKill:
		return labkit.Signal(ctx, m.socket, syscall.SIGKILL)
	case conformance.FaultWedge, conformance.FaultSilent: // who answers is the machine's own process
		return labkit.Signal(ctx, m.socket, syscall.SIGSTOP)
	case conformance.FaultChangeDisk:
		return labkit.ChangeDisk(m.files["disk"])
	case conformance.FaultChangeSecondDisk:
		return labkit.ChangeDisk(m.files["second disk"])
	case conformance.FaultNoProgram:
		return os.Rename(b.install.Emulator, b.hiddenEmulator())
	case conformance.FaultStrangerPause:
		for _, p := range b.install.Alive() {
			if strings.Contains(strings.Join(p.Args, " "), m.socket) {
				_, err := p.Do(ctx, `{"execute": "stop"}`)
				return err
			}
		}
		return fmt.Errorf("no process of %q is there to be paused", name)
	}
	return fmt.Errorf("the fault %q cannot be made on a running machine", f.Kind)
}

// Heal implements conformance.Bench.
func (b *bench) Heal(_ context.Context, name string) error {
	m := b.machines[name]
	b.install.Clear(m.socket)
	if err := os.Rename(b.hiddenEmulator(), b.install.Emulator); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, p := range labkit.Processes(m.socket) {
		if err := labkit.Kill(p, syscall.SIGCONT); err != nil {
			return err
		}
	}
	return nil
}

// hiddenEmulator is where the emulator is while it is not there.
func (b *bench) hiddenEmulator() string { return b.install.Emulator + ".away" }

// damage spoils a machine's files.
func damage(files map[string]string, d conformance.Damage) error {
	switch d {
	case conformance.Undamaged, conformance.SnapshotForeign, conformance.Dangerous:
		return nil
	case conformance.SnapshotMissing:
		return os.Remove(files["snapshot"])
	case conformance.DiskMissing:
		return os.Remove(files["disk"])
	case conformance.SnapshotEmpty:
		return os.Truncate(files["snapshot"], 0)
	case conformance.SnapshotTruncated:
		return labkit.Truncate(files["snapshot"], 0.5)
	case conformance.SnapshotGarbage:
		return labkit.Scribble(files["snapshot"], 64)
	case conformance.DiskGarbage:
		return labkit.Scribble(files["disk"], 0)
	}
	return fmt.Errorf("the lab cannot make the damage %q", d)
}
