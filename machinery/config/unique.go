package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// unique reports values that two sections share although only one may have them. The second is to blame; enter is
// called with its number before.
func (c *checker) unique(keys []string, sections []*Values, enter func(i int)) {
	for _, key := range keys {
		first := map[string]int{}
		for i, s := range sections {
			val := s.vals[key]
			if !val.set {
				continue // absent, null or an error; a default that all share is no duplicate
			}
			id := c.identity(s.field(key).Type, val.data)
			if id == "" {
				continue
			}
			j, taken := first[id]
			if !taken {
				first[id] = i
				continue
			}
			other := sections[j]
			enter(i)
			shown := show(fmt.Sprint(val.data))
			if s.field(key).Sensitive {
				shown = "this value"
			}
			problem := fmt.Sprintf("%s is already the %s of %s (line %d)", shown, key, other.path, deref(other.vals[key].node).Line)
			if other.vals[key].data != val.data {
				problem = fmt.Sprintf("%s is the same as %s, the %s of %s (line %d)", shown,
					show(fmt.Sprint(other.vals[key].data)), key, other.path, deref(other.vals[key].node).Line)
			}
			at, hint := val.node, "each needs a value of its own"
			if deref(val.node) == deref(other.vals[key].node) { // by "*" or "<<"; the value's line is not the one to blame
				at, hint = firstNode(s.keyNode, s.node), "it takes over what stands there; give it a value of its own"
			}
			c.report(at, joinPath(s.path, key), fault{problem: problem, hint: hint})
		}
	}
}

// identity is the same for values that mean the same thing: two ways to the same file, or two spellings of an address.
func (c *checker) identity(t Type, data any) string {
	text := strings.TrimSpace(fmt.Sprint(data))
	switch t.(type) {
	case FilePath, DirectoryPath, UnixSocketPath:
		if text == "" || c.host.static {
			return text
		}
		if real, err := filepath.EvalSymlinks(text); err == nil {
			text = real
		}
		if abs, err := filepath.Abs(text); err == nil {
			text = abs
		}
	case MACAddress:
		return strings.ToLower(text)
	}
	return text
}
