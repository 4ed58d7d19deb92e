//go:build linux

package mutants

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

func loadMutants() []Mutant {
	capital := unchanged("is registered under a name that is no file's stem", "MM-LOAD-001")
	capital.Driver.Name = "QEMU"

	lenient := unchanged("takes an empty configuration for one without machines", "MM-LOAD-005")
	lenient.Driver.Schema = optional(lenient.Driver.Schema)
	open := lenient.Driver.Open
	lenient.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		if len(doc.Machines()) == 0 {
			return &broken{machines: func() []machinery.Machine { return nil }, shutdown: func(context.Context) error { return nil }, close: func() error { return nil }}, nil
		}
		return open(ctx, doc, o)
	}

	return []Mutant{
		capital,
		lenient,
		wrap("lists its machines in an order of its own", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, machines: func() []machinery.Machine {
				list := inner.Machines()
				slices.Reverse(list)
				return list
			}}
		}, "MM-LOAD-002"),
		wrap("hands out its own list of machines", func(inner *qemu.Machinery) machinery.Machinery {
			list := inner.Machines()
			return &broken{Machinery: inner, machines: func() []machinery.Machine { return list }}
		}, "MM-LOAD-003"),
		strict(),
		wrap("goes on after Close", func(inner *qemu.Machinery) machinery.Machinery {
			return &broken{Machinery: inner, close: func() error { return nil }}
		}, "MM-LOAD-006"),
		rewire("writes a file as it is opened", func(c *qemu.Config, o *machinery.Options) error {
			return os.WriteFile(filepath.Join(c.DisposableDir, "opened"), nil, 0o600)
		}, nil, "MM-LOAD-007"),
	}
}

// optional is a schema of which nothing is required.
func optional(s *config.Schema) *config.Schema {
	lenient := *s
	lenient.Fields = slices.Clone(s.Fields)
	for i := range lenient.Fields {
		lenient.Fields[i].Optional = true
	}
	return &lenient
}

// strict refuses the whole configuration for one bad machine.
func strict() Mutant {
	m := unchanged("cannot be opened with one bad machine", "MM-LOAD-004")
	open := m.Driver.Open
	m.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		inner, err := open(ctx, doc, o)
		if err != nil {
			return nil, err
		}
		for _, machine := range inner.Machines() {
			if s, err := inner.State(ctx, machine.Name); err != nil || s.State == machinery.StateError {
				_ = inner.Close()
				return nil, fail(machinery.OpOpen, machine.Name, machinery.ErrConfig)
			}
		}
		return inner, nil
	}
	return m
}
