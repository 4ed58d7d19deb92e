package vmcloak

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/machineries/machineries/internal/qemuargs"
)

// InfoName is the name of the file that makes a directory a machine's.
const InfoName = "machineinfo.json"

// Info is what a machineinfo.json says. Its texts are as they are in the file, without white space around them; those that it has not are empty.
type Info struct {
	// MachineryVersion is the version of the QEMU that made the snapshot, such as "7.2.22".
	MachineryVersion string
	// Name is the machine's.
	Name string
	// IP is the address of the guest, AgentPort the TCP port of the agent in it.
	IP        string
	AgentPort int
	// OSName, OSVersion and Architecture are of the guest's system.
	OSName, OSVersion, Architecture string
	Tags                            []string
	// Bridge is the network interface of the host that the guest is reached by, MAC the address of the guest's network card.
	Bridge, MAC string
	// Disk and Snapshot are names of files beside the machineinfo.json.
	Disk, Snapshot string
	// StartArgs are the arguments for QEMU, in which %DISPOSABLE_DISK_PATH% stands for the disk's overlay.
	StartArgs []string
}

// ErrOtherMachinery is what the error of Parse and Read wraps for a machine that is none of QEMU's.
var ErrOtherMachinery = errors.New("only machines of VMCloak's QEMU can be imported")

// The bounds of the arguments: the kernel takes no argument longer than maxArg.
const (
	maxArgs = 4096
	maxArg  = 128<<10 - 1
)

// Parse reads a machineinfo.json; name is what messages call the file. All that is wrong comes in one error, one line each, with its
// place. Keys that it does not know are passed over.
func Parse(name string, data []byte) (*Info, error) {
	s := &source{name: name, data: data}
	whole, err := s.parse()
	if err != nil {
		return nil, err
	}
	r := &reader{source: s}
	if whole.plain != json.Delim('{') {
		return nil, s.problem(whole.at, fmt.Sprintf("the file must hold an object, and holds %s", whole.kind()))
	}
	var info Info
	if machinery := r.text(whole, "", "machinery", needed); machinery != "" && machinery != "qemu" {
		v, _ := whole.get("machinery")
		return nil, fmt.Errorf("%w: %w", s.problem(v.at, fmt.Sprintf("this is a machine of %s", qemuargs.Quoted(machinery))), ErrOtherMachinery)
	}
	info.MachineryVersion = r.text(whole, "", "machinery_version", mayBeAbsent)
	machine, there := whole.get("machine")
	switch {
	case !there:
		r.report(whole.at, `"machine" is missing: the object that says what the machine is`)
		return nil, r.err()
	case machine.plain != json.Delim('{'):
		r.report(machine.at, fmt.Sprintf(`"machine" must be an object, and is %s`, machine.kind()))
		return nil, r.err()
	}
	const in = "machine."
	if _, args := machine.get("start_args"); args && !machine.hasAny("name", "ip", "os_name", "disk", "memory_snapshot") {
		// This is what a driver wants of the file, and all that there is in those which were not made by VMCloak.
		return nil, s.problem(machine.at, "this machineinfo.json has arguments for QEMU and nothing else, so it is not VMCloak's: "+
			"give the rest yourself, with \"machinery machine add\"")
	}
	info.Name = r.text(machine, in, "name", needed)
	info.IP = r.text(machine, in, "ip", needed)
	if _, err := netip.ParseAddr(info.IP); err != nil && info.IP != "" {
		v, _ := machine.get("ip")
		r.report(v.at, fmt.Sprintf(`"machine.ip" must be an address such as "192.168.30.101", and is %s`, qemuargs.Quoted(info.IP)))
	}
	info.AgentPort = r.port(machine, in, "agent_port")
	info.OSName = r.text(machine, in, "os_name", needed)
	info.OSVersion = r.text(machine, in, "os_version", needed)
	info.Architecture = r.text(machine, in, "architecture", needed)
	info.Tags = r.strings(machine, in, "tags", mayBeEmpty)
	info.Bridge = r.text(machine, in, "bridge", mayBeEmpty)
	info.MAC = r.text(machine, in, "mac", mayBeAbsent)
	info.Disk = r.fileName(machine, in, "disk")
	info.Snapshot = r.fileName(machine, in, "memory_snapshot")
	info.StartArgs = r.strings(machine, in, "start_args", needed)
	for _, file := range []struct{ key, name string }{{"disk", info.Disk}, {"memory_snapshot", info.Snapshot}} {
		if v, _ := machine.get(file.key); file.name == InfoName || file.key == "disk" && file.name != "" && file.name == info.Snapshot {
			r.report(v.at, fmt.Sprintf("%q is %q, which is another of the machine's files", in+file.key, file.name))
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return &info, nil
}

// need is whether a key must be there.
type need int

const (
	needed      need = iota
	mayBeEmpty       // there, but null or without content if it likes
	mayBeAbsent      // that, or not there at all
)

// reader takes values out of a JSON text and collects what is wrong with them.
type reader struct {
	*source
	problems []error
}

func (r *reader) report(at int, text string) { r.problems = append(r.problems, r.problem(at, text)) }

func (r *reader) err() error { return errors.Join(r.problems...) }

// find is the value of a key; false if there is none that could be looked at, which was reported if it must be there.
func (r *reader) find(object value, in, key string, n need) (value, bool) {
	v, there := object.get(key)
	switch {
	case !there && n != mayBeAbsent:
		r.report(object.at, fmt.Sprintf("%q is missing", in+key))
	case there && v.plain == nil && n == needed:
		r.report(v.at, fmt.Sprintf("%q must have a value, and is null", in+key))
	case there && v.plain != nil:
		return v, true
	}
	return v, false
}

// text is the value of a key that is a string.
// White space around it is none of its own, nor is it in a configuration.
func (r *reader) text(object value, in, key string, n need) string {
	return strings.TrimSpace(r.wholeText(object, in, key, n))
}

// wholeText is text with the white space around it.
func (r *reader) wholeText(object value, in, key string, n need) string {
	v, ok := r.find(object, in, key, n)
	if !ok {
		return ""
	}
	text, is := v.plain.(string)
	switch {
	case !is:
		r.report(v.at, fmt.Sprintf("%q must be a string, and is %s%s", in+key, v.kind(), inQuotes(v)))
	case n == needed && strings.TrimSpace(text) == "":
		r.report(v.at, fmt.Sprintf("%q must have a value, and is empty", in+key))
	case len(text) > maxText:
		r.report(v.at, fmt.Sprintf("%q is longer than %d bytes", in+key, maxText))
	default:
		return text
	}
	return ""
}

// maxText bounds what no machine has in kilobytes: names, addresses, versions.
const maxText = 4096

// inQuotes is what to do about a number that should be a string.
func inQuotes(v value) string {
	if n, is := v.plain.(json.Number); is {
		return fmt.Sprintf("; write %q", n.String())
	}
	return ""
}

// fileName is the value of a key that names a file beside this one.
func (r *reader) fileName(object value, in, key string) string {
	name := r.wholeText(object, in, key, needed)
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		v, _ := object.get(key)
		r.report(v.at, fmt.Sprintf("%q must be the name of a file in the same directory, and is %s", in+key, qemuargs.Quoted(name)))
		return ""
	}
	return name
}

// port is the value of a key that is a TCP port.
func (r *reader) port(object value, in, key string) int {
	v, ok := r.find(object, in, key, needed)
	if !ok {
		return 0
	}
	n, is := v.plain.(json.Number)
	port, err := strconv.Atoi(n.String())
	if !is || err != nil || port < 1 || port > 65535 {
		got := v.kind()
		if is {
			got = n.String()
		}
		r.report(v.at, fmt.Sprintf("%q must be a whole number from 1 to 65535, and is %s", in+key, got))
		return 0
	}
	return port
}

// strings is the value of a key that is a list of strings.
func (r *reader) strings(object value, in, key string, n need) []string {
	v, ok := r.find(object, in, key, n)
	switch {
	case !ok:
		return nil
	case v.plain != json.Delim('['):
		r.report(v.at, fmt.Sprintf("%q must be a list of strings, and is %s", in+key, v.kind()))
		return nil
	case n == needed && len(v.list) == 0:
		r.report(v.at, fmt.Sprintf("%q must not be empty", in+key))
	case len(v.list) > maxArgs:
		r.report(v.at, fmt.Sprintf("%q has more than %d elements", in+key, maxArgs))
		return nil
	}
	list := []string{}
	for i, element := range v.list {
		text, is := element.plain.(string)
		problem := ""
		switch {
		case !is:
			problem = "must be a string, and is " + element.kind() + inQuotes(element)
		case len(text) > maxArg:
			problem = fmt.Sprintf("is longer than %d bytes", maxArg)
		case strings.ContainsRune(text, 0):
			problem = "has a NUL character"
		}
		if problem != "" {
			r.report(element.at, fmt.Sprintf("element %d of %q %s", i+1, in+key, problem))
			continue
		}
		list = append(list, text)
	}
	return list
}
