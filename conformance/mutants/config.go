//go:build linux

package mutants

import (
	"context"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// configMutants do something else with their file than their schema says.
func configMutants() []Mutant {
	lax := unchanged("reads its machines with fewer rules than its schema has",
		"MM-CONFIG-001", "MM-CONFIG-002", "MM-CONFIG-003", "MM-CONFIG-004", "MM-CONFIG-005", "MM-CONFIG-006")
	lax.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		again, err := config.Load(doc.Name(), withoutRules(doc.Schema()))
		if again == nil {
			return nil, err
		}
		return qemu.New(ctx, qemu.FromDocument(again), o)
	}

	particular := unchanged("refuses files with keys that it does not know", "MM-CONFIG-007")
	open := particular.Driver.Open
	particular.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		if len(doc.Warnings()) > 0 {
			return nil, fail(machinery.OpOpen, "", machinery.ErrConfig)
		}
		return open(ctx, doc, o)
	}

	outdated := unchanged("has a template that lacks a new key", "MM-CONFIG-008")
	before, after, _ := strings.Cut(outdated.Driver.Template, "load_timeout: {{ load_timeout }}\n")
	outdated.Driver.Template = before + after

	silent := unchanged("does not say what a key is for", "MM-CONFIG-009")
	described := *silent.Driver.Schema
	described.Fields = slices.Clone(described.Fields)
	described.Fields[0].Doc = ""
	silent.Driver.Schema = &described

	return []Mutant{lax, particular, outdated, silent}
}

// withoutRules is a schema whose machines may have anything that the same kind of value can hold.
func withoutRules(s *config.Schema) *config.Schema {
	lax := *s
	lax.Fields = slices.Clone(lax.Fields)
	for i, f := range lax.Fields {
		machines, is := f.Type.(config.Machines)
		if !is {
			continue
		}
		machines.Unique = nil
		machines.Fields = slices.Clone(machines.Fields)
		for j, g := range machines.Fields {
			g.Optional, g.AllowEmpty = true, true
			switch g.Type.(type) {
			case config.Int:
				g.Type = config.Int{}
			case config.List:
			default:
				g.Type = config.String{}
			}
			machines.Fields[j] = g
		}
		lax.Fields[i].Type = machines
	}
	return &lax
}
