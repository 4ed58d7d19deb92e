package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// referenceMarkdown is what a driver's configuration can hold, as a document. docs/config-NAME.md is this text, and a test holds that it is.
func referenceMarkdown(d machinery.Driver) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# %s.yaml

<!-- Written by "make catalogue" from the driver's own schema. Do not edit. -->

%s "machinery config init" writes an example, and
"machinery config check" tells all that is wrong with a file.

A key that may be empty may have no value after its colon. One that is not
required and not in the file has its default; a key without a value has not.

`, d.Name, d.Schema.Doc)
	referenceTable(&b, "At the top of the file", d.Schema.Fields)
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// referenceTable is a table of keys, and then those of the sections below them.
func referenceTable(b *strings.Builder, title string, fields []config.Field) {
	fmt.Fprintf(b, "## %s\n\n| Key | Value | Required | Default | What for |\n|---|---|---|---|---|\n", title)
	for _, f := range fields {
		required := "yes"
		switch {
		case f.Optional:
			required = "no"
		case f.AllowEmpty:
			required = "yes, may be empty"
		}
		value := f.Type.Describe()
		if rules := valueRules(f.Type); rules != "" {
			value += "; " + rules
		}
		if f.Sensitive {
			value += "; never shown"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", f.Key, cell(value), required, cell(defaultText(f)), cell(f.Doc))
	}
	b.WriteString("\n")
	for _, f := range fields {
		switch t := f.Type.(type) {
		case config.Section:
			referenceTable(b, "Below `"+f.Key+"`", t.Fields)
		case config.DictList:
			referenceTable(b, "In each element of `"+f.Key+"`", t.Fields)
			uniqueText(b, "elements", t.Unique)
		case config.Machines:
			referenceTable(b, "Below each name in `"+f.Key+"`", t.Fields)
			uniqueText(b, "machines", t.Unique)
		}
	}
}

// uniqueText says which values have to differ.
func uniqueText(b *strings.Builder, what string, keys []string) {
	if len(keys) == 0 {
		return
	}
	fmt.Fprintf(b, "No two %s may have the same `%s`. Values that are absent or empty are not compared.\n\n", what, strings.Join(keys, "`, or the same `"))
}

// valueRules are what a value must be on this host.
func valueRules(t config.Type) string {
	var rules []string
	add := func(holds bool, rule string) {
		if holds {
			rules = append(rules, rule)
		}
	}
	path := func(exist, read, write, execute bool) {
		add(exist && !read && !write && !execute, "it must exist")
		add(read, "it must be readable")
		add(write, "it must be writable")
		add(execute, "it must be executable")
	}
	switch t := t.(type) {
	case config.String:
		add(t.ToLower, "made lower-case")
	case config.MACAddress:
		add(t.ToLower, "made lower-case")
	case config.FilePath:
		path(t.MustExist, t.Readable, t.Writable, t.Executable)
	case config.DirectoryPath:
		path(t.MustExist, t.Readable, t.Writable, false)
	case config.UnixSocketPath:
		path(t.MustExist, t.Readable, t.Writable, false)
	case config.NetworkInterface:
		add(t.MustExist && !t.MustBeUp, "it must exist")
		add(t.MustBeUp, "it must be up")
	}
	return strings.Join(rules, ", ")
}

// defaultText is the default of a key that has one.
func defaultText(f config.Field) string {
	switch v := f.Default.(type) {
	case nil:
		return ""
	case string:
		if v == "" {
			return ""
		}
		return "`" + v + "`"
	case []string:
		return "`[" + strings.Join(v, ", ") + "]`"
	case time.Duration:
		return "`" + shortDuration(v) + "`"
	}
	return fmt.Sprintf("`%v`", f.Default)
}

// shortDuration is a length of time without the units that are zero.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// cell is a text in a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}
