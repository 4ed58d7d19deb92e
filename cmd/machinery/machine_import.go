package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/internal/vmcloak"
	"github.com/machineries/machineries/machinery/config"
	"github.com/machineries/machineries/machinery/config/edit"
)

// machineImportCommand is "machinery machine import".
func machineImportCommand(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import -c FILE DIR...",
		Short: "Adds the machines of VMCloak to a configuration.",
		Long: `Adds machines that VMCloak has made to a configuration file. A directory is one
machine's, with its machineinfo.json, or has such directories in it. The files
stay where they are.

What will not work is told: a snapshot that is empty, cut short or of another
version of QEMU, a disk whose base is missing, arguments that QEMU does not have
any more or that the driver refuses, files of other users. Packed snapshots are
read through for that. A machine whose files or network interface are not there
at all is not added, unless --static is given.

It can be repeated: a machine that is in the configuration already is left
alone, and so is one of the same name with other values, which are told.

Exit status: 0 if all machines are in the configuration, 1 if one could not be
added, 2 for wrong usage.`,
		Example: `  machinery machine import -c qemu.yaml ~/.vmcloak/vms/qemu
  machinery machine import -c qemu.yaml --dry-run ~/.vmcloak/vms/qemu
  machinery machine import -c qemu.yaml --name office ./win10_1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := o.newImporter(cmd, args)
			if err != nil {
				return err
			}
			err = i.run(cmd.Context(), a)
			if o.json {
				if err := a.writeJSON(i.machines); err != nil {
					return err
				}
			}
			if err != nil {
				return failed(err)
			}
			if slices.ContainsFunc(i.machines, func(m *imported) bool { return m.Error != "" }) {
				return &failure{status: exitFailed}
			}
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	o.flags(cmd)
	o.staticFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "call the machine by this `name`; for a single one")
	f.BoolVar(&o.dry, "dry-run", false, "only tell what would be done")
	f.BoolVar(&o.quick, "quick", false, "do not read packed snapshots through")
	f.BoolVar(&o.json, "json", false, "write JSON")
	return cmd
}

// importOptions are the flags of "machine import".
type importOptions struct {
	machineOptions
	name       string
	dry, quick bool
}

// imported is what became of a machine, for programs.
type imported struct {
	Name      string `json:"name,omitempty"`
	Directory string `json:"directory"`
	// Result is one of the words below; empty if it could not be imported.
	Result   string   `json:"result,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`

	machine *vmcloak.Machine
}

// What became of machines.
const (
	wasAdded   = "added"
	wouldAdd   = "would be added"
	thereSame  = "there already"
	thereOther = "there with other values"
)

// importer is one import.
type importer struct {
	importOptions
	schema   machineSchema
	driver   string
	machines []*imported
}

// importedKeys are those that a driver's machines must have to be what VMCloak makes.
var importedKeys = []string{"qcow2_path", "snapshot_path", "machineinfo_path", "ip"}

// newImporter finds the machines to import.
func (o *importOptions) newImporter(cmd *cobra.Command, args []string) (*importer, error) {
	d, s, err := editable(cmd, o.config, o.driver)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, usage(cmd, "name VMCloak's directory of a machine, or of several, such as ~/.vmcloak/vms/qemu")
	}
	for _, key := range importedKeys {
		if !s.has(key) {
			return nil, usage(cmd, "the machines of VMCloak run in QEMU alone, and %s is for the driver %q, whose machines have no %s", o.config, d.Name, key)
		}
	}
	i := &importer{importOptions: *o, schema: s, driver: d.Name}
	for _, arg := range args {
		dirs, err := vmcloak.Find(arg)
		if err != nil {
			i.machines = append(i.machines, &imported{Directory: arg, Error: err.Error()})
		}
		for _, dir := range dirs {
			// One that a symbolic link leads to, too, is there once.
			if !slices.ContainsFunc(i.machines, func(m *imported) bool { return sameFile(m.Directory, dir) }) {
				i.machines = append(i.machines, &imported{Directory: dir})
			}
		}
	}
	if o.name != "" && len(i.machines) > 1 {
		return nil, usage(cmd, "--name is for a single machine, and here are %d", len(i.machines))
	}
	for _, m := range i.machines {
		if m.Error != "" {
			continue
		}
		if m.machine, err = vmcloak.Read(m.Directory); err != nil {
			m.Error = err.Error()
			continue
		}
		m.Name = m.machine.Name
		if o.name != "" {
			m.Name = o.name
		}
		if problem := nameProblem(m.Name); problem != "" {
			m.Error, m.machine = problem+"; --name gives it another", nil
		}
	}
	return i, nil
}

// run imports the machines. Its error is why nothing was written; what is wrong with a machine is in its Error.
func (i *importer) run(ctx context.Context, a *app) error {
	f, err := edit.Open(i.config, i.schema.Schema)
	if err != nil {
		return err
	}
	now, err := i.parse(f)
	if err != nil {
		return err
	}
	i.check(ctx, a, now)
	if ctx.Err() != nil {
		return fmt.Errorf("nothing was written: %w", context.Cause(ctx))
	}
	if i.dry {
		err = i.addTo(f)
	} else {
		err = edit.Update(i.config, i.schema.Schema, i.addTo)
	}
	for _, m := range i.machines {
		if err != nil && m.Result == wasAdded {
			m.Result, m.Error = "", "it was not added, because the file could not be written"
		}
		if !i.json {
			a.tellImported(m)
		}
	}
	return err
}

// parse reads what the file has by now.
func (i *importer) parse(f *edit.File) (*config.Document, error) {
	doc, err := config.Options{Static: true}.Parse(f.Name(), f.Bytes(), i.schema.Schema)
	if _, wrong := errors.AsType[config.Problems](err); err != nil && !wrong {
		return nil, err
	}
	return doc, nil // nil for a file with nothing but comments
}

// check finds out what will not work with the machines that are to be added.
func (i *importer) check(ctx context.Context, a *app, now *config.Document) {
	o := vmcloak.Options{Quick: i.quick}
	var allowed []string
	if now != nil {
		o.QEMU, allowed = i.emulator(ctx, a, now)
	}
	o.Review = platformReview(i.driver, allowed)
	for _, m := range i.machines {
		if m.machine != nil && entryOf(now, m.Name) == nil {
			m.Warnings = m.machine.Check(ctx, o)
			if m.Name == i.name { // which says that another name than the directory's is meant
				m.Warnings = slices.DeleteFunc(m.Warnings, func(w string) bool { return w == m.machine.Renamed() })
			}
		}
	}
}

// emulator asks the emulator of a configuration for its version. allowed are the arguments that the configuration allows all machines.
func (i *importer) emulator(ctx context.Context, a *app, now *config.Document) (version string, allowed []string) {
	path := ""
	for _, f := range i.schema.Fields {
		switch t := f.Type.(type) {
		case config.List:
			if f.Key == "allow_arguments" {
				allowed = now.Strings(f.Key)
			}
		case config.Section:
			const key = "qemu_system_x86_64"
			if f.Key == "binaries" && slices.ContainsFunc(t.Fields, func(f config.Field) bool { return f.Key == key }) {
				path = now.Section(f.Key).String(key)
			}
		}
	}
	if path == "" {
		return "", allowed
	}
	version, err := vmcloak.EmulatorVersion(ctx, path)
	if err != nil && ctx.Err() == nil {
		a.say("machinery: ", "warning: it cannot be told whether the snapshots fit the QEMU that is installed: "+err.Error())
	}
	return version, allowed
}

// entryOf is the machine of a name, or nil.
func entryOf(doc *config.Document, name string) *config.Entry {
	if doc == nil {
		return nil
	}
	entries := doc.Machines()
	at := slices.IndexFunc(entries, func(e config.Entry) bool { return e.Name == name })
	if at < 0 {
		return nil
	}
	return &entries[at]
}

// addTo adds the machines that can be added, and says of each what became of it.
func (i *importer) addTo(f *edit.File) error {
	now, err := i.parse(f)
	if err != nil {
		return err
	}
	for _, m := range i.machines {
		if m.machine == nil {
			continue
		}
		m.Result, m.Error = "", ""
		settings := i.settings(m.machine, now)
		if there := entryOf(now, m.Name); there != nil {
			m.Result = thereSame
			if differences := i.differences(m, settings, now, there); differences != "" {
				m.Result, m.Error = thereOther, differences
			}
			continue
		}
		if err := i.schema.addMachine(f, m.Name, settings, i.static); err != nil {
			m.Error = err.Error()
			// That a file is not there is why it was not added, and need not be told twice.
			m.Warnings = slices.DeleteFunc(m.Warnings, func(w string) bool { return !i.static && strings.HasSuffix(w, ": there is no such file") })
			continue
		}
		m.Result = wasAdded
		if i.dry {
			m.Result = wouldAdd
		}
		if now, err = i.parse(f); err != nil {
			return err
		}
	}
	return nil
}
