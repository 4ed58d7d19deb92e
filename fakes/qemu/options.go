//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// takesArgument are the options of QEMU 7.2 that are followed by an argument, and
// flags those that are not. Unknown ones are refused. What the fake does not act upon is
// accepted, because a machine's command line is full of it.
var (
	takesArgument = words(`M machine cpu accel smp numa add-fd set global boot m mem-path k audio audiodev device name uuid
		fda fdb hda hdb hdc hdd cdrom blockdev drive mtdblock sd fsdev virtfs iscsi usbdevice display spice rotate vga vnc
		acpitable smbios netdev nic net chardev tpmdev bios pflash kernel append initrd dtb compat fw_cfg serial parallel
		monitor qmp qmp-pretty mon debugcon pidfile D d dfilter seed L rtc icount watchdog-action echr incoming
		object trace msg sandbox runas chroot readconfig loadvm overcommit action plugin soundhw
		semihosting-config prom-env option-rom g xen-domid dump-vmstate`)
	flags = words(`h help version S snapshot usb nographic portrait full-screen win2k-hack no-fd-bootchk no-acpi no-hpet
		singlestep preconfig enable-kvm no-reboot no-shutdown daemonize nodefaults no-user-config s mem-prealloc audio-help
		only-migratable semihosting old-param enable-sync-profile xen-attach xen-domid-restrict alt-grab ctrl-grab no-quit`)
)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

// option is one option of the command line as it was written.
type option struct {
	name string // without dashes
	text string // with them
	arg  string
}

// where is the option for an error message.
func (o option) where() string {
	if takesArgument[o.name] && o.text != o.arg {
		return o.text + " " + o.arg + ": "
	}
	return o.text + ": "
}

// exitError ends the emulator: with a code, after a text went to stderr (or to
// stdout, where the code is 0).
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// fail is the end of a command line that is wrong: QEMU's exit code 1.
func fail(format string, args ...any) error { return &exitError{1, fmt.Sprintf(format, args...)} }

// failAt is fail about an option.
func failAt(o option, err error) error {
	var e *exitError
	if errors.As(err, &e) {
		return e
	}
	return fail("%s%v", o.where(), err)
}

// config is a command line that was understood.
type config struct {
	machine, machineType string // alias and whole name: q35, pc-q35-7.2
	accel                string
	memory               int64
	cpus                 int
	name, uuid           string
	autostart            bool
	noShutdown, noReboot bool
	noDefaults           bool
	display              bool // not switched off by -vga none
	vga                  bool // -vga with a device
	snapshot             bool
	incoming             *option
	events               bool // -global migration.x-events=on
	pidfile              string
	timestamps           bool
	loadvm               string

	chardevs []chardevOption
	monitors []monitorOption
	serials  []option
	drives   []driveOption
	blockdev []driveOption
	devices  []deviceOption
	netdevs  map[string]bool
	// netdevOpts are those of -netdev, and objects of -object.
	netdevOpts []*opts
	objects    []option
	fds        []option
	globals    []option
	kernel     string
}

type monitorOption struct {
	option
	chardev string
	control bool
	pretty  bool
}

type deviceOption struct {
	option
	opts *opts
}

// parser of a command line.
type lineParser struct {
	*config
	warn io.Writer
	prog string
	late []func() error // checks that QEMU makes only after all options are read
}

// parseLine understands a command line or says why not, with an *exitError.
// Warnings go to warn.
func parseLine(prog string, args []string, warn io.Writer) (*config, error) {
	p := &lineParser{config: &config{machine: "pc", autostart: true, memory: 128 << 20, cpus: 1, display: true, netdevs: map[string]bool{}}, warn: warn, prog: prog}
	var all []option
	for i := 0; i < len(args); i++ {
		a := args[i]
		if !strings.HasPrefix(a, "-") {
			all = append(all, option{"", a, a})
			continue
		}
		o := option{name: strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), text: a}
		switch {
		case flags[o.name]:
		case !takesArgument[o.name]:
			return nil, fail("%s: invalid option", a)
		default:
			if i++; i == len(args) {
				return nil, fail("%s: requires an argument", a)
			}
			o.arg = args[i]
		}
		all = append(all, o)
	}
	// QEMU looks for this before anything else.
	for _, o := range all {
		p.noDefaults = p.noDefaults || o.name == "nodefaults"
	}
	for _, o := range all {
		if err := p.option(o); err != nil {
			return nil, failAt(o, err)
		}
	}
	for _, check := range p.late {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return p.config, p.finish()
}

// parse takes an argument apart, with warnings as QEMU gives them.
func (p *lineParser) parse(o option, implied string) *opts {
	return parseOpts(o.arg, implied, func(w string) { fmt.Fprintf(p.warn, "%s: %s%s\n", p.prog, o.where(), w) })
}

// option takes one option. The errors are those that QEMU has while it reads.
func (p *lineParser) option(o option) error {
	switch o.name {
	case "":
		return p.drive(option{"hda", o.text, o.arg}, "hda")
	case "h", "help":
		return &exitError{0, helpText}
	case "version":
		return &exitError{0, "QEMU emulator version " + versionText + copyright}
	case "M", "machine":
		return p.machineOption(o)
	case "accel":
		v := p.parse(o, "accel")
		return p.setAccel(o, v)
	case "enable-kvm":
		return p.setAccel(o, parseOpts("kvm", "accel", nil))
	case "m":
		return p.memoryOption(o)
	case "smp":
		return p.smpOption(o)
	case "S":
		p.autostart = false
	case "no-shutdown":
		p.noShutdown = true
	case "no-reboot":
		p.noReboot = true
	case "action":
		return p.actionOption(o)
	case "snapshot":
		p.snapshot = true
	case "daemonize":
		return errors.New("not supported by the fake emulator: start it in the background instead")
	case "preconfig":
		return errors.New("not supported by the fake emulator")
	case "pidfile":
		p.pidfile = o.arg
	case "kernel":
		p.kernel = o.arg
	case "bios":
		if _, err := os.Stat(o.arg); err != nil && !strings.HasSuffix(o.arg, ".bin") {
			p.late = append(p.late, func() error { return &exitError{1, "qemu: could not load PC BIOS '" + o.arg + "'"} })
		}
	case "D":
		f, err := os.OpenFile(o.arg, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
		if err != nil {
			return fail("Error opening logfile %s: %s", o.arg, strerror(err))
		}
		f.Close()
	case "readconfig":
		if _, err := os.Stat(o.arg); err != nil {
			return fmt.Errorf("Could not open '%s': %s", o.arg, strerror(err))
		}
		return errors.New("not supported by the fake emulator")
	case "vnc":
		if !strings.Contains(o.arg, ":") && o.arg != "none" {
			return errors.New("no vnc port specified")
		}
	case "loadvm":
		p.loadvm = o.arg
	case "incoming":
		p.incoming = &o
	case "add-fd":
		p.fds = append(p.fds, o)
		return p.parse(o, "").allowed("fd set opaque")
	case "global":
		p.globals = append(p.globals, o)
		if !strings.Contains(o.arg, "=") || !strings.Contains(o.arg, ".") {
			return p.parse(o, "").allowed("driver property value")
		}
	case "serial":
		p.serials = append(p.serials, o)
	case "chardev":
		return p.chardevOption(o)
	case "mon", "qmp", "qmp-pretty", "monitor":
		return p.monitorOption(o)
	case "drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "pflash":
		return p.drive(o, o.name)
	case "blockdev":
		return p.blockdevOption(o)
	case "object":
		p.objects = append(p.objects, o)
	case "device":
		v := p.parse(o, "driver")
		p.devices = append(p.devices, deviceOption{o, v})
	default:
		return p.small(o)
	}
	return nil
}

// finish checks what needs all options.
func (p *lineParser) finish() error {
	full, ok := machineTypes[p.machine]
	if !ok {
		if !slices.Contains(versionedMachines, p.machine) {
			return fail("unsupported machine type\nUse -machine help to list supported machines")
		}
		full = p.machine
	}
	p.machineType = full
	if p.cpus > 255 {
		return fail("Invalid SMP CPUs %d. The max CPUs supported by machine '%s' is 255", p.cpus, full)
	}
	return nil
}
