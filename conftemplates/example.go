package conftemplates

import (
	"fmt"
	"time"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// Example is an example of a driver's configuration: its template with the schema's examples and defaults. The paths and
// interfaces in it need not be on this host.
func Example(d machinery.Driver) ([]byte, error) {
	if d.Schema == nil {
		return nil, fmt.Errorf("driver %q has no schema, which an example is made of", d.Name)
	}
	if err := d.Schema.Validate(); err != nil {
		return nil, err
	}
	out, err := RenderYAML(d.Template, ExampleValues(d.Schema))
	if err != nil {
		return nil, inTemplate(d.Schema, err)
	}
	return out, nil
}

// ExampleValues are the values of an example: for each key of the schema its example, else its default, else nothing if it may
// be empty or absent, else a value that its type permits. There is one machine, and one element of each list of sections.
func ExampleValues(s *config.Schema) *Values { return exampleValues(s.Fields) }

func exampleValues(fields []config.Field) *Values {
	out := new(Values)
	for _, f := range fields {
		out.Set(f.Key, exampleValue(f))
	}
	return out
}

func exampleValue(f config.Field) any {
	switch t := f.Type.(type) {
	case config.Section:
		return exampleValues(t.Fields)
	case config.Machines:
		name := t.Example
		if name == "" {
			name = "example1"
		}
		return new(Values).Set(name, exampleValues(t.Fields))
	case config.DictList:
		return []any{exampleValues(t.Fields)}
	}
	if f.Example != nil {
		return given(f.Example)
	}
	if f.Default != nil {
		return given(f.Default)
	}
	switch t := f.Type.(type) {
	case config.List:
		if f.AllowEmpty || f.Optional {
			return []any{}
		}
		return []any{sample(orText(t.Of), 0)}
	case config.Dict:
		names := new(Values)
		if !f.AllowEmpty && !f.Optional {
			names.Set("name1", sample(orText(t.Of), 0))
		}
		return names
	}
	switch {
	case f.AllowEmpty:
		return nil
	case f.Optional:
		return absent(f)
	}
	return sample(f.Type, 0)
}

func orText(t config.Type) config.Type {
	if t == nil {
		return config.String{}
	}
	return t
}

// given is a value that a schema gives, as templates have it.
func given(value any) any {
	switch value := value.(type) {
	case time.Duration:
		return lengthOfTime(value)
	case []string:
		items := make([]any, len(value))
		for i, item := range value {
			items[i] = item
		}
		return items
	}
	return value
}
