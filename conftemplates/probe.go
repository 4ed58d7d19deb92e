package conftemplates

import (
	"fmt"

	"github.com/machineries/machineries/machinery/config"
)

// probe makes values that show whether a template puts each where it belongs, and in such a way that it reads back: in a full one
// no two are the same, and texts hold what YAML makes something of. One that is not full has nothing where that is permitted.
type probe struct {
	full bool
	n    int
}

// names are those of machines, in turn.
var names = []string{"no", "1.10", "a: b #c", "it's \"é\""}

func (p probe) section(fields []config.Field) *Values { return (&p).below(fields) }

func (p *probe) below(fields []config.Field) *Values {
	out := new(Values)
	for _, f := range fields {
		out.Set(f.Key, p.value(f))
	}
	return out
}

func (p *probe) value(f config.Field) any {
	// The same flag is true in one full probe and false in the other.
	p.n++
	switch t := f.Type.(type) {
	case config.Section:
		if !p.full && f.Optional && needsKeys(t.Fields) {
			return nil
		}
		return p.below(t.Fields)
	case config.Machines:
		machines := new(Values)
		switch {
		case p.full:
			for i := range 2 {
				machines.Set(names[(p.n+i)%len(names)], p.below(t.Fields))
			}
		case !f.Optional && !f.AllowEmpty:
			machines.Set("example1", p.below(t.Fields))
		}
		return machines
	case config.DictList:
		sections := []any{}
		for range p.many(f) {
			sections = append(sections, p.below(t.Fields))
		}
		return sections
	case config.List:
		items := []any{}
		for range p.many(f) {
			items = append(items, p.plain(orText(t.Of)))
		}
		return items
	case config.Dict:
		dict := new(Values)
		for i := range p.many(f) {
			dict.Set(names[i], p.plain(orText(t.Of)))
		}
		return dict
	}
	switch {
	case p.full || !f.Optional && !f.AllowEmpty:
		return p.plain(f.Type)
	case f.AllowEmpty:
		return nil
	}
	return absent(f)
}

// many is how many elements a list gets.
func (p *probe) many(f config.Field) int {
	switch {
	case p.full:
		return 2
	case f.Optional || f.AllowEmpty:
		return 0
	}
	return 1
}

// plain is a value of a plain type.
func (p *probe) plain(t config.Type) any {
	p.n++
	switch t := t.(type) {
	case config.String:
		if len(t.OneOf) > 0 {
			break
		}
		if p.n%2 == 0 {
			return fmt.Sprintf("%d: \"a\" 'b' #c \\d [é", p.n)
		}
		return fmt.Sprintf("%d.10\nb: {{ c }}", p.n)
	case config.FilePath, config.DirectoryPath:
		return fmt.Sprintf("/srv/%d: it's \"a\" #b\\n", p.n)
	}
	return sample(t, p.n)
}

// absent is what a key reads as that may be absent but not empty, and is absent.
func absent(f config.Field) any {
	if f.Default != nil {
		return given(f.Default)
	}
	switch t := f.Type.(type) {
	case config.Bool:
		return false
	case config.Int:
		if zeroFits(t.Min, t.Max) {
			return 0
		}
	case config.Duration:
		if zeroFits(t.Min, t.Max) {
			return "0s"
		}
	}
	return nil
}
