//go:build linux

package qemulab

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

// Power implements conformance.Bench.
func (b *bench) Power(_ context.Context, name string) (conformance.Power, error) {
	return labkit.PowerOf(b.machines[name].socket), nil
}

// Leftovers implements conformance.Bench.
func (b *bench) Leftovers(context.Context) ([]string, error) {
	var left []string
	// Lets the installation give up what it holds of emulators that have ended.
	b.install.Alive()
	for _, p := range labkit.Processes(b.dir) {
		left = append(left, fmt.Sprintf("process %d: %.200s", p.PID, p.Args))
	}
	left = append(left, labkit.Zombies()...)
	for _, dir := range []string{b.overlays(), b.RuntimeDir()} {
		files, err := labkit.Below(dir)
		if err != nil {
			return nil, err
		}
		left = append(left, files...)
	}
	strange, err := b.strangers()
	return append(left, strange...), err
}

// strangers lists what lies beside the bench's own files: something that the
// driver put next to a disk or a snapshot.
func (b *bench) strangers() ([]string, error) {
	own := map[string]bool{b.ConfigPath(): true, b.binDir(): true, b.overlays(): true, b.RuntimeDir(): true}
	dirs := []string{b.dir}
	for _, m := range b.machines {
		own[m.socket] = true
		if m.network != nil {
			own[m.network.path] = true
		}
		dir := filepath.Dir(m.files["disk"])
		own[dir] = true
		dirs = append(dirs, dir)
		for _, path := range m.files {
			own[path] = true
		}
	}
	return labkit.Strangers(own, dirs...)
}

// Sweep implements conformance.Lab.
func (l *Lab) Sweep(ctx context.Context, dir string) error {
	return labkit.EndAll(ctx, dir+string(filepath.Separator))
}
