package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/machineries/machineries/internal/vmcloak"
	"github.com/machineries/machineries/machinery/config"
	"github.com/machineries/machineries/machinery/config/edit"
)

// interfaceKey is the key of a machine's network interface, and that of all which have none of their own.
const interfaceKey = "interface"

// settings are the values of a machine in the configuration. Its interface is not among them if it is the one of all machines.
func (i *importer) settings(m *vmcloak.Machine, now *config.Document) []edit.Setting {
	all := []edit.Setting{
		{Key: "qcow2_path", Value: m.DiskPath}, {Key: "snapshot_path", Value: m.SnapshotPath}, {Key: "machineinfo_path", Value: m.InfoPath},
		{Key: "ip", Value: m.IP}, {Key: "platform", Value: m.OSName}, {Key: "os_version", Value: m.OSVersion}, {Key: "architecture", Value: m.Architecture},
		{Key: "agent_port", Value: m.AgentPort}, {Key: "tags", Value: m.Tags},
	}
	if m.Tags == nil {
		all[len(all)-1].Value = nil
	}
	if m.MAC != "" {
		all = append(all, edit.Setting{Key: "mac_address", Value: m.MAC})
	}
	if m.Bridge != "" && m.Bridge != i.common(now) {
		all = append(all, edit.Setting{Key: interfaceKey, Value: m.Bridge})
	}
	return slices.DeleteFunc(all, func(s edit.Setting) bool { return !i.schema.has(s.Key) })
}

// common is the interface of all machines that have none of their own.
func (i *importer) common(now *config.Document) string {
	if now == nil || !slices.ContainsFunc(i.schema.Fields, func(f config.Field) bool { return f.Key == interfaceKey }) {
		return ""
	}
	return now.String(interfaceKey)
}

// differences tells a machine that is there from the one to import, in what comes from VMCloak; empty if they are the same. What
// else the user has written for it is not looked at.
func (i *importer) differences(m *imported, settings []edit.Setting, now *config.Document, there *config.Entry) string {
	wanted, _ := i.schema.alone(m.Name, settings)
	if wanted == nil {
		return fmt.Sprintf("there is a machine of that name, on line %d, and this one has values that cannot be in a configuration", there.Position().Line)
	}
	var different []string
	for _, f := range i.schema.fields {
		if !slices.ContainsFunc(settings, func(s edit.Setting) bool { return s.Key == f.Key }) && f.Key != interfaceKey {
			continue
		}
		have, want := plainValue(there.Values, f), plainValue(wanted.Values, f)
		if f.Key == interfaceKey {
			have, want = cmp.Or(have, i.common(now)), cmp.Or(m.machine.Bridge, have, i.common(now))
		}
		if have != want && !samePath(f, have, want) {
			different = append(different, fmt.Sprintf("%s is %q there, and %q here", f.Key, have, want))
		}
	}
	if len(different) == 0 {
		return ""
	}
	return fmt.Sprintf("there is another machine of that name, on line %d, which was left alone:\n%s\nto have both, say --name; to have this one instead, remove the other first",
		there.Position().Line, strings.Join(different, "\n"))
}

// plainValue is a value as one text.
func plainValue(v *config.Values, f config.Field) string {
	switch f.Type.(type) {
	case config.Int:
		return fmt.Sprint(v.Int(f.Key))
	case config.List:
		return strings.Join(v.Strings(f.Key), ", ")
	}
	return canonical(v.String(f.Key))
}

// samePath is whether two values are paths of one file.
func samePath(f config.Field, a, b string) bool {
	if _, is := f.Type.(config.FilePath); !is {
		return false
	}
	one, err := os.Stat(a)
	other, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, other)
}

// tellImported says what became of a machine: what was done on stdout, and what was not, or will not work, on stderr.
func (a *app) tellImported(m *imported) {
	name := cmp.Or(oneLine(m.Name), oneLine(m.Directory))
	for _, w := range m.Warnings {
		a.say("machinery: ", fmt.Sprintf("%s: warning: %s", name, w))
	}
	if m.Error != "" {
		a.complain(errors.New(name + ": not imported: " + m.Error))
		return
	}
	fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s: %s\n", name, m.Result)))
}
