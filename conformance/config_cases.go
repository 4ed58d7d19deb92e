package conformance

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery"
	"github.com/machineries/machineries/machinery/config"
)

// configCase is a value of a configuration that its schema has something to say about.
type configCase struct {
	field   config.Field
	section []string // the keys above it; for a machine's, its name is the last
	value   string   // as YAML; absent removes the key
	what    string
	taken   bool // the file can be used
	vacant  bool // it is no value at all
}

// absent stands for no key at all.
const absent = "\x00absent"

// path is the key with those above it.
func (c configCase) path() string {
	return strings.Join(append(c.section[:len(c.section):len(c.section)], c.field.Key), ".")
}

// fieldCases calls add for every field of a schema that stands in a plain section, with those of one machine.
func fieldCases(s *config.Schema, machine string, add func(section []string, f config.Field)) {
	var walk func(section []string, fields []config.Field)
	walk = func(section []string, fields []config.Field) {
		for _, f := range fields {
			below := append(section[:len(section):len(section)], f.Key)
			switch t := f.Type.(type) {
			case config.Section:
				walk(below, t.Fields)
			case config.Machines:
				walk(append(below, machine), t.Fields)
			default:
				add(section, f)
			}
		}
	}
	walk(nil, s.Fields)
}

// requiredCases are files that lack a key, or have no value for it.
func requiredCases(s *config.Schema, machine string) (missing, empty []configCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		add := func(cases *[]configCase, value, what string, taken bool) {
			*cases = append(*cases, configCase{field: f, section: section, value: value, what: what, taken: taken, vacant: true})
		}
		add(&missing, absent, "is missing", f.Optional)
		add(&empty, "null", "is null", f.AllowEmpty)
		add(&empty, `""`, "is the empty text", f.AllowEmpty)
		add(&empty, `"  "`, "is blank", f.AllowEmpty)
		if _, list := f.Type.(config.List); list {
			add(&empty, "[]", "is the empty list", f.AllowEmpty)
		}
	})
	return missing, empty
}

// form is a value that a type does not take, or takes.
type form struct {
	value string // as YAML
	what  string
	taken bool
}

// forms are values that are not of a type, wherever the file is read, and those at and around its bounds.
func forms(t config.Type) (wrong, bounds []form) {
	add := func(value, what string) { wrong = append(wrong, form{value, what, false}) }
	at := func(value string, taken bool) { bounds = append(bounds, form{value, value, taken}) }
	switch t := t.(type) {
	case config.Int:
		for _, value := range []string{"eight", "1.5", "8000.9", "8000.0", "true", "010", "1e3"} {
			add(value, value)
		}
		if t.Min != nil {
			at(strconv.FormatInt(*t.Min, 10), true)
			at(strconv.FormatInt(*t.Min-1, 10), false)
		}
		if t.Max != nil {
			at(strconv.FormatInt(*t.Max, 10), true)
			at(strconv.FormatInt(*t.Max+1, 10), false)
		}
	case config.Bool:
		add("maybe", "maybe")
	case config.Duration:
		add("soon", "soon")
		add("-1s", "negative")
		if t.Min != nil {
			at(t.Min.String(), true)
			at((*t.Min - time.Nanosecond).String(), false)
		}
		if t.Max != nil {
			at(t.Max.String(), true)
			at((*t.Max + time.Nanosecond).String(), false)
		}
	case config.MACAddress:
		add("52-54-00-12-34-56", "a MAC address without colons")
		add("52:54:00:12:34", "five bytes of a MAC address")
	case config.IPAddress:
		add("10.0.0.300", "no IP address")
		add("localhost", "a host's name")
		switch t.Version {
		case 4:
			add(`"2001:db8::1"`, "an IPv6 address")
		case 6:
			add("192.0.2.1", "an IPv4 address")
		}
	case config.HTTPUrl:
		add("ftp://host/", "a URL of another scheme")
	case config.HypervisorURI:
		add("not a uri", "no URI")
	case config.UnixSocketPath:
		add("/"+strings.Repeat("s", 107), "a path that is too long for a socket")
	case config.String:
		if t.OneOf != nil {
			add("none-of-these", "none of those that there are")
		}
	case config.List:
		add("[{a: 1}]", "a list of sections")
		add("[[a]]", "a list of lists")
		if t.Of != nil {
			in := func(elements []form) (lists []form) {
				for _, f := range elements {
					lists = append(lists, form{"[" + f.value + "]", "a list with " + f.value + " in it", f.taken})
				}
				return lists
			}
			elements, limits := forms(t.Of)
			wrong, bounds = append(wrong, in(elements)...), append(bounds, in(limits)...)
		}
	}
	return wrong, bounds
}

// formCases are values that are not of a field's type, wherever the file is read.
func formCases(s *config.Schema, machine string) (cases []configCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		wrong, _ := forms(f.Type)
		wrong = append(wrong, form{"{a: {b: 1}}", "a section", false})
		if _, list := f.Type.(config.List); !list {
			wrong = append(wrong, form{"[a, b]", "a list", false})
		}
		for _, each := range wrong {
			cases = append(cases, configCase{field: f, section: section, value: each.value, what: "is " + each.what, taken: each.taken})
		}
	})
	return cases
}

// boundCases are values at and around the bounds of numbers and lengths of time.
func boundCases(s *config.Schema, machine string) (cases []configCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		_, bounds := forms(f.Type)
		for _, each := range bounds {
			cases = append(cases, configCase{field: f, section: section, value: each.value, what: "is " + each.what, taken: each.taken})
		}
	})
	return cases
}

// valueCase is a value of a machine's key with what Machines has to say of it.
type valueCase struct {
	configCase
	want string
	read func(machinery.Machine) any
}

// told are the keys of machines that Machines tells of.
var told = map[string]func(machinery.Machine) any{
	"ip":           func(m machinery.Machine) any { return m.IP },
	"mac_address":  func(m machinery.Machine) any { return m.MACAddress },
	"platform":     func(m machinery.Machine) any { return m.Platform },
	"os_version":   func(m machinery.Machine) any { return m.OSVersion },
	"architecture": func(m machinery.Machine) any { return m.Architecture },
	"agent_port":   func(m machinery.Machine) any { return m.AgentPort },
	"tags":         func(m machinery.Machine) any { return strings.Join(m.Tags, "|") },
}

// valueCases are values that a reader of YAML may change, and keys that are not there.
func valueCases(s *config.Schema, machine string) (cases []valueCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		read := told[f.Key]
		if read == nil || len(section) == 0 || section[len(section)-1] != machine {
			return
		}
		add := func(value, what, want string) {
			cases = append(cases, valueCase{configCase{field: f, section: section, value: value, what: what, taken: true}, want, read})
		}
		if f.Optional && f.Default != nil {
			add(absent, "is missing", fmt.Sprint(f.Default))
		}
		switch t := f.Type.(type) {
		case config.String:
			if t.OneOf != nil {
				return
			}
			for _, text := range []string{"18.10", "no", "010"} {
				add(text, "is "+text, text)
			}
			want := "MiXed"
			if t.ToLower {
				want = "mixed"
			}
			add("MiXed", "is MiXed", want)
		case config.MACAddress:
			if t.ToLower {
				add("52:54:00:AB:CD:EF", "is in capital letters", "52:54:00:ab:cd:ef")
			}
		case config.Int:
			add("4711", "is 4711", "4711")
		case config.List:
			if _, texts := t.Of.(config.String); texts || t.Of == nil {
				add("[b, 1.10, a, no]", "are b, 1.10, a and no", "b|1.10|a|no")
			}
		}
	})
	return cases
}

// hostCases are values that lead nowhere on this host, where the schema wants something to be there. plain is a file that cannot be executed.
func hostCases(s *config.Schema, machine, plain string) (cases []configCase, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	fieldCases(s, machine, func(section []string, f config.Field) {
		add := func(wanted bool, value, what string) {
			if wanted {
				cases = append(cases, configCase{field: f, section: section, value: value, what: what})
			}
		}
		const nowhere = "/nonexistent/of/the/suite"
		switch t := f.Type.(type) {
		case config.FilePath:
			there := t.MustExist || t.Readable || t.Writable || t.Executable
			add(there, nowhere, "does not exist")
			add(there, "/", "is a directory")
			add(t.Executable, strconv.Quote(plain), "cannot be executed")
		case config.DirectoryPath:
			there := t.MustExist || t.Readable || t.Writable
			add(there, nowhere, "does not exist")
			add(there, strconv.Quote(self), "is a file")
		case config.UnixSocketPath:
			there := t.MustExist || t.Readable || t.Writable
			add(there, nowhere, "does not exist")
			add(there, strconv.Quote(self), "is no socket")
		case config.NetworkInterface:
			add(t.MustExist || t.MustBeUp, "mm-none0", "does not exist")
		}
	})
	return cases, nil
}

// uniqueKeys are the keys whose values no two machines may share, and the key of the machines.
func uniqueKeys(s *config.Schema) (machines string, keys []string) {
	for _, f := range s.Fields {
		if t, is := f.Type.(config.Machines); is {
			return f.Key, t.Unique
		}
	}
	return "", nil
}

// machinesKey is the key below which the machines are.
func machinesKey(s *config.Schema) string {
	key, _ := uniqueKeys(s)
	return key
}

// edited is a configuration with another value in the place of one, or with the key where it was not.
func edited(text []byte, section []string, key, value string) ([]byte, error) {
	root, at, err := sectionOf(text, section)
	if err != nil {
		return nil, err
	}
	if value == absent {
		removeKey(at, key)
	} else if err := setKey(at, key, value); err != nil {
		return nil, err
	}
	return yaml.Marshal(root)
}

// doubled is a configuration in which a key stands twice, with two values; false if it does not stand there at all.
func doubled(text []byte, section []string, key string) ([]byte, bool, error) {
	root, at, err := sectionOf(text, section)
	if err != nil {
		return nil, false, err
	}
	value := valueOf(at, key)
	if value == nil {
		return nil, false, nil
	}
	other := *value
	if other.Kind == yaml.ScalarNode {
		other.Value += "1"
	}
	at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &other)
	changed, err := yaml.Marshal(root)
	return changed, true, err
}

// linesOf are the lines of a file that a key of a section is on, with its value; or of the section, if the key is not there. Of a key that stands
// twice they go from the one to the other.
func linesOf(text []byte, section []string, key string) (first, last int, err error) {
	root := new(yaml.Node)
	if err := yaml.Unmarshal(text, root); err != nil {
		return 0, 0, err
	}
	if len(root.Content) != 1 {
		return 0, 0, errors.New("the file is empty")
	}
	at := root.Content[0]
	first = 1
	for _, name := range section {
		i := indexOf(at, name)
		if i < 0 {
			return 0, 0, fmt.Errorf("there is no section %s", name)
		}
		first, at = at.Content[i].Line, at.Content[i+1]
	}
	i := indexOf(at, key)
	if i < 0 {
		return first, lastLine(at), nil
	}
	first = at.Content[i].Line
	for ; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == key {
			last = lastLine(at.Content[i+1])
		}
	}
	return first, last, nil
}

// lastLine is the last line that something of a node begins on.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// filled tells whether a configuration has a value for the key of a case.
func (c configCase) filled(text []byte) (bool, error) {
	_, at, err := sectionOf(text, c.section)
	if err != nil {
		return false, err
	}
	value := valueOf(at, c.field.Key)
	return value != nil && (len(value.Content) > 0 || value.Kind == yaml.ScalarNode && value.Tag != "!!null" && value.Value != ""), nil
}

// sectionOf reads a file, and finds a section in it, which it makes where it is not.
func sectionOf(text []byte, section []string) (root, at *yaml.Node, err error) {
	root = new(yaml.Node)
	if err := yaml.Unmarshal(text, root); err != nil {
		return nil, nil, err
	}
	if len(root.Content) != 1 || root.Content[0].Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("the lab's configuration is no mapping: %.200s", text)
	}
	at = root.Content[0]
	for _, key := range section {
		next := valueOf(at, key)
		if next == nil || next.Kind != yaml.MappingNode {
			removeKey(at, key)
			next = &yaml.Node{Kind: yaml.MappingNode}
			at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, next)
		}
		at = next
	}
	return root, at, nil
}

// indexOf is where a key is among the content of a mapping; -1 for one that it does not have.
func indexOf(mapping *yaml.Node, key string) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return i
		}
	}
	return -1
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	if i := indexOf(mapping, key); i >= 0 {
		return mapping.Content[i+1]
	}
	return nil
}

func removeKey(mapping *yaml.Node, key string) {
	if i := indexOf(mapping, key); i >= 0 {
		mapping.Content = slices.Delete(mapping.Content, i, i+2)
	}
}

// setKey gives a key a value, which is YAML.
func setKey(mapping *yaml.Node, key, value string) error {
	var parsed yaml.Node
	if err := yaml.Unmarshal([]byte("k: "+value+"\n"), &parsed); err != nil {
		return err
	}
	node := parsed.Content[0].Content[1]
	removeKey(mapping, key)
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, node)
	return nil
}
