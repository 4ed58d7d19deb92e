package main

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// configCommand is "machinery config".
func configCommand(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Writes, checks and shows configuration files.",
		Long: `Writes examples of configuration files, checks and shows files, and tells what
can be in them. None of these commands asks a hypervisor; "machinery vm check"
does.`,
		Example: `  machinery config init .
  machinery config check qemu.yaml kvm.yaml
  machinery config schema qemu --reference`,
	}, configCheckCommand(a), configSchemaCommand(a), configShowCommand(a), configInitCommand(a))
}

// configOptions are the flags of commands that read configuration files.
type configOptions struct {
	driver string
	strict bool
	static bool
	json   bool
}

func (o *configOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", "", "the driver's `name` (default the stem of the file's name)")
	f.BoolVar(&o.strict, "strict", false, "take warnings, such as unknown keys, for errors")
	f.BoolVar(&o.static, "static", false, "leave out what depends on this host: files, interfaces")
	f.BoolVar(&o.json, "json", false, "write JSON")
	// It fails for a flag that does not exist, or has a function already.
	_ = cmd.RegisterFlagCompletionFunc("driver", cobra.FixedCompletions(driverNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
}

// load reads a configuration. The error is of usage where it cannot be told which driver the file is for; what is wrong with
// the file is config.Problems, and the Document may then be there too.
func (o *configOptions) load(cmd *cobra.Command, path string) (*config.Document, error) {
	d, err := driverOf(cmd, path, o.driver)
	if err != nil {
		return nil, err
	}
	doc, err := config.Options{Strict: o.strict, Static: o.static}.Load(path, d.Schema)
	if _, wrong := errors.AsType[config.Problems](err); err != nil && !wrong {
		return nil, failed(err)
	}
	return doc, err
}

// driverOf is the driver that a configuration file is for: the named one, or that of the stem of the file's name.
func driverOf(cmd *cobra.Command, path, named string) (machinery.Driver, error) {
	if named != "" && !slices.Contains(driverNames(), named) {
		return machinery.Driver{}, usage(cmd, "there is no driver %q; %s", named, meant(named, driverNames()))
	}
	// A name that leads nowhere says nothing of a driver.
	if err := isFile(path); err != nil {
		return machinery.Driver{}, failed(err)
	}
	base := filepath.Base(path)
	name := cmp.Or(named, strings.TrimSuffix(base, filepath.Ext(base)))
	d, err := machinery.Lookup(name)
	if err == nil {
		return d, nil
	}
	how := "--driver says which to use"
	if cmd.Flags().Lookup("driver") == nil {
		how = "name the one to use"
	}
	return d, usage(cmd, "the name of %s should tell the driver, and there is no driver %q; %s: %s", path, name, how, strings.Join(driverNames(), ", "))
}
