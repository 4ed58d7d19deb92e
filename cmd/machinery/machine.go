package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
	"github.com/machineries/machineries/machinery/config/edit"
)

// machineCommand is "machinery machine".
func machineCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "machine",
		Short: "Lists, adds, removes and imports machines of a configuration.",
		Long: `Lists the machines in a configuration file, adds and removes some, and imports
those of VMCloak. The name of the file says which driver it is for: qemu.yaml is
for the driver "qemu".

The file is changed where it has to be, and nowhere else: comments, order and
quotes stay. It is replaced as a whole, so that it is never there in part, and
not at all if another program changes it meanwhile.`,
		Example: `  machinery machine list -c qemu.yaml
  machinery machine import -c qemu.yaml ~/.vmcloak/vms/qemu
  machinery machine remove -c qemu.yaml win10_1`,
	}, machineListCommand(a), machineAddCommand(a), machineRemoveCommand(a), machineImportCommand(a))
}

// machineOptions are the flags of commands about the machines in a file.
type machineOptions struct {
	config string
	driver string
	static bool
	json   bool
}

func (o *machineOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.config, "config", "c", "", "the configuration `file`")
	f.StringVar(&o.driver, "driver", "", "the driver's `name` (default the stem of the file's name)")
	// It fails for a flag that does not exist, or has a function already.
	_ = cmd.RegisterFlagCompletionFunc("driver", cobra.FixedCompletions(driverNames(), cobra.ShellCompDirectiveNoFileComp))
}

// staticFlag adds --static, for a command that adds machines.
func (o *machineOptions) staticFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.static, "static", false, "leave out what depends on this host: files, interfaces")
}

// editable is the driver of a configuration file that is there, and has machines in its schema.
func editable(cmd *cobra.Command, path, named string) (machinery.Driver, machineSchema, error) {
	if path == "" {
		return machinery.Driver{}, machineSchema{}, usage(cmd, "name the configuration file, with -c")
	}
	if strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/proc/") {
		// What is behind such a name may be edited, but is not found there again.
		return machinery.Driver{}, machineSchema{}, failed(fmt.Errorf("%s is no file that can be replaced; name the configuration file itself", path))
	}
	d, err := driverOf(cmd, path, named)
	if err != nil {
		return d, machineSchema{}, err
	}
	for _, f := range d.Schema.Fields {
		if m, is := f.Type.(config.Machines); is {
			return d, machineSchema{d.Schema, f.Key, m.Fields}, nil
		}
	}
	return d, machineSchema{}, failed(fmt.Errorf("a configuration of the driver %q has no machines", d.Name))
}

// machineSchema is what a machine in a configuration can have.
type machineSchema struct {
	*config.Schema
	key    string // of all machines
	fields []config.Field
}

// has is whether machines have a key.
func (s machineSchema) has(key string) bool {
	return slices.ContainsFunc(s.fields, func(f config.Field) bool { return f.Key == key })
}

// keys are those that machines have, in the order of the schema.
func (s machineSchema) keys() []string {
	keys := make([]string, len(s.fields))
	for i, f := range s.fields {
		keys[i] = f.Key
	}
	return keys
}

// text is a machine's value of a key that is text; empty if machines have no such key.
func (s machineSchema) text(m config.Entry, key string) string {
	if !s.has(key) {
		return ""
	}
	return m.String(key)
}

// alone is a machine as it would be in a file with no other, and what is wrong there on this host that would not be on every host. It
// is nil if the values cannot be in a file at all; adding the machine to one then says why.
func (s machineSchema) alone(name string, settings []edit.Setting) (*config.Entry, config.Problems) {
	// What is missing or empty would keep the machine from being added; that is not what is asked for here.
	loose := slices.Clone(s.fields)
	for i := range loose {
		loose[i].Optional, loose[i].AllowEmpty = true, true
	}
	only := &config.Schema{Name: s.Name, Fields: []config.Field{{Key: s.key, Type: config.Machines{Fields: loose}}}}
	f, err := edit.Parse(s.Name, nil, only)
	if err != nil {
		return nil, nil
	}
	if err := f.AddMachine(name, settings); err != nil {
		// What is wrong everywhere is told when it is added to a file. What is left may be wrong here.
		wrong, _ := errors.AsType[config.Problems](err)
		left := slices.DeleteFunc(slices.Clone(settings), func(set edit.Setting) bool {
			return slices.ContainsFunc(wrong, func(d config.Diagnostic) bool {
				return strings.Contains(d.Path+".", "."+set.Key+".") || strings.Contains(d.Path, "."+set.Key+"[")
			})
		})
		if len(left) == len(settings) || len(left) == 0 {
			return nil, nil
		}
		_, found := s.alone(name, left)
		return nil, found
	}
	doc, err := config.Parse(s.Name, f.Bytes(), only)
	if doc == nil || len(doc.Machines()) != 1 {
		return nil, nil
	}
	found, _ := errors.AsType[config.Problems](err)
	found = slices.Clone(found.Errors())
	for i := range found { // their places are in a file that nobody has seen
		found[i].Position, found[i].Text = config.Position{}, ""
	}
	return &doc.Machines()[0], found
}

// addMachine adds a machine to a file that is being edited, if nothing is wrong with it: on this host, too, unless static is set.
func (s machineSchema) addMachine(f *edit.File, name string, settings []edit.Setting, static bool) error {
	var here config.Problems
	if !static {
		_, here = s.alone(name, settings)
	}
	if len(here) == 0 {
		return f.AddMachine(name, settings)
	}
	trial, err := edit.Parse(f.Name(), f.Bytes(), s.Schema)
	if err == nil {
		err = trial.AddMachine(name, settings)
	}
	if other, is := errors.AsType[config.Problems](err); is {
		here = append(slices.Clone(other), here...)
	} else if err != nil {
		return err
	} else {
		last := &here[len(here)-1]
		*last = last.WithHint(strings.TrimPrefix(last.Hint+"; with --static it is added all the same", "; "))
	}
	for i := range here {
		here[i].File = f.Name()
	}
	return here
}
