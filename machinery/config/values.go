package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// String is the value of a key of any of the types that are text: String, the paths, NetworkInterface, MACAddress,
// IPAddress, HypervisorURI and HTTPUrl. Empty where there is no value.
func (v *Values) String(key string) string {
	s, _ := v.get(key, kindText).data.(string)
	return s
}

// IP is the value of a key of type IPAddress, as an address. The zero Addr where there is no value.
func (v *Values) IP(key string) netip.Addr {
	if _, is := v.field(key).Type.(IPAddress); !is {
		panic(fmt.Sprintf("config: key %q is %s: IP reads keys of type IPAddress alone", joinPath(v.path, key), v.field(key).Type.Describe()))
	}
	addr, _ := netip.ParseAddr(v.String(key))
	return addr
}

// Int is the value of a key of type Int. 0 where there is no value.
func (v *Values) Int(key string) int {
	n, _ := v.get(key, kindInt).data.(int)
	return n
}

// Bool is the value of a key of type Bool. False where there is no value.
func (v *Values) Bool(key string) bool {
	b, _ := v.get(key, kindBool).data.(bool)
	return b
}

// Duration is the value of a key of type Duration. 0 where there is no value.
func (v *Values) Duration(key string) time.Duration {
	d, _ := v.get(key, kindDuration).data.(time.Duration)
	return d
}

// Strings are the elements of a key of type List, in the order of the file; elements that are not text come as
// their text. The caller may change the slice.
func (v *Values) Strings(key string) []string {
	items, _ := v.get(key, kindList).data.([]any)
	if items == nil {
		return nil
	}
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = fmt.Sprint(item)
	}
	return texts
}

// Ints are the elements of a key of type List of Int, in the order of the file. The caller may change the slice.
func (v *Values) Ints(key string) []int {
	if l, is := v.field(key).Type.(List); !is || l.of().kind() != kindInt {
		panic(fmt.Sprintf("config: key %q is %s: Ints reads lists of Int alone", joinPath(v.path, key), v.field(key).Type.Describe()))
	}
	items, _ := v.get(key, kindList).data.([]any)
	var numbers []int
	for _, item := range items {
		numbers = append(numbers, item.(int))
	}
	return numbers
}

// Dict are the names and values of a key of type Dict, in the order of the file. The caller may change the slice.
func (v *Values) Dict(key string) []Pair {
	p, _ := v.get(key, kindDict).data.([]Pair)
	return slices.Clone(p)
}

// Sections are the elements of a key of type DictList, in the order of the file.
func (v *Values) Sections(key string) []*Values {
	s, _ := v.get(key, kindDictList).data.([]*Values)
	return slices.Clone(s)
}

// Section are the values of a key of type Section. Where the file does not have it, they are the defaults.
func (v *Values) Section(key string) *Values {
	return v.get(key, kindSection).data.(*Values)
}

// Entries are the machines of a key of type Machines, in the order of the file.
func (v *Values) Entries(key string) []Entry {
	e, _ := v.get(key, kindMachines).data.([]Entry)
	return slices.Clone(e)
}

// IsSet tells whether the file itself has a value for the key: not if the key is absent, null or an error.
// 0, false, the empty text and the empty list are values.
func (v *Values) IsSet(key string) bool {
	v.field(key)
	return v.vals[key].set
}

// Position is where the file has the value that path leads to, from here: keys, machine names and the numbers of
// list elements, which count from 0. Where the file lacks it, it is the nearest place above that the file has.
// No path at all is the place of the section or machine itself, which is its key.
func (v *Values) Position(path ...string) Position {
	node, _ := v.find(path)
	return v.doc.source.position(node)
}

// Problem is an error at the value that path leads to, as in Position, for what only a driver can find out: the
// result has place and line like any other. It is not added to the document.
func (v *Values) Problem(problem string, path ...string) Diagnostic {
	node, full := v.find(path)
	d := Diagnostic{Position: v.doc.source.position(node), Path: full, Problem: problem}
	v.doc.source.illustrate(&d)
	return d
}

// find is the node that path leads to, or the nearest above it, and the whole path as messages write it.
func (v *Values) find(path []string) (*yaml.Node, string) {
	here := firstNode(v.keyNode, v.node)
	if len(path) == 0 {
		return here, v.path
	}
	f := v.field(path[0])
	val, full, rest := v.vals[path[0]], joinPath(v.path, path[0]), path[1:]
	node := val.node
	if node == nil || node.Kind != yaml.ScalarNode && node.Kind != yaml.AliasNode || f.Sensitive {
		node = firstNode(val.keyNode, here)
	}
	if len(rest) == 0 {
		return node, full
	}
	numbered := false
	switch data := val.data.(type) {
	case *Values:
		below, fullBelow := data.find(rest)
		return firstNode(below, node), fullBelow
	case []Entry:
		for _, e := range data {
			if e.Name == rest[0] {
				return e.find(rest[1:])
			}
		}
	case []*Values:
		numbered = true
		if i := index(rest[0]); i >= 0 && i < len(data) {
			return data[i].find(rest[1:])
		}
	default:
		numbered = f.Type.kind() == kindList
		if i := index(rest[0]); i >= 0 && i < len(val.items) {
			return val.items[i], itemPath(full, i)
		}
	}
	for _, p := range rest {
		if i := index(p); numbered && i >= 0 {
			full = itemPath(full, i)
		} else {
			full = joinPath(full, p)
		}
		numbered = false
	}
	return node, full
}

// index is the number that s is, or -1.
func index(s string) int {
	i, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1
	}
	return int(i)
}

func firstNode(nodes ...*yaml.Node) *yaml.Node {
	for _, n := range nodes {
		if n != nil {
			return n
		}
	}
	return nil
}

// get is the value of key, whose type must be of kind k.
func (v *Values) get(key string, k kind) *value {
	f := v.field(key)
	if have := f.Type.kind(); have != k {
		panic(fmt.Sprintf("config: key %q is %s: read it with %s, not with %s",
			joinPath(v.path, key), f.Type.Describe(), accessors[have], accessors[k]))
	}
	return v.vals[key]
}

// field is the declaration of key.
func (v *Values) field(key string) Field {
	for _, f := range v.fields {
		if f.Key == key {
			return f
		}
	}
	panic(fmt.Sprintf("config: the schema of %s has no key %q here; it has %s",
		v.doc.schema.Name, joinPath(v.path, key), list(keysOf(v.fields))))
}

// joinPath is a key path with one more key; a key that would not read as one is quoted.
func joinPath(path, key string) string {
	if key == "" || len(key) > 80 || strings.ContainsFunc(key, func(r rune) bool { return strings.ContainsRune(".[]: \"'", r) || !printable(r) }) {
		key = show(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// itemPath is the path of a list's element.
func itemPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func keysOf(fields []Field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Key
	}
	return keys
}
