//go:build linux

package mutants

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

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

	return slices.Concat([]Mutant{lax, particular, outdated, silent}, rereadingMutants(), tellingMutants())
}

// rereading is a driver that reads its file once more, otherwise than its schema says.
func rereading(name string, change func(f config.Field) config.Field, text func(machine *yaml.Node), breaks ...string) Mutant {
	m := unchanged(name, breaks...)
	m.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		data, err := os.ReadFile(doc.Name())
		if err != nil {
			return nil, err
		}
		if text != nil {
			data = changedMachines(data, text)
		}
		again, err := config.Parse(doc.Name(), data, changedFields(doc.Schema(), change))
		if again == nil {
			return nil, err
		}
		return qemu.New(ctx, qemu.FromDocument(again), o)
	}
	return m
}

// changedFields is a schema with other fields of machines.
func changedFields(s *config.Schema, change func(f config.Field) config.Field) *config.Schema {
	if change == nil {
		return s
	}
	other := *s
	other.Fields = slices.Clone(other.Fields)
	for i, f := range other.Fields {
		if machines, is := f.Type.(config.Machines); is {
			machines.Fields = slices.Clone(machines.Fields)
			for j := range machines.Fields {
				machines.Fields[j] = change(machines.Fields[j])
			}
			other.Fields[i].Type = machines
		}
	}
	return &other
}

// changedMachines is a file in which each machine was changed.
func changedMachines(data []byte, change func(machine *yaml.Node)) []byte {
	var root yaml.Node
	if yaml.Unmarshal(data, &root) != nil || len(root.Content) != 1 {
		return data
	}
	for i := 0; i+1 < len(root.Content[0].Content); i += 2 {
		if root.Content[0].Content[i].Value != "machines" {
			continue
		}
		machines := root.Content[0].Content[i+1]
		for j := 1; j < len(machines.Content); j += 2 {
			change(machines.Content[j])
		}
	}
	out, err := yaml.Marshal(&root)
	if err != nil {
		return data
	}
	return out
}

// rereadingMutants each leave out, or add, one of the schema's rules.
func rereadingMutants() []Mutant {
	field := func(key string, change func(*config.Field)) func(config.Field) config.Field {
		return func(f config.Field) config.Field {
			if f.Key == key {
				change(&f)
			}
			return f
		}
	}
	return []Mutant{
		rereading("wants a key that its schema calls optional", field("interface", func(f *config.Field) { f.Optional = false }), nil, "MM-CONFIG-001"),
		rereading("wants a value where its schema lets there be none", field("interface", func(f *config.Field) { f.AllowEmpty = false }), nil, "MM-CONFIG-002"),
		rereading("takes anything for an element of a list", nil, func(machine *yaml.Node) {
			for _, n := range machine.Content {
				for i := range n.Content {
					if n.Kind == yaml.SequenceNode && n.Content[i].Kind != yaml.ScalarNode {
						n.Content[i] = &yaml.Node{Kind: yaml.ScalarNode, Value: "x"}
					}
				}
			}
		}, "MM-CONFIG-003"),
		rereading("takes any port", field("agent_port", func(f *config.Field) { f.Type = config.Int{} }), nil, "MM-CONFIG-004"),
		rereading("leaves texts in capital letters", field("platform", func(f *config.Field) { f.Type = config.String{} }), nil, "MM-CONFIG-010"),
		rereading("has another default than its schema", field("agent_port", func(f *config.Field) { f.Default = 1 }), nil, "MM-CONFIG-010"),
		rereading("takes the last of two values", nil, func(machine *yaml.Node) {
			seen := map[string]bool{}
			for i := len(machine.Content) - 2; i >= 0; i -= 2 {
				if key := machine.Content[i].Value; seen[key] {
					machine.Content = slices.Delete(machine.Content, i, i+2)
				} else {
					seen[key] = true
				}
			}
		}, "MM-CONFIG-011"),
	}
}

// teller is a driver that says something else of its machines.
type teller struct {
	*qemu.Machinery
	machine func(*machinery.Machine)
	status  func(*machinery.Status)
}

func (m *teller) Machines() []machinery.Machine {
	all := m.Machinery.Machines()
	for i := range all {
		if m.machine != nil {
			m.machine(&all[i])
		}
	}
	return all
}

func (m *teller) State(ctx context.Context, name string) (machinery.Status, error) {
	s, err := m.Machinery.State(ctx, name)
	if m.status != nil {
		m.status(&s)
	}
	return s, err
}

// tellingMutants read their files right.
func tellingMutants() []Mutant {
	telling := func(name string, machine func(*machinery.Machine), status func(*machinery.Status), breaks ...string) Mutant {
		m := unchanged(name, breaks...)
		open := m.Driver.Open
		m.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
			d, err := open(ctx, doc, o)
			if err != nil {
				return nil, err
			}
			return &teller{d.(*qemu.Machinery), machine, status}, nil
		}
		return m
	}
	places := regexp.MustCompile(`\.yaml:\d+`)
	fussy := unchanged("refuses a port that its schema permits", "MM-CONFIG-004")
	open := fussy.Driver.Open
	fussy.Driver.Open = func(ctx context.Context, doc *config.Document, o machinery.Options) (machinery.Machinery, error) {
		if slices.ContainsFunc(doc.Machines(), func(e config.Entry) bool { return e.Err() == nil && e.Int("agent_port") == 65535 }) {
			return nil, fail(machinery.OpOpen, "", machinery.ErrConfig)
		}
		return open(ctx, doc, o)
	}
	return []Mutant{
		fussy,
		telling("says that every mistake is on the first line", nil, func(s *machinery.Status) { s.Detail = places.ReplaceAllString(s.Detail, ".yaml:1") },
			"MM-CONFIG-001", "MM-CONFIG-002", "MM-CONFIG-003", "MM-CONFIG-004", "MM-CONFIG-005", "MM-CONFIG-006", "MM-CONFIG-011"),
		telling("reads versions as numbers", func(m *machinery.Machine) {
			if n, err := strconv.ParseFloat(m.OSVersion, 64); err == nil {
				m.OSVersion = strconv.FormatFloat(n, 'f', -1, 64)
			}
		}, nil, "MM-CONFIG-010"),
		telling("sorts a machine's tags", func(m *machinery.Machine) { slices.Sort(m.Tags) }, nil, "MM-CONFIG-010"),
	}
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
