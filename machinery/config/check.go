package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	// maxValues is how many values are looked at. A file of MaxSize has fewer unless aliases multiply them.
	maxValues = 500_000
	// maxValue is the length of the longest value, in bytes.
	maxValue = 64 << 10
	// maxListed is how many problems are kept, beside the first error of each machine.
	maxListed = 500
)

// checker holds a tree against a schema and makes the Document of it.
type checker struct {
	source   *source
	host     *host
	strict   bool // warnings are errors
	doc      *Document
	problems Problems
	machine  string          // the machine whose section is being read
	failed   map[string]bool // machines with an error; "" for what belongs to no machine
	looked   int             // values so far

	unlisted         int
	unlistedSeverity Severity
}

// place is where a section of the schema stands in the file.
type place struct {
	path     string
	keyNode  *yaml.Node // the key above it
	node     *yaml.Node // the mapping, aliases followed; nil where the file has none
	optional bool       // the file may do without it: what it lacks is not missing
}

func (c *checker) report(at *yaml.Node, path string, f fault) {
	severity := Error
	if f.warning && !c.strict {
		severity = Warning
	}
	first := severity == Error && !c.failed[c.machine]
	if first {
		c.failed[c.machine] = true // it is always kept: Document.Err and Entry.Err must know
	}
	if len(c.problems) >= maxListed && !first {
		if c.unlisted == 0 || severity == Error {
			c.unlistedSeverity = severity
		}
		c.unlisted++
		return
	}
	c.problems = append(c.problems, Diagnostic{
		Position: c.source.position(at), Path: path, Problem: f.problem, Hint: f.hint, Severity: severity, machine: c.machine,
	})
}

// document reads the whole file.
func (c *checker) document(root *yaml.Node) *Document {
	fields := c.doc.schema.Fields
	switch {
	case root == nil || isNull(root):
		what := "the file is empty"
		if strings.TrimSpace(string(c.source.data)) != "" {
			what = "there is nothing in the file but comments"
			if root != nil {
				what = "the file is " + c.shape(root, false) + ", not keys with values"
			}
		}
		c.report(nil, "", *faultf("it needs "+list(requiredKeys(fields)), "%s", what))
		root = nil
	case root.Kind != mappingKind:
		c.report(root, "", *faultf("begin each line with a key: "+example(fields), "the file is %s, not keys with values", c.shape(root, false)))
	}
	p := place{node: root, optional: root == nil || root.Kind != mappingKind}
	c.doc.Values = c.section(fields, p)
	return c.doc
}

// pair is one key of a mapping with its value.
type pair struct {
	keyNode, node *yaml.Node
	key           string
}

// machineName is what the keys of a Machines are called in messages.
const machineName = "machine name"

// pairs are the keys of a mapping in the order of the file, those of merged mappings ("<<: *name") last. Duplicates are
// reported, and the first is kept: the others could hide what the reader of the file saw first.
func (c *checker) pairs(p place, what string) []pair {
	var out []pair
	seen := map[string]*yaml.Node{}
	active := map[*yaml.Node]bool{}
	var collect func(n *yaml.Node, merged bool)
	collect = func(n *yaml.Node, merged bool) {
		active[n] = true
		defer delete(active, n)
		var merges []*yaml.Node
		own := map[string]bool{}
		for i := 0; i+1 < len(n.Content) && c.spend(n); i += 2 {
			keyNode, node := n.Content[i], n.Content[i+1]
			if keyNode.Kind == scalarKind && keyNode.Tag == "!!merge" {
				merges = append(merges, node)
				continue
			}
			target := deref(keyNode)
			if target.Kind != scalarKind || target.Tag == "!!null" {
				hint := "a " + what + " is a plain text"
				if target.Kind == scalarKind {
					hint = "put it in quotes if it is meant as a text"
				}
				c.report(keyNode, p.path, *faultf(hint, "%s cannot be a %s", c.shape(target, false), what))
				continue
			}
			key := target.Value
			if first, twice := seen[key]; twice {
				if !merged || own[key] {
					if what == machineName {
						c.machine = key // which of the two is meant nobody knows, so that machine is not to be used
					}
					c.report(keyNode, joinPath(p.path, key), *faultf("remove one of the two, or rename it",
						"this %s is already on line %d", what, first.Line))
					if what == machineName {
						c.machine = ""
					}
				}
				continue
			}
			seen[key], own[key] = keyNode, true
			out = append(out, pair{keyNode, node, key})
		}
		for _, m := range merges {
			sources := []*yaml.Node{deref(m)}
			if sources[0].Kind == sequenceKind {
				sources = sources[0].Content
			}
			for _, s := range sources {
				switch t := deref(s); {
				case t.Kind != mappingKind:
					c.report(s, p.path, *faultf(`write it as "<<: *name", where name is given to a section with "&name"`, "only sections can be merged, and this is %s", c.shape(t, false)))
				case active[t]:
					c.report(s, p.path, *faultf("", "this section would be merged into itself"))
				case c.spend(n):
					collect(t, true)
				}
			}
		}
	}
	collect(p.node, false)
	return out
}

// spend counts one value, and is false once aliases have made the file larger than any file can be.
func (c *checker) spend(at *yaml.Node) bool {
	c.looked++
	if c.looked == maxValues {
		c.machine = ""
		c.report(at, "", *faultf(`remove the references ("*name", "<<")`, "the references in this file multiply it to more than %d values", maxValues))
	}
	return c.looked < maxValues
}

// section reads a mapping whose keys are fields.
func (c *checker) section(fields []Field, p place) *Values {
	v := &Values{doc: c.doc, fields: fields, path: p.path, keyNode: p.keyNode, vals: make(map[string]*value, len(fields))}
	var pairs []pair
	if p.node != nil && p.node.Kind == mappingKind {
		v.node = p.node
		pairs = c.pairs(p, "key")
	}
	var unknown []pair
	byKey := make(map[string]pair, len(pairs))
	for _, pr := range pairs {
		byKey[pr.key] = pr
		if !slices.Contains(keysOf(fields), pr.key) {
			unknown = append(unknown, pr)
		}
	}
	meant := c.unknown(fields, unknown, byKey, p.path)
	for _, f := range fields {
		path := joinPath(p.path, f.Key)
		if pr, there := byKey[f.Key]; there {
			v.vals[f.Key] = c.value(f, pr, path)
			continue
		}
		v.vals[f.Key] = c.absent(f, p, path, meant[f.Key])
	}
	return v
}

// absent is the value of a key that the file does not have.
func (c *checker) absent(f Field, p place, path string, meant pair) *value {
	val := &value{data: c.zero(f, path)}
	switch {
	case f.Optional && f.Default != nil:
		data, flt := c.defaultValue(f)
		if flt != nil && !flt.warning {
			hint := fmt.Sprintf("write the right value as %q", f.Key+": …")
			c.report(firstNode(p.keyNode, p.node), path, *faultf(hint, "the file does not have this key, and its default does not hold on this host: %s", flt.problem))
			return val
		}
		val.data = data
	case !f.Optional && !p.optional:
		hint := f.Doc
		if meant.keyNode != nil {
			hint = fmt.Sprintf("is %q on line %d meant to be it?", meant.key, meant.keyNode.Line)
		} else if ex := example([]Field{f}); ex != "" {
			hint = strings.TrimSpace(sentence(hint) + " Write, for example: " + ex)
		} else if f.Type.kind() == kindMachines {
			hint = strings.TrimSpace(sentence(hint) + " Each machine needs " + sentence(list(requiredKeys(fieldsOf(f.Type)))))
		} else if below := fieldsOf(f.Type); below != nil {
			hint = strings.TrimSpace(sentence(hint) + " " + sentence(upper(needs(below))))
		} else if f.AllowEmpty {
			hint = strings.TrimSpace(sentence(hint) + fmt.Sprintf(" It may be empty: %q alone will do.", f.Key+":"))
		}
		what := "this key is missing"
		if below := fieldsOf(f.Type); below != nil {
			what = "this section is missing"
		}
		c.report(firstNode(p.keyNode, p.node), path, fault{problem: what, hint: hint})
	}
	return val
}

// zero is what the accessors need where there is no value: sections that are not there still have keys.
func (c *checker) zero(f Field, path string) any {
	if t, is := f.Type.(Section); is {
		return c.section(t.Fields, place{path: path, optional: true})
	}
	return nil
}

// value reads the value of a key that the file has.
func (c *checker) value(f Field, pr pair, path string) *value {
	node := deref(pr.node)
	val := &value{keyNode: pr.keyNode, node: pr.node}
	if tag := node.Tag; strings.HasPrefix(tag, "!") && !slices.Contains(standardTags, tag) {
		c.report(pr.node, path, *faultf("remove it; a value needs no tag here", "the tag %s is not understood", show(tag)))
		val.data = c.zero(f, path)
		return val
	}
	if isEmpty(node, f.Type) {
		if !f.AllowEmpty && !(f.Type.kind() == kindSection && !requires(f.Type)) {
			c.report(pr.node, path, emptyFault(f, node))
		} else {
			val.set = !isNull(node) && !(node.Kind == scalarKind && f.Type.kind() != kindText && f.Type.kind() != kindList)
		}
		val.data = c.zero(f, path)
		if f.AllowEmpty && val.set && f.Type.kind() == kindText {
			val.data = ""
		}
		return val
	}
	switch t := f.Type.(type) {
	case Section:
		if c.want(mappingKind, pr.node, path, f) {
			val.set = true
			val.data = c.section(t.Fields, place{path: path, keyNode: pr.keyNode, node: node})
		} else {
			val.data = c.zero(f, path)
		}
	case Machines:
		if c.want(mappingKind, pr.node, path, f) {
			val.set = true
			val.data = c.machines(t, place{path: path, keyNode: pr.keyNode, node: node})
		}
	case DictList:
		if c.want(sequenceKind, pr.node, path, f) {
			val.set = true
			val.data = c.dictList(t, node, path)
		}
	case Dict:
		if c.want(mappingKind, pr.node, path, f) {
			val.data, val.set = c.dict(t, f, place{path: path, keyNode: pr.keyNode, node: node})
		}
	case List:
		if node.Kind == scalarKind {
			node = &yaml.Node{Kind: sequenceKind, Content: []*yaml.Node{pr.node}, Line: node.Line, Column: node.Column}
		}
		if c.want(sequenceKind, node, path, f) {
			c.list(t, f, node, path, val)
		}
	case scalar:
		val.data, val.set = c.scalar(t, f, pr.node, path)
	}
	return val
}

// standardTags are those that YAML itself gives or knows. !!binary and all others would make the text mean something else.
var standardTags = []string{"!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq", "!!merge", "!!timestamp"}

// scalar reads one plain value.
func (c *checker) scalar(t scalar, f Field, at *yaml.Node, path string) (any, bool) {
	node := deref(at)
	if !c.want(scalarKind, at, path, f) || !c.spend(at) {
		return nil, false
	}
	if len(node.Value) > maxValue {
		c.report(at, path, *faultf("", "this value is %d bytes long, and at most %d make sense", len(node.Value), maxValue))
		return nil, false
	}
	data, flt := t.read(node.Value, c.host)
	if flt == nil {
		return data, true
	}
	if flt.secret {
		c.source.hide(node)
	} else if f.Sensitive || c.source.hides(node) {
		// The problem would show the value.
		flt = &fault{problem: "this is not " + t.Describe() + " that can be used; the value is sensitive and not shown", warning: flt.warning}
	}
	c.report(at, path, *flt)
	if flt.warning {
		return data, true
	}
	return nil, false
}

// want reports a value of the wrong shape.
func (c *checker) want(kind yaml.Kind, at *yaml.Node, path string, f Field) bool {
	node := deref(at)
	if node.Kind == kind {
		return true
	}
	hint := ""
	switch k := f.Type.kind(); {
	case kind == scalarKind && node.Kind == mappingKind && len(node.Content) > 0 && node.Content[0].Kind == mappingKind:
		hint = `"{{ … }}" is the place of a value in a template, which this file still has; write the value itself`
	case node.Kind == sequenceKind && k == kindMachines:
		hint = `write each machine as its name and a colon, with its keys indented below; remove the "- "`
	case node.Kind == sequenceKind && kind == scalarKind:
		hint = "write one value, without the dash or the brackets"
	case kind == mappingKind && len(fieldsOf(f.Type)) > 0 && k == kindSection:
		hint = needs(fieldsOf(f.Type))
	case k == kindList:
		hint = `write it as [a, b], or each element on a line of its own after "- "`
	case k == kindDictList:
		hint = `begin each section with "- " before its first key`
	case k == kindDict:
		hint = `write each as "name: value" on a line of its own`
	case k == kindMachines:
		hint = "write each machine as its name and a colon, with its keys indented below"
	case kind == scalarKind:
		if ex := example([]Field{f}); ex != "" {
			hint = "write, for example: " + ex
		}
	}
	c.report(at, path, *faultf(hint, "this is %s, but %s is wanted", c.shape(node, f.Sensitive || len(sensitiveKeys(fieldsOf(f.Type))) > 0), f.Type.Describe()))
	return false
}

// deref is the node that an alias stands for. The parser makes no alias of an alias.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == scalarKind && n.Tag == "!!null" }

// isEmpty tells null, blank text, and a list or mapping without content.
func isEmpty(n *yaml.Node, t Type) bool {
	switch n.Kind {
	case scalarKind:
		return isNull(n) || strings.TrimSpace(n.Value) == ""
	case sequenceKind:
		return len(n.Content) == 0 && (t.kind() == kindList || t.kind() == kindDictList)
	case mappingKind:
		return len(n.Content) == 0 && (t.kind() >= kindDict && t.kind() != kindDictList)
	}
	return false
}

// shape names what stands in the file.
func (c *checker) shape(n *yaml.Node, sensitive bool) string {
	switch {
	case n.Kind == mappingKind:
		return "a section with keys of its own"
	case n.Kind == sequenceKind:
		return "a list"
	case isNull(n):
		return "nothing (null)"
	case sensitive || c.source.hides(n):
		return "a text"
	}
	return "the text " + show(n.Value)
}
