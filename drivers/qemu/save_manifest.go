//go:build linux

package qemu

import (
	"context"
	"os"
	"path/filepath"

	"github.com/machineries/machineries/drivers/internal/process"
)

// writeManifest writes the manifest of what is saved, and returns its name.
func (s *saving) writeManifest(ctx context.Context) (string, error) {
	m, err := newManifest(ctx, s.part, []string{filepath.Join(s.part, savedDisk), filepath.Join(s.part, s.snapshotName())})
	if err != nil {
		return "", err
	}
	m.Hypervisor, m.Arguments = "QEMU "+s.version, process.Digest(s.v.args.args)
	data, err := m.text()
	if err != nil {
		return "", err
	}
	name := ManifestPath(s.snapshotName())
	return name, os.WriteFile(filepath.Join(s.part, name), data, 0o600)
}
