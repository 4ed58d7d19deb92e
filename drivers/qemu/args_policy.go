//go:build linux

package qemu

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/machineries/machineries/drivers/internal/fault"
)

// ArgumentRisk is an argument for QEMU that lets a machine do more than be one.
type ArgumentRisk struct {
	// Argument is the argument with its value, such as "-gdb tcp::1234".
	Argument string
	// Allow is the entry of MachineConfig.AllowArguments that allows it, such as "-gdb".
	Allow string
	// Risk is what it could do.
	Risk string
}

// ReviewArgs lists what in a machine's arguments needs the word of whoever answers for the host, because it could harm the host or
// let others into the guest. Those that [CheckArgs] refuses whatever anybody says are not listed, nor are disks, which are
// written to in overlays alone.
//
// Harmless is what is known to be: hardware that QEMU emulates, slirp without doors to the host, a tap or bridge of the host's,
// displays that go nowhere. An option, a device or an object that this package does not know is a risk.
func ReviewArgs(args []string) []ArgumentRisk {
	var risks []ArgumentRisk
	for _, f := range review(args) {
		if f.risk != "" {
			risks = append(risks, ArgumentRisk{Argument: f.argument, Allow: f.allow, Risk: f.risk})
		}
	}
	return risks
}

// allowAll is the entry of AllowArguments that allows everything.
const allowAll = "all"

// checkAllowed says what is wrong with a list of AllowArguments.
func checkAllowed(allowed []string) error {
	var problems []error
	for _, entry := range allowed {
		if entry != allowAll && !strings.HasPrefix(entry, "-") {
			problems = append(problems, fmt.Errorf("allow_arguments has %q, which names no option of QEMU; an entry is one with its dash, such as \"-gdb\" or \"-netdev tap\", or %q", entry, allowAll))
		}
	}
	return fault.Join(problems)
}

// unallowed is an error for every argument that needs the user's word and has not got it. place says where the machine is configured;
// it may be empty.
func unallowed(args, allowed []string, place string) error {
	if place != "" {
		place = " (" + place + ")"
	}
	var problems []error
	for _, r := range ReviewArgs(args) {
		if !slices.ContainsFunc(allowed, r.AllowedBy) {
			problems = append(problems, fmt.Errorf("argument %q needs your word: %s; if that is meant, add %q to allow_arguments of the machine%s", r.Argument, r.Risk, r.Allow, place))
		}
	}
	return fault.Join(problems)
}

// AllowedBy is whether an entry of AllowArguments allows the argument: "-netdev" allows every -netdev, "-netdev user" every one of
// that type, "-netdev user hostfwd" only that setting.
func (r ArgumentRisk) AllowedBy(entry string) bool {
	if entry == allowAll {
		return true
	}
	entry = strings.Join(strings.Fields(entry), " ")
	if strings.HasPrefix(entry, "--") {
		entry = entry[1:]
	}
	return r.Allow == entry || strings.HasPrefix(r.Allow, entry+" ")
}

// finding is what there is to say about an argument: that it is a risk, that it needs something of QEMU's sandbox, or both.
type finding struct {
	argument string
	allow    string
	risk     string
	needs    need
}

// need is what an argument needs of QEMU's sandbox.
type need int

const (
	needsNothing    need = iota
	needsSpawn           // QEMU starts programs
	needsPrivileges      // QEMU starts programs that have more rights than it has itself
)

// review looks at a machine's arguments.
func review(args []string) []finding {
	var all []finding
	for i := 0; i < len(args); i++ {
		name, is := optionName(args[i])
		if !is {
			continue // a disk
		}
		o := options[name]
		argument, value := args[i], ""
		if !o.flag {
			if i++; i == len(args) {
				break
			}
			value = args[i]
			argument += " " + value
		}
		if o.refused != "" || harmlessOptions[name] {
			continue
		}
		look := policies[name]
		if look == nil {
			look = always("the driver does not know this option of QEMU, and so not what it can do")
		}
		for _, f := range look(value) {
			f.argument = argument
			f.allow = strings.TrimSpace("-" + name + " " + f.allow)
			all = append(all, f)
		}
	}
	return all
}

// sandboxNeeds is the most that a machine's arguments need of the sandbox.
func sandboxNeeds(args []string) need {
	most := needsNothing
	for _, f := range review(args) {
		most = max(most, f.needs)
	}
	return most
}

// policy says what there is to say about the value of an option. The allow of each finding is what follows the option's name.
type policy func(value string) []finding

// always is the policy of an option that is a risk whatever its value.
func always(risk string) policy {
	return func(string) []finding { return []finding{{risk: risk}} }
}

// values is the policy of an option that is harmless with some values and else a risk.
func values(risk string, harmless ...string) policy {
	return func(value string) []finding {
		if slices.Contains(harmless, value) {
			return nil
		}
		return []finding{{risk: risk}}
	}
}

// keys is the policy of an option of which some settings are risks.
func keys(risks map[string]string) policy {
	return func(value string) []finding {
		_, has := taken(value, "")
		var found []finding
		for _, key := range slices.Sorted(maps.Keys(has)) {
			if risk := risks[key]; risk != "" && has[key] != "" {
				found = append(found, finding{allow: key, risk: risk})
			}
		}
		return found
	}
}

// taken takes a value apart: the kind of thing that it makes, which is the setting of that key or the first without one, and the
// settings. Of a setting that is there more than once all values are there, with commas between them. The value may be JSON.
func taken(value, kindKey string) (kind string, has map[string]string) {
	has = map[string]string{}
	if strings.HasPrefix(value, "{") {
		node := map[string]any{}
		_ = json.Unmarshal([]byte(value), &node) // what is not JSON is refused elsewhere
		flatten(has, "", node)
		return has[kindKey], has
	}
	first, _, _ := strings.Cut(value, ",")
	for i, s := range settings(value) {
		switch {
		case i == 0 && kindKey != "" && !strings.Contains(first, "="):
			has[kindKey] = s.key
		case has[s.key] != "":
			has[s.key] += "," + s.value
		default:
			has[s.key] = s.value
		}
	}
	return has[kindKey], has
}

// flatten notes the settings of a node in JSON as QEMU writes them without it: those of a node in it have the key of that, a dot, and
// their own.
func flatten(has map[string]string, prefix string, node map[string]any) {
	for key, v := range node {
		if inner, is := v.(map[string]any); is {
			flatten(has, prefix+key+".", inner)
			continue
		}
		has[prefix+key] = fmt.Sprint(v)
	}
}

// The policies of options whose values make a difference.

func reviewNetdev(value string) []finding {
	kind, has := taken(value, "type")
	switch kind {
	case "", "none", "nic", "hubport":
		return nil
	case "user":
		return reviewUser(has)
	case "tap":
		switch {
		case has["helper"] != "":
			return []finding{{allow: kind, risk: whatProgram, needs: needsPrivileges}}
		case has["script"] == "no" && has["downscript"] == "no":
			return nil
		}
		return []finding{{allow: kind, needs: needsSpawn, risk: whatProgram + " (without script=no and downscript=no, /etc/qemu-ifup and /etc/qemu-ifdown)"}}
	case "bridge":
		// This is how VMCloak's machines are connected. What is started is the helper that came with QEMU.
		if has["helper"] != "" {
			return []finding{{allow: kind, risk: whatProgram, needs: needsPrivileges}}
		}
		return []finding{{needs: needsPrivileges}}
	case "socket", "stream", "dgram", "l2tpv3", "vde", "vhost-user", "vhost-vdpa":
		return []finding{{allow: kind, risk: "the guest's network is one with whatever is at the other end"}}
	}
	return []finding{{allow: kind, risk: "the driver does not know this kind of network"}}
}

// reviewUser looks at QEMU's own network stack.
func reviewUser(has map[string]string) []finding {
	var found []finding
	add := func(key, risk string, needs need) {
		if has[key] != "" {
			found = append(found, finding{allow: "user " + key, risk: risk, needs: needs})
		}
	}
	add("hostfwd", "it opens a port of the host, and whoever reaches it reaches the guest", needsNothing)
	if strings.Contains(has["guestfwd"], "-cmd:") {
		add("guestfwd", "the guest can start that program on the host as often as it likes", needsSpawn)
	} else {
		add("guestfwd", "the guest reaches what is at the other end, from the host", needsNothing)
	}
	add("smb", "the guest can read and write that directory of the host, and a restore does not revert it", needsSpawn)
	add("tftp", "the guest can read all files in that directory of the host", needsNothing)
	return found
}

func reviewDevice(value string) []finding {
	kind, has := taken(value, "driver")
	switch {
	case kind == "":
		return nil
	case strings.HasPrefix(kind, "vfio-"), strings.HasPrefix(kind, "usb-host"), strings.HasPrefix(kind, "vhost-"), kind == "scsi-block", kind == "scsi-generic":
		return []finding{{allow: kind, risk: "the guest gets a device of the host itself, which a restore does not revert"}}
	case !harmlessDevices[kind]:
		return []finding{{allow: kind, risk: "the driver does not know this device, and so not what of the host it reaches"}}
	case has["romfile"] != "":
		return []finding{{allow: kind + " romfile", risk: whatReads}}
	}
	return nil
}

func reviewObject(value string) []finding {
	kind, has := taken(value, "qom-type")
	switch {
	case kind == "", slices.Contains(harmlessObjects, kind):
		return nil
	case kind == "rng-random" && slices.Contains([]string{"", "/dev/random", "/dev/urandom"}, has["filename"]):
		return nil
	}
	risk := objectRisks[kind]
	if risk == "" {
		risk = "the driver does not know this object, and so not what it can do"
	}
	return []finding{{allow: kind, risk: risk}}
}

func reviewChardev(value string) []finding {
	kind, _ := taken(value, "backend")
	return reviewBackend(kind, kind)
}

// reviewSerial looks at the value of -serial and its like, which is a character device in QEMU's old way of writing.
func reviewSerial(value string) []finding {
	kind, _, _ := strings.Cut(value, ":")
	kind, _, _ = strings.Cut(kind, ",")
	if kind == "chardev" || kind == "none" {
		return nil // the -chardev is looked at itself
	}
	if strings.HasPrefix(kind, "/dev/") {
		return reviewBackend("serial", kind)
	}
	return reviewBackend(kind, kind)
}

// reviewBackend looks at where a character device goes.
func reviewBackend(kind, allow string) []finding {
	switch kind {
	case "", "null", "ringbuf", "memory", "vc", "testdev", "msmouse", "wctablet":
		return nil
	}
	risk := backendRisks[kind]
	if risk == "" {
		risk = "the driver does not know this character device, and so not where it goes"
	}
	return []finding{{allow: allow, risk: risk}}
}

func reviewDisplay(value string) []finding {
	kind, has := taken(value, "type")
	switch {
	case slices.Contains([]string{"none", "gtk", "sdl", "egl-headless"}, kind):
		return nil
	case has["vnc"] != "":
		kind = "vnc"
	}
	return []finding{{allow: kind, risk: whatDisplay}}
}

func reviewAudio(value string) []finding {
	kind, _ := taken(value, "driver")
	switch kind {
	case "none":
		return nil
	case "wav":
		return []finding{{allow: kind, risk: whatWrites}}
	}
	return []finding{{allow: kind, risk: "the guest hears the host's microphone and is heard from its loudspeakers"}}
}

func reviewSandbox(value string) []finding {
	on, has := taken(value, "enable")
	if on == "on" && has["obsolete"] == "deny" && has["elevateprivileges"] == "deny" && has["spawn"] == "deny" && has["resourcecontrol"] == "deny" {
		return nil
	}
	return []finding{{risk: "it is weaker than the sandbox that the driver gives QEMU, in which a guest that breaks out of QEMU cannot start programs"}}
}

// reviewDrive looks at where a disk comes from. Whether it may be written to is seen to elsewhere.
func reviewDrive(value string) []finding {
	_, has := taken(value, "file")
	for _, key := range slices.Sorted(maps.Keys(has)) {
		setting := has[key]
		last := key[strings.LastIndexByte(key, '.')+1:]
		switch {
		case last == "driver" && remoteDisks[setting]:
			return []finding{{allow: setting, risk: whatRemote}}
		case last == "driver" && hostDisks[setting]:
			return []finding{{allow: setting, risk: whatDevice}}
		case last == "file" || last == "filename":
			protocol, _, _ := strings.Cut(setting, ":")
			if remoteDisks[strings.TrimSuffix(strings.TrimSuffix(protocol, "+tcp"), "+unix")] {
				return []finding{{allow: protocol, risk: whatRemote}}
			}
			if strings.HasPrefix(strings.TrimPrefix(setting, "file:"), "/dev/") {
				return []finding{{allow: "host_device", risk: whatDevice}}
			}
		}
	}
	return nil
}
