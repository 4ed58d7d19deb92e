//go:build linux

package qemulab

import (
	"context"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

var _ conformance.DumpReader = (*bench)(nil)

// Dumped implements conformance.DumpReader.
func (b *bench) Dumped(_ context.Context, _, path string, slot int) (uint32, error) {
	return labkit.Dumped(path, slot)
}
