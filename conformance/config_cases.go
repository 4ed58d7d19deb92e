package conformance

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/machinery/config"
)

// configCase is a value of a configuration that its schema has something to say about.
type configCase struct {
	field   config.Field
	section []string // the keys above it; for a machine's, its name is the last
	value   string   // as YAML; absent removes the key
	what    string
	taken   bool // the file can be used
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
		if !f.Optional {
			missing = append(missing, configCase{f, section, absent, "is missing", false})
		}
		for value, what := range map[string]string{"null": "is null", `""`: "is the empty text", `"  "`: "is blank"} {
			if !f.AllowEmpty {
				empty = append(empty, configCase{f, section, value, what, false})
			}
		}
	})
	return missing, empty
}

// formCases are values that are not of a field's type, wherever the file is read.
func formCases(s *config.Schema, machine string) (cases []configCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		add := func(value, what string) { cases = append(cases, configCase{f, section, value, "is " + what, false}) }
		add("{a: {b: 1}}", "a section")
		switch t := f.Type.(type) {
		case config.Int:
			for _, value := range []string{"eight", "1.5", "true", "010", "1e3"} {
				add(value, value)
			}
		case config.Bool:
			add("maybe", "maybe")
		case config.Duration:
			add("soon", "soon")
			add("-1s", "negative")
		case config.MACAddress:
			add("52-54-00-12-34-56", "a MAC address without colons")
			add("52:54:00:12:34", "five bytes of a MAC address")
		case config.IPAddress:
			add("10.0.0.300", "no IP address")
			add("localhost", "a host's name")
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
		}
		if _, list := f.Type.(config.List); !list {
			add("[a, b]", "a list")
		}
	})
	return cases
}

// boundCases are values at and around the bounds of numbers and lengths of time.
func boundCases(s *config.Schema, machine string) (cases []configCase) {
	fieldCases(s, machine, func(section []string, f config.Field) {
		add := func(value string, taken bool) {
			cases = append(cases, configCase{f, section, value, "is " + value, taken})
		}
		switch t := f.Type.(type) {
		case config.Int:
			if t.Min != nil {
				add(strconv.FormatInt(*t.Min, 10), true)
				add(strconv.FormatInt(*t.Min-1, 10), false)
			}
			if t.Max != nil {
				add(strconv.FormatInt(*t.Max, 10), true)
				add(strconv.FormatInt(*t.Max+1, 10), false)
			}
		case config.Duration:
			if t.Min != nil {
				add(t.Min.String(), true)
				add((*t.Min - time.Nanosecond).String(), false)
			}
			if t.Max != nil {
				add(t.Max.String(), true)
				add((*t.Max + time.Nanosecond).String(), false)
			}
		}
	})
	return cases
}

// hostCases are values that lead nowhere on this host, where the schema wants something to be there.
func hostCases(s *config.Schema, machine string) (cases []configCase, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	fieldCases(s, machine, func(section []string, f config.Field) {
		add := func(wanted bool, value, what string) {
			if wanted {
				cases = append(cases, configCase{f, section, value, what, false})
			}
		}
		const nowhere = "/nonexistent/of/the/suite"
		switch t := f.Type.(type) {
		case config.FilePath:
			there := t.MustExist || t.Readable || t.Writable || t.Executable
			add(there, nowhere, "does not exist")
			add(there, "/", "is a directory")
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

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func removeKey(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content = append(mapping.Content[:i:i], mapping.Content[i+2:]...)
			return
		}
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
