//go:build linux

package qemu

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What the fake says of itself is what Debian 12's QEMU says, which its texts are
// taken from.
const (
	versionMajor, versionMinor, versionMicro = 7, 2, 22

	versionPackage = "Debian 1:7.2+dfsg-7+deb12u18+b3"
	versionText    = "7.2.22 (" + versionPackage + ")\n"
	copyright      = "Copyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n"
	helpText       = "QEMU emulator version " + versionText + copyright +
		"usage: qemu-system-x86_64 [options] [disk_image]\n\nThis is the fake of it: it runs no guest but a model of one.\n"
)

// machineTypes are the machines' short names.
var machineTypes = map[string]string{"pc": "pc-i440fx-7.2", "q35": "pc-q35-7.2", "microvm": "microvm", "isapc": "isapc", "none": "none"}

// versionedMachines are the long ones of QEMU 7.2.
var versionedMachines = func() []string {
	var all []string
	for _, v := range strings.Fields("7.2 7.1 7.0 6.2 6.1 6.0 5.2 5.1 5.0 4.2 4.1 4.0 3.1 3.0 2.12 2.11 2.10 2.9 2.8 2.7 2.6 2.5 2.4") {
		all = append(all, "pc-i440fx-"+v, "pc-q35-"+v)
	}
	return append(all, "pc-i440fx-2.3", "pc-i440fx-2.2", "pc-i440fx-2.1", "pc-i440fx-2.0", "pc-i440fx-1.7", "pc-i440fx-1.6", "pc-i440fx-1.5", "pc-i440fx-1.4", "pc-q35-4.0.1")
}()

// machineProperties are the properties of a PC that are taken without a look.
var machineProperties = words(`type accel usb vmport smm acpi hpet sata smbus pit i8042 kernel-irqchip kernel_irqchip dump-guest-core mem-merge graphics
	suppress-vmdesc nvdimm hmat memory-backend firmware phandle-start dtb dumpdtb kernel initrd append memory-encryption max-fw-size
	max-ram-below-4g default_bus_bypass_iommu x-south-bridge pflash0 pflash1 confidential-guest-support igd-passthru boot smp memory sgx-epc
	fd-bootchk smbios-entry-point-type pcspk-audiodev`)

func (p *lineParser) machineOption(o option) error {
	v := p.parse(o, "type")
	if t := v.get("type"); t != "" {
		p.machine = t
	}
	if a := v.get("accel"); a != "" {
		p.accel = "machine:" + a
	}
	p.late = append(p.late, func() error {
		if err := p.config.checkAccelOption(); err != nil {
			return err
		}
		for _, k := range v.keys {
			if !machineProperties[k] {
				full := p.machine
				if long, ok := machineTypes[full]; ok {
					full = long
				}
				return fail("Property '%s-machine.%s' not found", full, k)
			}
		}
		return nil
	})
	return nil
}

// checkAccelOption resolves "-machine accel=a:b".
func (c *config) checkAccelOption() error {
	list, ok := strings.CutPrefix(c.accel, "machine:")
	if !ok {
		return nil
	}
	for a := range strings.SplitSeq(list, ":") {
		if a == "tcg" || a == "kvm" || a == "qtest" {
			c.accel = a
			return nil
		}
	}
	return fail("invalid accelerator %s", list)
}

var accelProperties = words("accel thread tb-size one-insn-per-tb kernel-irqchip dirty-ring-size kvm-shadow-mem split-wx notify-vmexit notify-window igd-passthru")

func (p *lineParser) setAccel(o option, v *opts) error {
	name := v.get("accel")
	if strings.HasPrefix(p.accel, "machine:") {
		return fail("The -accel and \"-machine accel=\" options are incompatible")
	}
	if name != "tcg" && name != "kvm" && name != "qtest" {
		return fmt.Errorf("invalid accelerator %s", name)
	}
	if o.name == "enable-kvm" && p.accel != "" || p.accel == "kvm!" {
		return fail("The -accel and \"-machine accel=\" options are incompatible")
	}
	for _, k := range v.keys {
		if !accelProperties[k] {
			return fmt.Errorf("Property '%s-accel.%s' not found", name, k)
		}
	}
	if p.accel == "" {
		p.accel = name // the first that works is taken, and here all do
	}
	if o.name == "enable-kvm" {
		p.accel = "kvm!"
	}
	return nil
}

func (p *lineParser) memoryOption(o option) error {
	v := p.parse(o, "size")
	if err := v.allowed("size slots maxmem"); err != nil {
		return err
	}
	if v.has("size") {
		n, err := parseSize("size", v.get("size"), 'M')
		if err != nil {
			return err
		}
		if n > 0 {
			p.memory = (n + 8191) &^ 8191
		}
	}
	if v.has("maxmem") {
		top, err := parseSize("maxmem", v.get("maxmem"), 'B')
		if err != nil {
			return err
		}
		if top < p.memory {
			p.late = append(p.late, func() error {
				return fail("invalid value of maxmem: maximum memory size (0x%x) must be at least the initial memory size (0x%x)", top, p.memory)
			})
		}
	}
	if v.has("slots") && !v.has("maxmem") {
		p.late = append(p.late, func() error { return fail("slots specified but no max-size") })
	}
	if p.memory > 1<<46 {
		p.late = append(p.late, func() error {
			return fail("cannot set up guest memory 'pc.ram': Cannot allocate memory")
		})
	}
	return nil
}

func (p *lineParser) smpOption(o option) error {
	v := p.parse(o, "cpus")
	n := map[string]int{}
	for _, k := range v.keys {
		if !words("cpus sockets dies clusters cores threads maxcpus")[k] {
			p.late = append(p.late, func() error { return fail("Parameter 'smp.%s' is unexpected", k) })
			return nil
		}
		i, err := strconv.Atoi(v.get(k))
		if err != nil {
			p.late = append(p.late, func() error { return fail("Parameter 'smp.%s' expects integer", k) })
			return nil
		}
		n[k] = i
	}
	product := max(n["sockets"], 1) * max(n["dies"], 1) * max(n["clusters"], 1) * max(n["cores"], 1) * max(n["threads"], 1)
	p.cpus = max(n["cpus"], 1)
	if n["cpus"] == 0 && product > 1 {
		p.cpus = product
	}
	if top := max(p.cpus, n["maxcpus"]); product > top || n["maxcpus"] > 0 && n["maxcpus"] < p.cpus {
		p.late = append(p.late, func() error {
			return fail("Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (%d) * dies (1) * cores (%d) * threads (%d) != maxcpus (%d)",
				n["sockets"], n["cores"], max(n["threads"], 1), top)
		})
	}
	return nil
}

var actions = map[string][]string{
	"reboot": {"reset", "shutdown"}, "shutdown": {"poweroff", "pause"}, "panic": {"pause", "shutdown", "exit-failure", "none"},
	"watchdog": {"reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"},
}

func (p *lineParser) actionOption(o option) error {
	v := p.parse(o, "")
	for _, k := range v.keys {
		values, ok := actions[k]
		if !ok {
			return fmt.Errorf("Invalid parameter '%s'", k)
		}
		if !oneOf(v.get(k), values) {
			return fmt.Errorf("Parameter '%s' does not accept value '%s'", k, v.get(k))
		}
	}
	p.noReboot = p.noReboot || v.get("reboot") == "shutdown"
	p.noShutdown = p.noShutdown || v.get("shutdown") == "pause"
	return nil
}

func oneOf(s string, list []string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

var uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// cpuModels are the CPU models that are known by name. Features after a comma are
// taken without a look, except that none of them exists that begins with "nope".
var cpuModels = words(`qemu64 qemu32 kvm64 kvm32 max host base 486 pentium pentium2 pentium3 athlon phenom coreduo core2duo n270
	Conroe Penryn Nehalem Westmere SandyBridge IvyBridge Haswell Broadwell Skylake-Client Skylake-Server Cascadelake-Server Cooperlake
	Icelake-Server Snowridge SapphireRapids KnightsMill Denverton Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5 EPYC EPYC-Rome EPYC-Milan Dhyana`)

var cpuVariant = regexp.MustCompile(`(-v[0-9]+|-noTSX(-IBRS)?|-IBRS|-IBPB)$`)

// small takes the options that need no more than a look.
func (p *lineParser) small(o option) error {
	switch o.name {
	case "uuid":
		if !uuidPattern.MatchString(o.arg) {
			return fmt.Errorf("failed to parse UUID string: wrong format")
		}
		p.uuid = strings.ToLower(o.arg)
	case "name":
		v := p.parse(o, "guest")
		p.name = v.get("guest")
		return v.allowed("guest process debug-threads")
	case "cpu":
		model, features, _ := strings.Cut(o.arg, ",")
		p.late = append(p.late, func() error {
			if !cpuModels[cpuVariant.ReplaceAllString(model, "")] {
				return fail("unable to find CPU model '%s'", model)
			}
			if model == "host" && !strings.HasPrefix(p.accel, "kvm") {
				return fail("CPU model 'host' requires KVM or HVF")
			}
			for f := range strings.SplitSeq(features, ",") {
				if f = strings.TrimLeft(f, "+-"); strings.HasPrefix(f, "nope") {
					return fail("Property '%s-x86_64-cpu.%s' not found", model, f)
				}
			}
			return nil
		})
	case "display":
		t, _, _ := strings.Cut(o.arg, ",")
		t, _, _ = strings.Cut(t, "=")
		switch t {
		case "none", "vnc", "egl-headless", "dbus":
		case "sdl", "gtk", "curses", "spice-app", "cocoa":
			p.late = append(p.late, func() error { return fail("Display '%s' is not available.", t) })
		default:
			return fmt.Errorf("Parameter 'type' does not accept value '%s'", t)
		}
	case "vga":
		switch o.arg {
		case "none":
			p.display = false
		case "std", "cirrus", "vmware", "qxl", "virtio":
			p.display, p.vga = true, true
		default:
			p.late = append(p.late, func() error { return fail("unknown vga type: %s", o.arg) })
		}
	case "rtc":
		v := p.parse(o, "")
		if err := v.allowed("base clock driftfix"); err != nil {
			return err
		}
		if b := v.get("base"); b != "" && b != "utc" && b != "localtime" && !regexp.MustCompile(`^\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?$`).MatchString(b) {
			return fail("invalid datetime format\nvalid formats: '2006-06-17T16:01:21' or '2006-06-17'")
		}
	case "boot":
		v := p.parse(o, "order")
		for _, k := range v.keys {
			if !words("order once menu splash splash-time reboot-timeout strict")[k] {
				p.late = append(p.late, func() error { return fail("Parameter 'boot.%s' is unexpected", k) })
			}
		}
		for _, c := range v.get("order") {
			if c < 'a' || c > 'p' {
				p.late = append(p.late, func() error { return fail("Invalid boot device '%c'", c) })
			}
		}
	case "netdev":
		return p.netdev(o)
	case "nic", "net":
		v := p.parse(o, "type")
		if !oneOf(v.get("type"), append(netTypes, "none", "nic")) {
			return fmt.Errorf("Parameter 'type' does not accept value '%s'", v.get("type"))
		}
	case "sandbox":
		v := p.parse(o, "enable")
		if err := v.allowed("enable obsolete elevateprivileges spawn resourcecontrol"); err != nil {
			return err
		}
		on, err := v.bool("enable", true)
		if err == nil && on {
			p.late = append(p.late, func() error { return sandboxValues(o, v) })
		}
		return err
	case "msg":
		v := p.parse(o, "")
		if err := v.allowed("timestamp guest-name"); err != nil {
			return err
		}
		on, err := v.bool("timestamp", false)
		p.timestamps = on
		return err
	case "watchdog-action":
		if !oneOf(o.arg, actions["watchdog"]) {
			return fmt.Errorf("Parameter 'watchdog' does not accept value '%s'", o.arg)
		}
	}
	return nil
}

var netTypes = strings.Fields("user tap bridge l2tpv3 socket stream dgram vde vhost-user vhost-vdpa hubport")

// userOptions are those of "-netdev user"; the other types are taken without a look.
const userOptions = `type id ipv4 net host ipv6 ipv6-net ipv6-prefix ipv6-host restrict hostname dhcpstart dns ipv6-dns
	dnssearch domainname tftp tftp-server-name bootfile hostfwd guestfwd smb smbserver`

func (p *lineParser) netdev(o option) error {
	v := p.parse(o, "type")
	id := v.get("id")
	switch {
	case id == "":
		return fmt.Errorf("Parameter 'id' is missing")
	case !oneOf(v.get("type"), netTypes):
		return fmt.Errorf("Parameter 'type' does not accept value '%s'", v.get("type"))
	case p.netdevs[id]:
		return fmt.Errorf("Duplicate ID '%s' for netdev", id)
	}
	p.netdevs[id] = true
	p.netdevOpts = append(p.netdevOpts, v)
	if v.get("type") == "user" {
		return v.allowed(userOptions)
	}
	return nil
}

// sandboxValues checks what the sandbox is told to deny. There is none in the fake.
func sandboxValues(o option, v *opts) error {
	for _, key := range []string{"obsolete", "elevateprivileges", "spawn", "resourcecontrol"} {
		value := v.get(key)
		if v.has(key) && value != "allow" && value != "deny" && (key != "elevateprivileges" || value != "children") {
			return fail("%sinvalid argument for %s", o.where(), key)
		}
	}
	return nil
}
