package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/machineries/machineries/machinery/config"
	"github.com/machineries/machineries/machinery/config/edit"
)

// machineAddCommand is "machinery machine add".
func machineAddCommand(a *app) *cobra.Command {
	var o machineOptions
	cmd := &cobra.Command{
		Use:   "add -c FILE NAME KEY=VALUE...",
		Short: "Adds a machine to a configuration.",
		Long: `Adds a machine to a configuration file, after those that are there and laid out
like them. The keys are those of the driver ("machinery config schema DRIVER
--reference" explains them). A list is written tags=a,b or tags=a tags=b; no
value at all is written tags=.

The machine is checked before anything is written, and all that is wrong with it
is said at once. Files and interfaces that the driver wants to be there have to
be, unless --static is given. That the rest of the file has mistakes is told,
and is no hindrance.

Exit status: 0 if the machine was added, 1 if not, 2 for wrong usage.`,
		Example: `  machinery machine add -c kvm.yaml win10_2 label=win10_2 ip=192.168.122.102 \
    platform=windows os_version=10 architecture=amd64 tags=office,dotnet`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, s, err := editable(cmd, o.config, o.driver)
			switch {
			case err != nil:
				return err
			case len(args) == 0:
				return usage(cmd, "name the machine to add, and its values")
			case strings.Contains(args[0], "="):
				return usage(cmd, "name the machine before its values; %q has a \"=\"", args[0])
			}
			settings, err := parseSettings(cmd, s.fields, args[1:])
			if err != nil {
				return err
			}
			name := args[0]
			if problem := nameProblem(name); problem != "" {
				return usage(cmd, "%s", problem)
			}
			if err := edit.Update(o.config, d.Schema, func(f *edit.File) error { return s.addMachine(f, name, settings, o.static) }); err != nil {
				if problems, is := errors.AsType[config.Problems](err); is {
					err = s.asArguments(problems, name, settings)
				}
				return failed(err)
			}
			fmt.Fprint(a.out, a.outTerm.fold(fmt.Sprintf("%s: added to %s\n", oneLine(name), oneLine(o.config))))
			// The file has the machine now; what else is wrong is no failure of this command.
			_, err = config.Options{Static: o.static}.Load(o.config, d.Schema)
			if problems, _ := errors.AsType[config.Problems](err); len(problems.Errors()) > 0 {
				a.say("machinery: ", fmt.Sprintf("other things in %s are wrong; \"machinery config check %s\" tells them", oneLine(o.config), shellQuote(o.config)))
			}
			return nil
		},
	}
	o.flags(cmd)
	o.staticFlag(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		_, s, err := editable(cmd, o.config, o.driver)
		if err != nil || len(args) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var keys []string
		for _, key := range s.keys() {
			if !slices.ContainsFunc(args[1:], func(arg string) bool { return strings.HasPrefix(arg, key+"=") }) {
				keys = append(keys, key+"=")
			}
		}
		return keys, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return cmd
}

// newName is what the name of a machine that is added may be. It comes to stand in file names and on command lines.
var newName = regexp.MustCompile(`^[\pL\pN][\pL\pN_.-]*$`)

// nameProblem is what is wrong with the name of a new machine; empty if nothing is.
func nameProblem(name string) string {
	if newName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf("a machine cannot be called %q: a name has letters, digits, dots, dashes and underscores, and begins with a letter or a digit", name)
}

// asArguments is what is wrong with a new machine, in the words of the command line: what the library says is about a file.
func (s machineSchema) asArguments(problems config.Problems, name string, settings []edit.Setting) config.Problems {
	out := slices.Clone(problems)
	for i := range out {
		d := &out[i]
		keys, is := strings.CutPrefix(d.Path, s.key+"."+name)
		if !is {
			continue
		}
		if keys == "" && len(settings) == 0 {
			d.Problem, d.Hint = "it is given no values", "it needs "+s.needed()
			continue
		}
		path := strings.TrimPrefix(keys, ".")
		f, state := lookFor(s.fields, settings, strings.Split(path, "."))
		switch state {
		case notGiven:
			d.Problem, d.Hint = "it is not given", strings.TrimSpace(f.Doc+" Add, for example: "+argument(path, f))
		case givenEmpty:
			d.Problem, d.Hint = "its value is empty", "write, for example: "+argument(path, f)
		}
	}
	return out
}

// needed are the values that every machine needs, as arguments.
func (s machineSchema) needed() string {
	var all []string
	for _, f := range s.fields {
		if !f.Optional {
			all = append(all, argument(f.Key, f))
		}
	}
	return strings.Join(all, " ")
}

// argument is an example of a value, as a shell takes it.
func argument(path string, f config.Field) string {
	value := f.Example
	if value == nil {
		value = f.Default
	}
	switch v := value.(type) {
	case nil:
		return path + "=…"
	case []string:
		return shellQuote(path + "=" + strings.Join(v, ","))
	}
	return shellQuote(fmt.Sprintf("%s=%v", path, value))
}

// How a value was given.
const (
	given = iota
	notGiven
	givenEmpty
)

// lookFor finds the field at a path, and tells whether it was given a value.
func lookFor(fields []config.Field, settings []edit.Setting, keys []string) (config.Field, int) {
	i := slices.IndexFunc(fields, func(f config.Field) bool { return f.Key == keys[0] })
	if i < 0 {
		return config.Field{}, given
	}
	at := slices.IndexFunc(settings, func(set edit.Setting) bool { return set.Key == keys[0] })
	section, nested := fields[i].Type.(config.Section)
	switch {
	case nested && len(keys) > 1:
		var inner []edit.Setting
		if at >= 0 {
			inner, _ = settings[at].Value.([]edit.Setting)
		}
		return lookFor(section.Fields, inner, keys[1:])
	case len(keys) > 1:
		return fields[i], given
	case at < 0:
		return fields[i], notGiven
	case settings[at].Value == nil:
		return fields[i], givenEmpty
	}
	return fields[i], given
}

// parseSettings reads the values of a machine from a command line: key=value, and section.key=value for those in a section or in a
// mapping.
func parseSettings(cmd *cobra.Command, fields []config.Field, args []string) ([]edit.Setting, error) {
	var settings []edit.Setting
	for _, arg := range args {
		path, text, is := strings.Cut(arg, "=")
		if !is || path == "" {
			return nil, usage(cmd, "%q is no value; write key=value", arg)
		}
		if err := setValue(cmd, fields, &settings, path, strings.Split(path, "."), text); err != nil {
			return nil, err
		}
	}
	return settings, nil
}

// setValue puts one value where its path leads to.
func setValue(cmd *cobra.Command, fields []config.Field, settings *[]edit.Setting, path string, keys []string, text string) error {
	i := slices.IndexFunc(fields, func(f config.Field) bool { return f.Key == keys[0] })
	if i < 0 {
		known := make([]string, len(fields))
		for i, f := range fields {
			known[i] = f.Key
		}
		return usage(cmd, "a machine has no key %q; %s", path, meant(keys[0], known))
	}
	at := slices.IndexFunc(*settings, func(s edit.Setting) bool { return s.Key == keys[0] })
	if at < 0 {
		at = len(*settings)
		*settings = append(*settings, edit.Setting{Key: keys[0]})
	} else if (*settings)[at].Value == nil {
		return usage(cmd, "%s is given twice, and once without a value", keys[0])
	}
	have := &(*settings)[at].Value
	if len(keys) == 1 && text == "" {
		if *have != nil {
			return usage(cmd, "%s is given twice, and once without a value", path)
		}
		return nil
	}
	switch t := fields[i].Type.(type) {
	case config.Section:
		if len(keys) == 1 {
			return usage(cmd, "%s is a section; write %s.KEY=VALUE", path, path)
		}
		inner, _ := (*have).([]edit.Setting)
		err := setValue(cmd, t.Fields, &inner, path, keys[1:], text)
		*have = inner
		return err
	case config.Dict:
		if len(keys) == 1 {
			return usage(cmd, "%s holds names with values; write %s.NAME=VALUE", path, path)
		}
		pairs, _ := (*have).([]config.Pair)
		*have = append(pairs, config.Pair{Key: strings.Join(keys[1:], "."), Value: text})
		return nil
	case config.DictList:
		return usage(cmd, "%s is a list of sections, which cannot be given here; add it to the file in an editor", path)
	case config.List:
		if len(keys) > 1 {
			break
		}
		list, _ := (*have).([]string)
		*have = append(list, strings.Split(text, ",")...)
		return nil
	default:
		if len(keys) > 1 {
			break
		}
		if *have != nil {
			return usage(cmd, "%s is given twice", path)
		}
		*have = text
		return nil
	}
	return usage(cmd, "there is nothing below %s; write %s=VALUE", keys[0], keys[0])
}
