//go:build linux

package qemulab

import (
	"context"

	"github.com/machineries/machineries/conformance"
	"github.com/machineries/machineries/conformance/internal/labkit"
)

var _ conformance.ProcessViewer = (*bench)(nil)

// Descriptors implements conformance.ProcessViewer.
func (b *bench) Descriptors(_ context.Context, name string) ([]string, error) {
	return labkit.Descriptors(b.machines[name].socket)
}

// Environment implements conformance.ProcessViewer.
func (b *bench) Environment(_ context.Context, name string) ([]string, error) {
	return labkit.Environment(b.machines[name].socket)
}
