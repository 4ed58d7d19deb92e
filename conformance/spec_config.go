package conformance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// configSpecs: what a driver's schema says of its file is what the driver does. The files are made from the schema itself.
var configSpecs = []spec{
	{Requirement{ID: "MM-CONFIG-001", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A required key that is missing makes the file, or the machine that lacks it, unusable; what is said names the key and its place in the file. An optional one may be missing.",
		Why:    "A machine that runs with half of its settings gives results that nobody can explain.",
		Source: "config.Field, Optional"}, configMissing},
	{Requirement{ID: "MM-CONFIG-002", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A key without a value makes the file, or its machine, unusable where the schema does not let it be empty, with the key and its place; where it does, the file can be used.",
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
	{Requirement{ID: "MM-CONFIG-010", Level: Must, Op: machinery.OpOpen,
		Rule:   "What Machines says of a machine is what its file says: a text as it was written, in lower case where the schema wants that, lists in their order, and the schema's default for a key that is not there.",
		Why:    "An analysis is run on the machine that says it is Windows 10 version 18.10; one that says 18.1 is never chosen.",
		Source: "machinery.Machine; config.String, ToLower; config.Field, Default"}, configValues},
	{Requirement{ID: "MM-CONFIG-011", Level: Must, Op: machinery.OpOpen, Needs: []Feature{FeaturePower},
		Rule:   "A key that stands twice in a machine, with two values, makes the machine unusable; what is said names the key and its place.",
		Why:    "Which of the two was meant nobody knows, and a reader of YAML that takes the last one does not tell.",
		Source: "package config; YAML 1.2, 3.2.1.1"}, configTwice},
}

func configMissing(w *World) {
	missing, _ := requiredCases(w.subject.Driver.Schema, "a")
	w.configCases(w.Bench(), missing)
}

func configEmpty(w *World) {
	_, empty := requiredCases(w.subject.Driver.Schema, "a")
	w.configCases(w.Bench(), empty)
}

func configForms(w *World) { w.configCases(w.Bench(), formCases(w.subject.Driver.Schema, "a")) }

func configBounds(w *World) { w.configCases(w.Bench(), boundCases(w.subject.Driver.Schema, "a")) }

func configHost(w *World) {
	b := w.Bench()
	cases, err := hostCases(w.subject.Driver.Schema, "a", b.ConfigPath())
	w.Lab(err, "making cases of what has to be on the host")
	w.configCases(b, cases)
}

// configCases opens the driver with each value in the place of the lab's own.
func (w *World) configCases(b Bench, cases []configCase) {
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	w.openConfig(text, false, func(said complaint) {
		if said.text != "" {
			w.Failf("the lab's own configuration cannot be used: %s", said.text)
		}
	})
	for _, c := range cases {
		if c.taken && c.vacant {
			// What the lab has set its machine may need.
			filled, err := c.filled(text)
			w.Lab(err, "reading the lab's configuration")
			if filled {
				continue
			}
		}
		changed, err := edited(text, c.section, c.field.Key, c.value)
		w.Lab(err, "changing the lab's configuration")
		what := "a configuration in which " + c.path() + " " + c.what
		w.openConfig(changed, false, func(said complaint) {
			switch {
			// A value can be right and have the driver give up, as a time-out of a millisecond does.
			case c.taken && (said.config || strings.Contains(said.text, c.field.Key)):
				w.Failf("%s is refused, though the schema permits it: %s", what, said.text)
			case c.taken:
			case said.text == "":
				w.Failf("%s was opened, and its machine is as usable as any; the schema says %s", what, c.field.Type.Describe())
			default:
				w.placed(said.text, what, changed, c.section, c.field.Key)
			}
		})
	}
}

// placed fails the check unless the words name the key and its place in the file, which has that text. Of a key that is missing the place is the
// section that lacks it.
func (w *World) placed(said, what string, text []byte, section []string, key string) {
	if !strings.Contains(said, key) {
		w.Failf("%s is refused without naming the key %q: %s", what, key, said)
	}
	file := filepath.Base(w.bench.ConfigPath())
	places := regexp.MustCompile(regexp.QuoteMeta(file)+`:(\d+)`).FindAllStringSubmatch(said, -1)
	if len(places) == 0 {
		w.Failf("%s is refused without the place in the file (%s:LINE): %s", what, file, said)
	}
	first, last, err := linesOf(text, section, key)
	w.Lab(err, "finding the key in the configuration")
	if !slices.ContainsFunc(places, func(place []string) bool {
		line, _ := strconv.Atoi(place[1])
		return line >= first && line <= last
	}) {
		w.Failf("%s is refused with another place than that of the key, which is %s:%d: %s", what, file, first, said)
	}
}

// complaint is what is said against a file, or against its machine; text is empty if both can be used.
type complaint struct {
	text   string
	config bool // it is the configuration that is said to be wrong
}

// openConfig opens the driver with a text as its configuration, and tells what is said against the file or the machine "a".
func (w *World) openConfig(text []byte, strict bool, tell func(complaint)) (warnings []config.Diagnostic) {
	w.Lab(os.WriteFile(w.bench.ConfigPath(), text, 0o600), "writing a configuration")
	h, err := w.tryOpen(machinery.Options{RuntimeDir: w.bench.RuntimeDir(), Strict: strict, Warn: func(d config.Diagnostic) {
		if d.Severity == config.Warning {
			warnings = append(warnings, d)
		}
	}})
	if err != nil {
		tell(complaint{err.Error(), errors.Is(err, machinery.ErrConfig)})
		return nil
	}
	defer h.Close()
	tell(w.saidOf(h, "a"))
	return warnings
}

// saidOf is what is wrong with a machine; empty for one that can be used.
func (w *World) saidOf(h *Handle, name string) complaint {
	s, err := h.State(name)
	switch {
	case err != nil:
		return complaint{err.Error(), errors.Is(err, machinery.ErrConfig)}
	case s.State == machinery.StateError:
		return complaint{s.Reason + ": " + s.Detail, s.Reason == machinery.ErrConfig.Error()}
	}
	return complaint{}
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
		said := w.saidOf(h, "b").text
		if said == "" {
			w.Failf("%s: the second can be used; the schema says that the values have to differ", what)
		}
		w.placed(said, what, same, []string{machines, "b"}, key)
		if !strings.Contains(said, machines+".a") && !regexp.MustCompile(`\ba\b`).MatchString(said) {
			w.Failf("%s: what is said of the second does not name the first: %s", what, said)
		}
		if line, _, err := linesOf(same, []string{machines, "a"}, key); err != nil || !regexp.MustCompile(fmt.Sprintf(`(line |:)%d\b`, line)).MatchString(said) {
			w.Lab(err, "finding the key in the configuration")
			w.Failf("%s: what is said of the second does not say that the first has it on line %d: %s", what, line, said)
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
		warnings := w.openConfig(changed, false, func(said complaint) {
			if said.text != "" {
				w.Failf("%s cannot be used: %s", what, said.text)
			}
		})
		if !slices.ContainsFunc(warnings, func(d config.Diagnostic) bool { return strings.HasSuffix(d.Path, key) && d.Line > 0 }) {
			w.Failf("%s is opened without a word about that", what)
		}
		w.openConfig(changed, true, func(said complaint) {
			if said.text == "" {
				w.Failf("%s is opened with Options.Strict", what)
			}
			w.placed(said.text, what+", opened with Options.Strict,", changed, section, key)
		})
	}
}

func configTwice(w *World) {
	s := w.subject.Driver.Schema
	b := w.Bench()
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	section := []string{machinesKey(s), "a"}
	fieldCases(s, "a", func(in []string, f config.Field) {
		if !slices.Equal(in, section) {
			return
		}
		changed, there, err := doubled(text, section, f.Key)
		w.Lab(err, "changing the lab's configuration")
		if !there {
			return
		}
		what := "a configuration in which a machine has " + f.Key + " twice"
		w.openConfig(changed, false, func(said complaint) {
			if said.text == "" {
				w.Failf("%s was opened, and its machine is as usable as any", what)
			}
			w.placed(said.text, what, changed, section, f.Key)
		})
	})
}

func configValues(w *World) {
	b := w.Bench()
	text, err := os.ReadFile(b.ConfigPath())
	w.Lab(err, "reading the lab's configuration")
	for _, c := range valueCases(w.subject.Driver.Schema, "a") {
		changed, err := edited(text, c.section, c.field.Key, c.value)
		w.Lab(err, "changing the lab's configuration")
		w.Lab(os.WriteFile(b.ConfigPath(), changed, 0o600), "writing a configuration")
		h, err := w.tryOpen(machinery.Options{RuntimeDir: b.RuntimeDir()})
		w.NoError(err, "opening a configuration in which %s %s", c.path(), c.what)
		machines := h.M.Machines()
		i := slices.IndexFunc(machines, func(m machinery.Machine) bool { return m.Name == "a" })
		if i < 0 {
			w.Failf("the machine \"a\" is not listed when its %s %s", c.field.Key, c.what)
		}
		if got := fmt.Sprint(c.read(machines[i])); got != c.want {
			w.Failf("of a machine whose %s %s Machines says %q, and not %q", c.field.Key, c.what, got, c.want)
		}
		w.NoError(h.Close(), "closing the driver")
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
