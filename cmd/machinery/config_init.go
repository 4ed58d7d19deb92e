package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery"
)

// configInitCommand is "machinery config init".
func configInitCommand(a *app) *cobra.Command {
	schemas := false
	cmd := &cobra.Command{
		Use:   "init DIR [DRIVER...]",
		Short: "Writes an example of each driver's configuration.",
		Long: `Writes an example of each driver's configuration to a directory, or of those
that are named: a file with every key, each with a comment that says what it is
for. The directory is made if it is not there. A file that is there already is
left alone.

With --schemas a JSON Schema is written beside each new file, which names it in
its first line: editors with the YAML language server complete keys by it.`,
		Example: "  machinery config init /etc/machineries\n  machinery config init --schemas . qemu",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "name the directory to write to")
			}
			names := args[1:]
			if len(names) == 0 {
				names = driverNames()
			}
			var drivers []machinery.Driver
			for _, name := range names {
				d, err := machinery.Lookup(name)
				if err != nil {
					return usage(cmd, "there is no driver %q; %s", name, meant(name, driverNames()))
				}
				drivers = append(drivers, d)
			}
			return failed(a.initConfigs(args[0], drivers, schemas))
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return driverNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&schemas, "schemas", false, "write a JSON Schema beside each file, for editors")
	return cmd
}

// schemaSuffix follows the driver's name in the name of the file with its JSON Schema.
const schemaSuffix = ".schema.json"

// initConfigs writes the examples. What one driver's has wrong does not keep the others from being written.
func (a *app) initConfigs(dir string, drivers []machinery.Driver, schemas bool) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("the directory %s cannot be made: %w", dir, pathReason(err))
	}
	var problems []error
	for _, d := range drivers {
		if err := a.initConfig(dir, d, schemas); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// initConfig writes the example of a driver, and its schema before it, so that no file names one that is not there.
func (a *app) initConfig(dir string, d machinery.Driver, schemas bool) error {
	path := filepath.Join(dir, d.Name+".yaml")
	info, err := os.Lstat(path)
	there := err == nil
	if there {
		if target, err := os.Stat(path); err != nil || !target.Mode().IsRegular() {
			return fmt.Errorf("%s cannot be written: it is %s", path, kindOfFile(info.Mode()))
		}
	}
	line := ""
	if schemas {
		name := d.Name + schemaSuffix
		line = "# yaml-language-server: $schema=" + name
		schema, err := d.Schema.JSONSchema(false)
		if err != nil {
			return err
		}
		if err := a.writeNew(filepath.Join(dir, name), schema); err != nil {
			return err
		}
	}
	if there {
		text := oneLine(path) + " is there already, and was left alone"
		if data, err := os.ReadFile(path); line != "" && err == nil && !strings.Contains(string(data), line) {
			text += "; for editors to find the schema, put this line at its top:\n  " + line
		}
		fmt.Fprint(a.out, a.outTerm.fold(text+"\n"))
		return nil
	}
	text, err := conftemplates.Example(d)
	if err != nil {
		return fmt.Errorf("the template of the driver %q cannot be rendered: %w", d.Name, err)
	}
	if line != "" {
		text = append([]byte(line+"\n"), text...)
	}
	return a.writeNew(path, text)
}

// kindOfFile is what there is instead of a file.
func kindOfFile(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link that leads to no file"
	}
	return "something else"
}

// writeNew writes a file that is not there yet. It is there whole or not at all.
func (a *app) writeNew(path string, text []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s cannot be written: %w", path, pathReason(err))
		}
	}()
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()+".new"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	switch err := os.Link(f.Name(), path); { // which, other than a rename, replaces nothing
	case errors.Is(err, fs.ErrExist):
		fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s is there already, and was left alone\n", oneLine(path))))
		return nil
	case err != nil:
		return err
	}
	fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s was written\n", oneLine(path))))
	return nil
}

// pathReason is the operating system's reason without a path, which the message has already.
func pathReason(err error) error {
	if e, is := errors.AsType[*os.PathError](err); is {
		return e.Err
	}
	if e, is := errors.AsType[*os.LinkError](err); is {
		return e.Err
	}
	return err
}
