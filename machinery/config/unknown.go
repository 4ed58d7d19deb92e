package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// unknown warns of keys that the schema does not have. It returns, for each key that is absent, the unknown one that was
// probably meant to be it.
func (c *checker) unknown(fields []Field, unknown []pair, present map[string]pair, path string) map[string]pair {
	meant := map[string]pair{}
	for _, pr := range unknown {
		f := fault{problem: "this key is unknown, and has no effect", warning: true}
		if len(c.problems) >= maxListed {
			c.report(pr.keyNode, path, f) // not listed, so what it says does not matter
			continue
		}
		key := pr.key
		glued := gluedName(key)
		if glued != key && (nearest(glued, keysOf(fields)) != "" || nearest(glued, c.source.sensitive) != "") {
			key = glued // what follows the colon is a value, which may be sensitive
			f.hint = fmt.Sprintf("there is no space after the colon of %q", key)
			c.report(pr.keyNode, joinPath(path, key), f)
			continue
		}
		near := nearest(pr.key, keysOf(fields))
		_, taken := present[near]
		elsewhere := whereElse(c.doc.schema, pr.key, path)
		switch {
		case pr.key == "enabled":
			f.problem = "this key is unknown, and switches nothing off: every value is still checked, and every machine listed"
			f.hint = `to take something out of use, put "#" before its lines`
		case near != "" && !taken:
			f.hint = fmt.Sprintf("did you mean %q?", near)
			if hasOddSpace(pr.key) {
				f.hint = fmt.Sprintf("%q is known; this key holds white space that is not a plain space, so type it anew", near)
			}
			if _, twice := meant[near]; !twice {
				meant[near] = pr
			}
		case path == "" && c.looksLikeMachine(pr.node):
			f.hint = "this looks like a machine: indent it, so that it stands below the key of the machines"
		case elsewhere != "":
			f.hint = fmt.Sprintf("%q belongs %s: check the indentation", pr.key, elsewhere)
		case near != "":
			f.hint = fmt.Sprintf("did you mean %q? It is already on line %d", near, present[near].keyNode.Line)
		default:
			f.hint = "known here: " + list(keysOf(fields))
		}
		c.report(pr.keyNode, joinPath(path, pr.key), f)
	}
	return meant
}

// looksLikeMachine tells whether most keys of a mapping are those of a machine.
func (c *checker) looksLikeMachine(n *yaml.Node) bool {
	n = deref(n)
	if n.Kind != mappingKind || len(n.Content) == 0 {
		return false
	}
	for _, f := range c.doc.schema.Fields {
		if f.Type.kind() != kindMachines {
			continue
		}
		known := 0
		for i := 0; i < min(len(n.Content), 100); i += 2 {
			if slices.Contains(keysOf(fieldsOf(f.Type)), n.Content[i].Value) {
				known++
			}
		}
		return 4*known > min(len(n.Content), 100)
	}
	return false
}

func hasOddSpace(key string) bool {
	return strings.ContainsFunc(key, func(r rune) bool { return r != ' ' && (unicode.IsSpace(r) || !printable(r)) })
}

// whereElse says where the schema has a key that is unknown where it stands; "" for nowhere.
func whereElse(s *Schema, key, path string) string {
	if path != "" && slices.Contains(keysOf(s.Fields), key) {
		return "at the top of the file"
	}
	for _, f := range s.Fields {
		if path != f.Key && slices.Contains(keysOf(fieldsOf(f.Type)), key) {
			if f.Type.kind() == kindMachines {
				if strings.HasPrefix(path, f.Key+".") {
					continue
				}
				return "below a machine's name, which stands below " + fmt.Sprintf("%q", f.Key)
			}
			return fmt.Sprintf("below %q", f.Key)
		}
	}
	return ""
}
