package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// configShowCommand is "machinery config show".
func configShowCommand(a *app) *cobra.Command {
	var o configOptions
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Shows the values of a configuration, as a driver gets them.",
		Long: `Shows the values of a configuration file as its driver gets them, with the
defaults of keys that the file does not have. Values that are sensitive, such as
passwords, are not shown.

Exit status: 0 if the file can be used, 1 if not: then what can be read is
shown, and what is wrong is said on stderr.`,
		Example: "  machinery config show qemu.yaml\n  machinery config show --json kvm.yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(cmd, "name one file to show")
			}
			doc, err := o.load(cmd, args[0])
			if doc != nil {
				var shown any = shownValues(doc.Values, doc.Schema().Fields)
				if o.json {
					if err := a.writeJSON(shown); err != nil {
						return err
					}
				} else {
					var b strings.Builder
					writeShown(&b, shown.(shownSection), "")
					fmt.Fprint(a.out, b.String())
				}
			}
			if problems, is := errors.AsType[config.Problems](err); is {
				for _, p := range append(problems.Errors(), problems.Warnings()...) {
					a.say("machinery: ", p.Detail())
				}
				return &failure{status: exitFailed}
			}
			return err
		},
	}
	o.flags(cmd)
	return cmd
}

// shownSection are the values of a section in the order of the schema.
type shownSection []shownValue

// shownValue is a key and its value: nil, a plain value, a list, or a section.
type shownValue struct {
	key       string
	value     any
	isDefault bool
}

// hidden is shown in the place of a sensitive value.
const hidden = "(not shown)"

// shownValues reads a section by what its fields say.
func shownValues(v *config.Values, fields []config.Field) shownSection {
	out := shownSection{}
	for _, f := range fields {
		s := shownValue{key: f.Key, isDefault: !v.IsSet(f.Key)}
		switch t := f.Type.(type) {
		case config.Section:
			s.value, s.isDefault = shownValues(v.Section(f.Key), t.Fields), false
		case config.Machines:
			entries := shownSection{}
			for _, e := range v.Entries(f.Key) {
				entries = append(entries, shownValue{key: e.Name, value: shownValues(e.Values, t.Fields)})
			}
			s.value = entries
		case config.DictList:
			list := []any{}
			for _, e := range v.Sections(f.Key) {
				list = append(list, shownValues(e, t.Fields))
			}
			s.value = list
		case config.Dict:
			pairs := shownSection{}
			for _, p := range v.Dict(f.Key) {
				pairs = append(pairs, shownValue{key: p.Key, value: p.Value})
			}
			s.value = pairs
		case config.List:
			list := []any{}
			for _, text := range v.Strings(f.Key) {
				list = append(list, text)
			}
			s.value = list
		case config.Int:
			s.value = v.Int(f.Key)
		case config.Bool:
			s.value = v.Bool(f.Key)
		case config.Duration:
			s.value = shortDuration(v.Duration(f.Key))
		default:
			s.value = v.String(f.Key)
		}
		if s.isDefault && f.Default == nil { // there is no value
			switch s.value.(type) {
			case shownSection, []any:
			default:
				s.value = nil
			}
		}
		if f.Sensitive && s.value != nil {
			s.value = hidden
		}
		out = append(out, s)
	}
	return out
}

// MarshalJSON implements json.Marshaler: an object in the order of the schema.
func (s shownSection) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, part := range []any{v.key, v.value} {
			if j > 0 {
				b.WriteByte(':')
			}
			text, err := json.Marshal(part)
			if err != nil {
				return nil, err
			}
			b.Write(text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// writeShown writes a section as YAML.
func writeShown(b *strings.Builder, s shownSection, indent string) {
	for _, v := range s {
		fmt.Fprintf(b, "%s%s:", indent, yamlText(v.key))
		switch value := v.value.(type) {
		case shownSection:
			if len(value) == 0 {
				b.WriteString(" {}")
				break
			}
			b.WriteString("\n")
			writeShown(b, value, indent+"  ")
			continue
		case []any:
			if len(value) == 0 {
				b.WriteString(" []")
				break
			}
			b.WriteString("\n")
			for _, e := range value {
				if section, is := e.(shownSection); is {
					var inner strings.Builder
					writeShown(&inner, section, indent+"    ")
					fmt.Fprintf(b, "%s  - %s", indent, strings.TrimPrefix(inner.String(), indent+"    "))
				} else {
					fmt.Fprintf(b, "%s  - %s\n", indent, yamlText(e))
				}
			}
			continue
		case nil:
		default:
			b.WriteString(" " + yamlText(value))
		}
		if v.isDefault && v.value != nil {
			b.WriteString("  # default")
		}
		b.WriteString("\n")
	}
}

// yamlText is a plain value as YAML has it on one line.
func yamlText(v any) string {
	if text, is := v.(string); is && strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		quoted, _ := json.Marshal(text) // a text cannot fail, and JSON is YAML
		return string(quoted)
	}
	if d, is := v.(time.Duration); is {
		v = d.String()
	}
	text, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return printable(strings.TrimRight(string(text), "\n"))
}
