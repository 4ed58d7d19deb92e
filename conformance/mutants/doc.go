//go:build linux

// Package mutants has broken drivers: a reference driver, mostly QEMU's, with one
// mistake each. They prove that the conformance suite notices what it says it notices.
//
// Each mutant names the requirements that it breaks. A test runs it against
// those and holds that they fail, and another that every requirement has a
// mutant. The mistakes are ones that drivers have been seen to make.
package mutants

import (
	"context"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// Mutant is a driver with a mistake.
type Mutant struct {
	// Name says the mistake in a few words.
	Name string
	// Breaks are the ids of requirements that must fail for it.
	Breaks []string
	// Daemon is set for a mutant of the KVM driver, which needs a lab with libvirt.
	Daemon bool
	// Driver is the driver.
	Driver machinery.Driver
}

// All returns every mutant.
func All() []Mutant {
	var all []Mutant
	for _, area := range [][]Mutant{loadMutants(), stateMutants(), restoreMutants(), failMutants(), stopMutants(), pausedMutants(),
		mediaMutants(), bootMutants(), acpiMutants(), dumpMutants(), screenshotMutants(), captureMutants(), hostMutants(), watchMutants(), errorMutants(), queueMutants(), ownerMutants(), daemonMutants(), hardeningMutants(), cleanMutants(), configMutants()} {
		all = append(all, area...)
	}
	return all
}

// wrap is a mutant that changes operations: make puts the mistake around the
// reference driver.
func wrap(name string, make func(inner *qemu.Machinery) machinery.Machinery, breaks ...string) Mutant {
	return rewire(name, nil, func(inner *qemu.Machinery, _ qemu.Config) machinery.Machinery { return make(inner) }, breaks...)
}

// rewire is a mutant that changes its configuration, its operations, or both.
func rewire(name string, change func(c *qemu.Config, o *machinery.Options) error, make func(inner *qemu.Machinery, c qemu.Config) machinery.Machinery, breaks ...string) Mutant {
	d := qemu.Driver()
	d.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		c := qemu.FromDocument(doc)
		if change != nil {
			if err := change(&c, &o); err != nil {
				return nil, err
			}
		}
		inner, err := qemu.New(ctx, c, o)
		if err != nil || make == nil {
			return inner, err
		}
		return make(inner, c), nil
	}
	return Mutant{Name: name, Breaks: breaks, Driver: d}
}

// unchanged is a mutant whose operations are the reference driver's; its author
// changes the rest.
func unchanged(name string, breaks ...string) Mutant { return rewire(name, nil, nil, breaks...) }

// machine finds a machine's configuration.
func machine(c qemu.Config, name string) qemu.MachineConfig {
	for _, m := range c.Machines {
		if m.Name == name {
			return m
		}
	}
	return qemu.MachineConfig{}
}

// broken is the reference driver with some operations replaced. A nil function
// leaves the operation as it is.
type broken struct {
	*qemu.Machinery
	machines       func() []machinery.Machine
	restoreStart   func(ctx context.Context, name string) error
	stop           func(ctx context.Context, name string) error
	state          func(ctx context.Context, name string) (machinery.Status, error)
	handlePaused   func(ctx context.Context, name string) error
	noRestoreStart func(ctx context.Context, name string) error
	acpiStop       func(ctx context.Context, name string) error
	dumpMemory     func(ctx context.Context, name, path string) error
	screenshot     func(ctx context.Context, name string) ([]byte, error)
	version        func(ctx context.Context) (string, error)
	dependencies   func(ctx context.Context) error
	startCapture   func(ctx context.Context, name string, c machinery.Capture) error
	stopCapture    func(ctx context.Context, name string) error
	watch          func(ctx context.Context, name string) (<-chan machinery.Event, error)
	shutdown       func(ctx context.Context) error
	close          func() error
}

func (b *broken) Machines() []machinery.Machine {
	if b.machines != nil {
		return b.machines()
	}
	return b.Machinery.Machines()
}

func (b *broken) RestoreStart(ctx context.Context, name string) error {
	if b.restoreStart != nil {
		return b.restoreStart(ctx, name)
	}
	return b.Machinery.RestoreStart(ctx, name)
}

func (b *broken) Stop(ctx context.Context, name string) error {
	if b.stop != nil {
		return b.stop(ctx, name)
	}
	return b.Machinery.Stop(ctx, name)
}

func (b *broken) State(ctx context.Context, name string) (machinery.Status, error) {
	if b.state != nil {
		return b.state(ctx, name)
	}
	return b.Machinery.State(ctx, name)
}

func (b *broken) HandlePaused(ctx context.Context, name string) error {
	if b.handlePaused != nil {
		return b.handlePaused(ctx, name)
	}
	return b.Machinery.HandlePaused(ctx, name)
}

func (b *broken) Shutdown(ctx context.Context) error {
	if b.shutdown != nil {
		return b.shutdown(ctx)
	}
	return b.Machinery.Shutdown(ctx)
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Machinery.Close()
}

func (b *broken) NoRestoreStart(ctx context.Context, name string) error {
	if b.noRestoreStart != nil {
		return b.noRestoreStart(ctx, name)
	}
	return b.Machinery.NoRestoreStart(ctx, name)
}

func (b *broken) ACPIStop(ctx context.Context, name string) error {
	if b.acpiStop != nil {
		return b.acpiStop(ctx, name)
	}
	return b.Machinery.ACPIStop(ctx, name)
}

func (b *broken) DumpMemory(ctx context.Context, name, path string) error {
	if b.dumpMemory != nil {
		return b.dumpMemory(ctx, name, path)
	}
	return b.Machinery.DumpMemory(ctx, name, path)
}

func (b *broken) Screenshot(ctx context.Context, name string) ([]byte, error) {
	if b.screenshot != nil {
		return b.screenshot(ctx, name)
	}
	return b.Machinery.Screenshot(ctx, name)
}

func (b *broken) StartCapture(ctx context.Context, name string, c machinery.Capture) error {
	if b.startCapture != nil {
		return b.startCapture(ctx, name, c)
	}
	return b.Machinery.StartCapture(ctx, name, c)
}

func (b *broken) StopCapture(ctx context.Context, name string) error {
	if b.stopCapture != nil {
		return b.stopCapture(ctx, name)
	}
	return b.Machinery.StopCapture(ctx, name)
}

func (b *broken) Version(ctx context.Context) (string, error) {
	if b.version != nil {
		return b.version(ctx)
	}
	return b.Machinery.Version(ctx)
}

func (b *broken) CheckDependencies(ctx context.Context) error {
	if b.dependencies != nil {
		return b.dependencies(ctx)
	}
	return b.Machinery.CheckDependencies(ctx)
}

func (b *broken) Watch(ctx context.Context, name string) (<-chan machinery.Event, error) {
	if b.watch != nil {
		return b.watch(ctx, name)
	}
	return b.Machinery.Watch(ctx, name)
}

// fail is an error of the given kind that says nothing useful.
func fail(op machinery.Op, name string, kind error) error {
	return &machinery.Error{Op: op, Machine: name, Kind: kind, Reason: "operation failed"}
}
