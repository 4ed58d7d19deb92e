//go:build linux

package libvirtlab

import (
	"context"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

var (
	_ conformance.DumpReader    = (*bench)(nil)
	_ conformance.ProcessViewer = (*bench)(nil)
)

// Dumped implements conformance.DumpReader.
func (b *bench) Dumped(_ context.Context, _, path string, slot int) (uint32, error) {
	return labkit.Dumped(path, slot)
}

// Descriptors implements conformance.ProcessViewer.
func (b *bench) Descriptors(_ context.Context, name string) ([]string, error) {
	return labkit.Descriptors(b.machines[name].domain.Serial)
}

// Environment implements conformance.ProcessViewer.
func (b *bench) Environment(_ context.Context, name string) ([]string, error) {
	return labkit.Environment(b.machines[name].domain.Serial)
}
