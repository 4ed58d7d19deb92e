package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
)

// JSONSchema is the schema as a JSON Schema of draft 7, which every editor knows, with which editors complete keys, show what they are for, and mark what is
// wrong (https://json-schema.org/draft-07). It takes and refuses what Options{Static: true} does, as far as JSON Schema can say it:
//
//   - It does not know of values that must be unique, nor of keys that stand twice in a section, which editors find by themselves.
//   - It sees values and not how they were written. 8000.0 and 010 are whole numbers to it, which Load refuses.
//   - Bounds hold for numbers, and for whole numbers in quotes; not for those with "_" or "0x" in quotes, nor for a length of time with a unit.
//
// What Load warns of, such as unknown keys, is let pass; with strict, as with Options.Strict, it is refused. It ends with a line end. The error is that
// of Validate.
func (s *Schema) JSONSchema(strict bool) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	w := jsonSchema{strict: strict}
	root := append(object{
		{"$schema", "http://json-schema.org/draft-07/schema#"},
		{"title", s.Name + ".yaml"},
		{"description", s.Doc},
	}, w.section(s.Fields)...)
	text, err := json.Marshal(root)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// object is a JSON object whose members keep their order: that of the schema.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{m.key, m.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			if err := e.Encode(part); err != nil {
				return nil, err
			}
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// jsonSchema writes the parts of a JSON Schema.
type jsonSchema struct{ strict bool }

// section is a mapping whose keys are fields.
func (w jsonSchema) section(fields []Field) object {
	properties := object{}
	for _, f := range fields {
		properties = append(properties, member{f.Key, w.field(f)})
	}
	out := object{{"type", "object"}, {"properties", properties}}
	if keys := requiredKeys(fields); len(keys) > 0 {
		out = append(out, member{"required", keys})
	}
	if w.strict {
		// "<<" merges another section into this one, which an editor that reads YAML 1.2 does not do.
		out = append(out, member{"additionalProperties", false}, member{"patternProperties", object{{"^<<$", true}}})
	}
	return out
}

// field is one key: what it is for, and what its value must be.
func (w jsonSchema) field(f Field) object {
	var out object
	doc := f.Doc
	if unit := f.Type.Describe(); doc != "" {
		doc = sentence(doc) + " " + upper(sentence(unit))
	}
	if doc != "" {
		out = append(out, member{"description", doc})
	}
	if f.Default != nil {
		out = append(out, member{"default", jsonLiteral(f.Default)})
	}
	if f.Example != nil && !f.Sensitive {
		out = append(out, member{"examples", []any{jsonLiteral(f.Example)}})
	}
	if f.Sensitive {
		out = append(out, member{"writeOnly", true})
	}
	choices := w.choices(f.Type, f.AllowEmpty)
	if f.AllowEmpty || f.Type.kind() == kindSection && !requires(f.Type) {
		choices = append(choices, empties(f.Type)...)
	} else if f.Type.kind() == kindMachines || f.Type.kind() == kindDict {
		choices[0] = append(choices[0], member{"minProperties", 1})
	} else if f.Type.kind() == kindList || f.Type.kind() == kindDictList {
		choices[0] = append(choices[0], member{"minItems", 1})
	}
	if len(choices) == 1 {
		return append(out, choices[0]...)
	}
	return append(out, member{"anyOf", choices})
}

// empties are null and the blank text, where a field may be empty.
func empties(t Type) []object {
	return []object{{{"type", "null"}}, {{"type", "string"}, {"pattern", `^\s*$`}}}
}

// choices are the forms that a value may have; allowEmpty is that of its field.
func (w jsonSchema) choices(t Type, allowEmpty bool) []object {
	switch t := t.(type) {
	case Section:
		return []object{w.section(t.Fields)}
	case Machines:
		return []object{{{"type", "object"}, {"propertyNames", object{{"pattern", `^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$`}}}, {"additionalProperties", w.section(t.Fields)}}}
	case DictList:
		sections := []object{w.section(t.Fields)}
		if !requires(t) {
			sections = append(sections, object{{"type", "null"}})
		}
		return []object{{{"type", "array"}, {"items", anyOf(sections)}}}
	case Dict:
		values := w.choices(t.of(), false)
		if t.of().kind() == kindText {
			values = append(values[:len(values):len(values)], text(`^\s*$`))
			if allowEmpty {
				values = append(values, object{{"type", "null"}})
			}
		}
		return []object{{{"type", "object"}, {"additionalProperties", anyOf(values)}}}
	case List:
		element := w.choices(t.of(), false)
		elements := element[:len(element):len(element)]
		if !w.strict { // empty ones are left out, with a warning
			elements = append(elements, empties(t.of())...)
		}
		return append([]object{{{"type", "array"}, {"items", anyOf(elements)}}}, element...)
	}
	return w.scalar(t)
}

// anyOf is one of the forms.
func anyOf(choices []object) object {
	if len(choices) == 1 {
		return choices[0]
	}
	return object{{"anyOf", choices}}
}

// anyText are the values that a text may be: what YAML reads as a number or a truth value is kept as it was written.
var anyText = []object{text(`^[^\x00]*[^\s\x00][^\x00]*$`), {{"type", []string{"number", "boolean"}}}}

// text is a text with that form, in the syntax that JSON Schema has in common with Go and JavaScript.
func text(pattern string) object { return object{{"type", "string"}, {"pattern", pattern}} }

// scalar are the forms of a plain value. An editor that knows patternErrorMessage shows that, and not the pattern, where a text has none of them.
func (w jsonSchema) scalar(t Type) []object {
	forms := slices.Clone(w.forms(t))
	for i, form := range forms {
		if slices.ContainsFunc(form, func(m member) bool { return m.key == "pattern" }) {
			forms[i] = append(slices.Clone(form), member{"patternErrorMessage", upper(sentence("this is not " + t.Describe()))})
		}
	}
	return forms
}

func (w jsonSchema) forms(t Type) []object {
	switch t := t.(type) {
	case String:
		if t.OneOf != nil {
			return oneOf(t)
		}
	case Int:
		low, high := int64(math.MinInt64), int64(math.MaxInt64)
		if t.Min != nil {
			low = *t.Min
		}
		if t.Max != nil {
			high = *t.Max
		}
		return []object{{{"type", "integer"}, {"minimum", low}, {"maximum", high}}, text(`^\s*` + wholePattern(t) + `\s*$`)}
	case Bool:
		return []object{{{"type", "boolean"}}, text(`^\s*([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|[Oo][Nn]|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|[Oo][Ff][Ff])\s*$`)}
	case Duration:
		seconds := object{{"type", "number"}, {"minimum", 0}}
		if t.Min != nil {
			seconds[1].value = t.Min.Seconds()
		}
		if t.Max != nil {
			seconds = append(seconds, member{"maximum", t.Max.Seconds()})
		}
		return []object{seconds, text(`^\s*\+?([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)\s*$`)}
	case UnixSocketPath:
		return []object{append(text(anyText[0][1].value.(string)), member{"maxLength", 107}), anyText[1]}
	case NetworkInterface:
		if t.MustExist || t.MustBeUp {
			return []object{text(`^\s*([^/\s.][^/\s]{0,14}|\.[^/\s.][^/\s]{0,13}|\.\.[^/\s]{1,13})\s*$`), anyText[1]}
		}
	case MACAddress:
		address := text(`^\s*[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}\s*$`)
		if w.strict { // of these Load warns
			address = append(address, member{"not", object{{"pattern", `^\s*([0-9a-fA-F][13579bBdDfF]|00(:00){5}\s*$)`}}})
		}
		return []object{address}
	case IPAddress:
		const part = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
		four, six := text(`^\s*`+part+`(\.`+part+`){3}\s*$`), text(`^\s*`+ipv6Pattern(part+`(\.`+part+`){3}`)+`\s*$`)
		switch t.Version {
		case 4:
			return []object{four}
		case 6:
			return []object{six}
		}
		return []object{four, six}
	case HTTPUrl:
		const port = `(:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?`
		return []object{text(`^\s*[Hh][Tt][Tt][Pp][Ss]?://([^\s/?#@]*@)?([^\s/?#@:\[\]]+|\[[^\s/?#@\[\]]+\])` + port + `([/?#]\S*)?\s*$`)}
	case HypervisorURI:
		var drivers, ways []string
		for _, name := range hypervisors {
			drivers = append(drivers, anyCase(name))
		}
		for _, name := range transports {
			ways = append(ways, anyCase(name))
		}
		return []object{append(text(`^\s*(/.*|(`+strings.Join(drivers, "|")+`)(\+(`+strings.Join(ways, "|")+`))?://\S*)\s*$`),
			member{"allOf", []object{
				{{"not", object{{"pattern", `^[^/]*://[^/?#]*:[^/?#]*@`}}}},
				{{"if", object{{"pattern", `^\s*[Qq][Ee][Mm][Uu][+:]`}}}, {"then", object{{"pattern", `://[^\s/?#]*/(system|session|embed)([?#]\S*)?\s*$`}}}},
				{{"if", object{{"pattern", `^[^/]*\+(` + anyCase("libssh") + `2?|` + anyCase("ssh") + `)://`}}}, {"then", object{{"pattern", `://([^\s/?#@]*@)?[^\s/?#@:]`}}}},
			}})}
	}
	return anyText
}

// oneOf are the texts that a text may be, which an editor offers. Those that YAML takes for numbers or truth values are not among drivers' own.
func oneOf(t String) []object {
	out := []object{{{"enum", t.OneOf}}}
	var forms []string
	for _, text := range t.OneOf {
		form := regexp.QuoteMeta(text)
		if t.ToLower {
			form = anyCase(text)
		}
		forms = append(forms, form)
	}
	return append(out, text(`^\s*(`+strings.Join(forms, "|")+`)\s*$`))
}

// anyCase is the pattern of a lower-case text in any case.
func anyCase(lower string) string {
	var b strings.Builder
	for _, r := range lower {
		if upper := unicode.ToUpper(r); upper != r {
			b.WriteString("[" + string(r) + string(upper) + "]")
		} else {
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	return b.String()
}

// wholePattern is the form of a whole number in a text. The bounds are in it where they are simple.
func wholePattern(t Int) string {
	const marked = `[-+]?(0x[0-9a-fA-F]+|[1-9][0-9]*(_[0-9]+)+)`
	if t.Min != nil && t.Max != nil && *t.Min >= 0 {
		return `(\+?(` + strings.Join(between(fmt.Sprint(*t.Min), fmt.Sprint(*t.Max)), "|") + `)|` + marked + `)`
	}
	sign := `[-+]?`
	if t.Min != nil && *t.Min >= 0 {
		sign = `\+?`
	}
	return `(` + sign + `(0|[1-9][0-9]*)|` + marked + `)`
}

// between are the patterns of the whole numbers from one to another, in decimal and without zeros in front.
func between(from, to string) []string {
	if len(from) < len(to) {
		return append(between(from, strings.Repeat("9", len(from))), between("1"+strings.Repeat("0", len(from)), to)...)
	}
	if from == to {
		return []string{from}
	}
	if len(from) == 1 {
		return []string{"[" + from + "-" + to + "]"}
	}
	if from[0] == to[0] {
		var out []string
		for _, rest := range between(from[1:], to[1:]) {
			out = append(out, from[:1]+"("+rest+")")
		}
		return out
	}
	zeros, nines := strings.Repeat("0", len(from)-1), strings.Repeat("9", len(from)-1)
	first, last := from[0], to[0]
	var out []string
	if from[1:] != zeros {
		for _, rest := range between(from[1:], nines) {
			out = append(out, string(first)+"("+rest+")")
		}
		first++
	}
	var end []string
	if to[1:] != nines {
		for _, rest := range between(zeros, to[1:]) {
			end = append(end, string(last)+"("+rest+")")
		}
		last--
	}
	if first <= last {
		out = append(out, fmt.Sprintf("[%c-%c]%s", first, last, strings.Repeat("[0-9]", len(zeros))))
	}
	return append(out, end...)
}

// ipv6Pattern is the form of an IPv6 address (RFC 4291, section 2.2), given that of an IPv4 address, which may be its end.
func ipv6Pattern(four string) string {
	const group = `[0-9a-fA-F]{1,4}`
	last := `(` + group + `:` + group + `|` + four + `)` // the last 32 bits
	forms := []string{`(` + group + `:){6}` + last}
	for before := range 8 { // groups before "::", which stands for one at least
		start := `::`
		if before > 0 {
			start = fmt.Sprintf(`%s(:%s){%d}::`, group, group, before-1)
		}
		// After it there may be as many groups as leave one to be left out.
		after := 7 - before
		switch after {
		case 0:
			forms = append(forms, start)
		case 1:
			forms = append(forms, start+`(`+group+`)?`)
		default:
			forms = append(forms, fmt.Sprintf(`%s((%s:){0,%d}%s|(%s:){0,%d}%s)?`, start, group, after-1, group, group, after-2, four))
		}
	}
	return `(` + strings.Join(forms, `|`) + `)`
}

// jsonLiteral is a Default or an Example as JSON has it.
func jsonLiteral(v any) any {
	if d, is := v.(time.Duration); is {
		return d.String()
	}
	return v
}
