//go:build linux

package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/fault"
)

// placeholder stands for the path of the disposable disk in a machine's arguments.
const placeholder = "%DISPOSABLE_DISK_PATH%"

// The ids that the driver's own character devices have in QEMU. A machine must not use what begins with ownPrefix.
const (
	ownPrefix = "machinery-"
	qmpID     = ownPrefix + "qmp"
	readID    = ownPrefix + "read"
)

// CheckArgs says what is wrong with the arguments that a machine gives QEMU, all of it in one error, or nil. disk is the
// machine's base disk, which none of them may name; empty leaves that out.
//
// An argument is wrong if it would take the machine out of the driver's hands (a monitor, -daemonize, -S, -incoming), or
// if it gives the guest something to write to that a restore could not revert. At least one must have
// %DISPOSABLE_DISK_PATH% in it.
func CheckArgs(args []string, disk string) error {
	_, err := parseArgs(args, disk)
	return err
}

// commandLine is a machine's arguments, ready for the disposable disk's path.
type commandArgs struct {
	args []string
	// media are what the guest can write to besides the disposable disk.
	media []medium
	// quote says for each argument how a path is written in it; nil for one without the placeholder.
	quote []func(prefix, path string) string
}

// with puts the path of the disposable disk in, and those of the overlays of the other media.
func (c *commandArgs) with(disposable string, overlays ...string) []string {
	args := make([]string, len(c.args))
	for i, arg := range c.args {
		if c.quote[i] == nil {
			args[i] = arg
			continue
		}
		var b strings.Builder
		for {
			before, after, found := strings.Cut(arg, placeholder)
			b.WriteString(before)
			if !found {
				break
			}
			b.WriteString(c.quote[i](b.String(), disposable))
			arg = after
		}
		args[i] = b.String()
	}
	for i, m := range c.media {
		m.rewrite(args, overlays[i])
	}
	return args
}

// The ways in which a path is written in an argument.

func asPath(_, path string) string { return path }

// asSetting writes a path in a list of settings, where a comma ends one unless it is doubled.
func asSetting(prefix, path string) string {
	if strings.Contains(prefix, "json:{") { // file=json:{…}: JSON within settings
		path = asJSON(prefix, path)
	}
	return strings.ReplaceAll(path, ",", ",,")
}

// asJSON writes a path within a JSON string.
func asJSON(_, path string) string {
	quoted, _ := json.Marshal(path) // cannot fail for a string
	text := string(quoted[1 : len(quoted)-1])
	// These three are escaped by Go for the sake of HTML, which QEMU reads back just as well, but people do not.
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(text)
}

// argChecker walks over a machine's arguments as QEMU does.
type argChecker struct {
	disk     os.FileInfo // the base disk; nil if it is not to be looked for
	diskPath string
	disks    int // how many disks are the disposable one
	problems []error
	at       int      // which argument is looked at
	media    []medium // what was found that needs an overlay
	nodes    []*blockNode
}

// diskOptions are the options whose whole value is the path of a disk.
var diskOptions = map[string]bool{
	"hda": true, "hdb": true, "hdc": true, "hdd": true, "fda": true, "fdb": true, "sd": true, "pflash": true, "mtdblock": true, "cdrom": true,
}

// count counts a disk, if its path is the disposable one's.
func (c *argChecker) count(path string) {
	if strings.Contains(path, placeholder) {
		c.disks++
	}
}

// parseArgs checks a machine's arguments and finds where the disposable disk's path goes.
func parseArgs(args []string, disk string) (*commandArgs, error) {
	c := &argChecker{diskPath: disk}
	if disk != "" {
		c.disk, _ = os.Stat(disk)
	}
	line := &commandArgs{args: slices.Clone(args), quote: make([]func(string, string) string, len(args))}
	found := false
	for i, arg := range args {
		if problem := badArg(arg); problem != "" {
			c.problems = append(c.problems, fmt.Errorf("argument %d %s", i+1, problem))
		}
		found = found || strings.Contains(arg, placeholder)
	}
	for i := 0; i < len(args); i++ {
		name, is := optionName(args[i])
		if !is {
			// QEMU takes it for the path of a disk.
			c.count(args[i])
			c.at = i
			c.report(args[i], "", c.writable(args[i]))
			line.quoteAt(i, option{path: true})
			continue
		}
		o := options[name]
		if o.flag {
			c.report(args[i], "", o.refused)
			continue
		}
		if i+1 == len(args) {
			problem := "its value is missing"
			if _, known := options[name]; !known {
				problem += ", or QEMU has no such option" // the table has not all that take one
			}
			c.report(args[i], "", problem)
			continue
		}
		i++
		value := args[i]
		c.at = i
		line.quoteAt(i, o)
		if diskOptions[name] {
			c.count(value)
		}
		switch {
		case o.refused != "" && (o.harmless == "" || value != o.harmless):
			c.report(args[i-1], value, o.refused)
		case o.value != nil:
			c.report(args[i-1], value, o.value(c, value))
		}
	}
	c.finishBlockdevs(args)
	if !found {
		c.problems = append(c.problems, fmt.Errorf("no argument has %s in it, so the machine would have no disk or write to its base; put it where the disk's path goes, as in -drive file=%s,format=qcow2", placeholder, placeholder))
	}
	switch {
	case found && c.disks == 0 && len(c.problems) == 0: // a drive with another problem may be the one
		c.problems = append(c.problems, fmt.Errorf("no disk of the machine is at %s, so that it would have none or write to its base; put it where the disk's path goes, as in -drive file=%s,format=qcow2", placeholder, placeholder))
	case c.disks > 1:
		c.problems = append(c.problems, fmt.Errorf("%d disks of the machine are at %s, and two cannot share one file; give the others to -drive with readonly=on or snapshot=on, or leave them out", c.disks, placeholder))
	}
	if len(c.problems) > 0 {
		return nil, fault.Join(c.problems)
	}
	line.media = c.media
	return line, nil
}

// optionName is the name of an option, as QEMU finds it; false for what is none.
func optionName(arg string) (string, bool) {
	if !strings.HasPrefix(arg, "-") {
		return "", false
	}
	return strings.TrimPrefix(arg[1:], "-"), true
}

func (l *commandArgs) quoteAt(i int, o option) {
	value := l.args[i]
	switch {
	case !strings.Contains(value, placeholder):
	case strings.HasPrefix(value, "{"):
		l.quote[i] = asJSON
	case o.path:
		l.quote[i] = asPath
	default:
		l.quote[i] = asSetting
	}
}

// report notes a problem with an argument and its value; an empty one is none.
func (c *argChecker) report(arg, value, problem string) {
	if problem == "" {
		return
	}
	if value != "" {
		arg += " " + value
	}
	c.problems = append(c.problems, fmt.Errorf("argument %q is refused: %s", arg, problem))
}

// setting is one key=value of an option's value.
type setting struct{ key, value string }

// settings splits an option's value as QEMU does: at commas, of which two in a row stand for one. What has no "=" is a
// key that is on.
func settings(text string) []setting {
	var list []setting
	for len(text) > 0 {
		var b strings.Builder
		for len(text) > 0 {
			if text[0] == ',' {
				if !strings.HasPrefix(text, ",,") {
					break
				}
				text = text[1:]
			}
			b.WriteByte(text[0])
			text = text[1:]
		}
		text = strings.TrimPrefix(text, ",")
		key, value, has := strings.Cut(b.String(), "=")
		if !has {
			value = "on"
		}
		list = append(list, setting{key, value})
	}
	return list
}
