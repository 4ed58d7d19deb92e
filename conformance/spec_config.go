package conformance

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// configSpecs: what a driver's schema says of its file is what the driver does. The files are made from the schema itself.
var configSpecs = []spec{
	{Requirement{ID: "MM-CONFIG-001", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A required key that is missing makes the file, or the machine that lacks it, unusable; what is said names the key and its place in the file.",
		Why:    "A machine that runs with half of its settings gives results that nobody can explain.",
		Source: "config.Field, Optional"}, configMissing},
	{Requirement{ID: "MM-CONFIG-002", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A key without a value makes the file, or its machine, unusable where the schema does not let it be empty; what is said names the key and its place.",
		Why:    "An empty value is a mistake in writing far more often than it is meant.",
		Source: "config.Field, AllowEmpty"}, configEmpty},
	{Requirement{ID: "MM-CONFIG-003", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A value that is not of its key's type is refused, for every key of the schema; what is said names the key and its place.",
		Why:    "What is read as something else instead, such as 8000.9 as 8000, is found days later.",
		Source: "config.Type"}, configForms},
	{Requirement{ID: "MM-CONFIG-004", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "Values at the bounds of the schema are taken, and those just beyond are refused, with the key and its place.",
		Why:    "A bound that is not the one in the documentation is met by someone in the end.",
		Source: "config.Int, config.Duration"}, configBounds},
	{Requirement{ID: "MM-CONFIG-005", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A path or a network interface that has to be on the host and is not, or is something else, is refused before anything is started, with the key and its place.",
		Why:    "The start of an analysis is too late to find out.",
		Source: "config.FilePath, config.DirectoryPath, config.NetworkInterface"}, configHost},
	{Requirement{ID: "MM-CONFIG-006", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "Two machines with the same value where the schema wants different ones: the second cannot be used, and what is said names both places. The first works.",
		Why:    "Two guests at one address, or on one disk, spoil each other's results.",
		Source: "config.Machines, Unique"}, configUnique},
	{Requirement{ID: "MM-CONFIG-007", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A key that the schema does not have is told with its place, and changes nothing else; with Options.Strict it is an error.",
		Why:    "Files of other versions have to load, and mistyped keys have to be found.",
		Source: "machinery.Options, Warn and Strict"}, configUnknown},
	{Requirement{ID: "MM-CONFIG-008", Level: Must, Op: machinery.OpOpen,
		Rule:   "The driver's template has every key of the schema, each with a comment, and none that is not in it; what is rendered with it loads, and says what it was given.",
		Why:    "The template is the first that a user sees of a driver, and tools write files with it.",
		Source: "machinery.Driver, Template; Cuckoo3: \"Config-Template\""}, configTemplate},
	{Requirement{ID: "MM-CONFIG-009", Level: Should, Op: machinery.OpOpen,
		Rule:   "Every key of the schema says what it is for, and every required one shows an example.",
		Why:    "It is what the reference page, editors and messages about a missing key show.",
		Source: "config.Field, Doc and Example"}, configDescribed},
}

func configMissing(w *World) {
	missing, _ := requiredCases(w.subject.Driver.Schema, "a")
	w.configCases(missing)
}

func configEmpty(w *World) {
	_, empty := requiredCases(w.subject.Driver.Schema, "a")
	w.configCases(empty)
}

func configForms(w *World) { w.configCases(formCases(w.subject.Driver.Schema, "a")) }

func configBounds(w *World) { w.configCases(boundCases(w.subject.Driver.Schema, "a")) }

func configHost(w *World) {
	cases, err := hostCases(w.subject.Driver.Schema, "a")
	w.Lab(err, "making cases of what has to be on the host")
	w.configCases(cases)
}

// configCases opens the driver with each value in the place of the lab's own.
func (w *World) configCases(cases []configCase) {
	b := w.Bench()
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	w.openConfig(text, false, func(said string) {
		if said != "" {
			w.Failf("the lab's own configuration cannot be used: %s", said)
		}
	})
	for _, c := range cases {
		changed, err := edited(text, c.section, c.field.Key, c.value)
		w.Lab(err, "changing the lab's configuration")
		what := "a configuration in which " + c.path() + " " + c.what
		w.openConfig(changed, false, func(said string) {
			switch {
			// A value can be right and have the driver give up, as a time-out of a millisecond does.
			case c.taken && strings.Contains(said, c.field.Key):
				w.Failf("%s is refused, though the schema permits it: %s", what, said)
			case c.taken:
			case said == "":
				w.Failf("%s was opened, and its machine is as usable as any; the schema says %s", what, c.field.Type.Describe())
			default:
				w.placed(said, what, c.field.Key)
			}
		})
	}
}

// placed fails the check unless the words name the key and its place in the file.
func (w *World) placed(said, what, key string) {
	if !strings.Contains(said, key) {
		w.Failf("%s is refused without naming the key %q: %s", what, key, said)
	}
	if file := filepath.Base(w.bench.ConfigPath()); !regexp.MustCompile(regexp.QuoteMeta(file) + `:\d+`).MatchString(said) {
		w.Failf("%s is refused without the place in the file (%s:LINE): %s", what, file, said)
	}
}

// openConfig opens the driver with a text as its configuration, and tells what is said against the file or the machine "a"; empty if both can be used.
func (w *World) openConfig(text []byte, strict bool, tell func(said string)) (warnings []config.Diagnostic) {
	w.Lab(os.WriteFile(w.bench.ConfigPath(), text, 0o600), "writing a configuration")
	h, err := w.tryOpen(machinery.Options{RuntimeDir: w.bench.RuntimeDir(), Strict: strict, Warn: func(d config.Diagnostic) {
		if d.Severity == config.Warning {
			warnings = append(warnings, d)
		}
	}})
	if err != nil {
		tell(err.Error())
		return nil
	}
	defer h.Close()
	tell(w.saidOf(h, "a"))
	return warnings
}

// saidOf is what is wrong with a machine; empty for one that can be used.
func (w *World) saidOf(h *Handle, name string) string {
	s, err := h.State(name)
	switch {
	case err != nil:
		return err.Error()
	case s.State == machinery.StateError:
		return s.Reason + ": " + s.Detail
	}
	return ""
}

func configUnique(w *World) {
	s := w.subject.Driver.Schema
	machines, keys := uniqueKeys(s)
	b := w.Bench(MachineSpec{Name: "a"}, MachineSpec{Name: "b"})
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	if len(keys) == 0 {
		w.Failf("the schema has no key whose value has to differ between machines; two machines with one address, or one disk, cannot work")
	}
	for _, key := range keys {
		_, first, err := sectionOf(text, []string{machines, "a"})
		w.Lab(err, "reading the lab's configuration")
		node := valueOf(first, key)
		value := "52:54:00:12:34:56" // of the one optional key that labs need not have
		if node != nil && node.Value != "" {
			encoded, err := yaml.Marshal(node.Value)
			w.Lab(err, "writing a value")
			value = strings.TrimSpace(string(encoded))
		}
		same := text
		for _, name := range []string{"a", "b"} {
			same, err = edited(same, []string{machines, name}, key, value)
			w.Lab(err, "changing the lab's configuration")
		}
		w.Lab(os.WriteFile(b.ConfigPath(), same, 0o600), "writing a configuration")
		h, err := w.tryOpen(machinery.Options{RuntimeDir: b.RuntimeDir()})
		w.NoError(err, "opening a configuration in which two machines have the same %s", key)
		what := "a configuration in which two machines have the same " + key
		said := w.saidOf(h, "b")
		if said == "" {
			w.Failf("%s: the second can be used; the schema says that the values have to differ", what)
		}
		w.placed(said, what, key)
		if !strings.Contains(said, machines+".a") && !regexp.MustCompile(`\ba\b`).MatchString(said) {
			w.Failf("%s: what is said of the second does not name the first: %s", what, said)
		}
		w.NoError(h.Close(), "closing the driver")
	}
}

func configUnknown(w *World) {
	s := w.subject.Driver.Schema
	b := w.Bench()
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	const key = "zz_of_the_suite"
	for _, section := range [][]string{nil, {machinesKey(s), "a"}} {
		changed, err := edited(text, section, key, "1")
		w.Lab(err, "changing the lab's configuration")
		what := "a configuration with the unknown key " + key
		warnings := w.openConfig(changed, false, func(said string) {
			if said != "" {
				w.Failf("%s cannot be used: %s", what, said)
			}
		})
		if !slices.ContainsFunc(warnings, func(d config.Diagnostic) bool { return strings.HasSuffix(d.Path, key) && d.Line > 0 }) {
			w.Failf("%s is opened without a word about that", what)
		}
		w.openConfig(changed, true, func(said string) {
			if said == "" {
				w.Failf("%s is opened with Options.Strict", what)
			}
			w.placed(said, what+", opened with Options.Strict,", key)
		})
	}
}

func configTemplate(w *World) {
	d := w.subject.Driver
	if err := conftemplates.Check(d.Template, d.Schema); err != nil {
		w.Failf("the template %s.yaml.jinja2: %v", d.Name, err)
	}
}

func configDescribed(w *World) {
	s := w.subject.Driver.Schema
	if err := s.Validate(); err != nil {
		w.Failf("the schema: %v", err)
	}
	fieldCases(s, "a", func(section []string, f config.Field) {
		path := strings.Join(append(section[:len(section):len(section)], f.Key), ".")
		if strings.TrimSpace(f.Doc) == "" {
			w.Failf("the schema does not say what %s is for", path)
		}
		if !f.Optional && !f.AllowEmpty && f.Example == nil {
			w.Failf("the schema shows no example for %s, which is required", path)
		}
	})
}
