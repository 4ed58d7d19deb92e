//go:build linux

package qemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// whatInstead is what to write for a node that cannot be reverted.
const whatInstead = "; write a file in a format of its own, as in -blockdev driver=raw,node-name=NAME,file.driver=file,file.filename=PATH (or driver=qcow2), or add read-only=on"

// harmlessDrivers are those of nodes that keep nothing, or pass all on to a node that is looked at itself.
var harmlessDrivers = []string{"null-co", "null-aio", "throttle", "copy-on-read"}

// blockNode is one -blockdev.
type blockNode struct {
	arg   int
	value string
	list  []setting         // what it has, if it is not JSON
	has   map[string]string // by the keys that it has without JSON, such as file.filename
	// placed says that it has the path of the disposable disk.
	placed bool
}

// parseBlockNode reads the value of -blockdev as QEMU does: JSON, or settings of which the first may be the driver without its key.
func parseBlockNode(value string) (*blockNode, error) {
	n := &blockNode{value: value, has: map[string]string{}}
	if strings.HasPrefix(value, "{") {
		node := map[string]any{}
		if err := json.Unmarshal([]byte(value), &node); err != nil {
			return nil, fmt.Errorf("it is not JSON: %w", err)
		}
		flatten(n.has, "", node)
		return n, nil
	}
	n.list = settings(value)
	if first, _, _ := strings.Cut(value, ","); first != "" && !strings.Contains(first, "=") {
		n.list[0] = setting{"driver", n.list[0].key}
	}
	for _, s := range n.list {
		n.has[s.key] = s.value // of a key that is there twice QEMU takes the last
	}
	return n, nil
}

// protected is whether the guest cannot write to it.
func (n *blockNode) protected() bool {
	return slices.Contains([]string{"on", "true", "yes", "y"}, n.has["read-only"])
}

// with is the node with other values of some keys that it has.
func (n *blockNode) with(values map[string]string) string {
	if n.list != nil {
		list := slices.Clone(n.list)
		for i, s := range list {
			if value, is := values[s.key]; is {
				list[i].value = value
			}
		}
		return unsettings(list)
	}
	node := map[string]any{}
	d := json.NewDecoder(strings.NewReader(n.value))
	d.UseNumber()
	_ = d.Decode(&node) // it was read before
	for key, value := range values {
		at := node
		// A key may be written with its dots in JSON too, so that the node in it is not there.
		for {
			outer, inner, dotted := strings.Cut(key, ".")
			next, is := at[outer].(map[string]any)
			if !dotted || !is {
				break
			}
			at, key = next, inner
		}
		at[key] = value
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(node) // cannot fail for what was JSON
	return strings.TrimSpace(b.String())
}

// blockdev notes a node. What it is shows when all nodes are known.
func (c *argChecker) blockdev(value string) string {
	n, err := parseBlockNode(value)
	if err != nil {
		return err.Error()
	}
	n.arg = c.at
	for key, name := range n.has {
		if lastKey(key) != "filename" {
			continue
		}
		switch {
		case strings.Contains(name, placeholder):
			c.disks++
			n.placed = true
		case c.isBase(name):
			return c.namesBase()
		}
	}
	c.nodes = append(c.nodes, n)
	return ""
}

func lastKey(key string) string { return key[strings.LastIndexByte(key, '.')+1:] }

// finishBlockdevs looks at all nodes, once they are known: a node that the guest can write to is either a file below a format, whose
// overlay takes the place of both, or refused.
func (c *argChecker) finishBlockdevs(args []string) {
	for _, n := range c.nodes {
		problem := ""
		switch driver := n.has["driver"]; {
		case n.placed || n.protected() || slices.Contains(harmlessDrivers, driver):
		case driver == "file":
			problem = c.fileNode(n, args)
		case driver == "raw" || driver == "qcow2":
			problem = c.formatNode(n)
		default:
			problem = whyReverts + ", because its driver is " + driver + whatInstead
		}
		c.report(args[n.arg-1], n.value, problem)
	}
}

// formatNode looks at a node of format raw or qcow2, which has its file in it, or names the node of it.
func (c *argChecker) formatNode(n *blockNode) string {
	if problem := n.simple(); problem != "" {
		return problem
	}
	if n.has["file"] != "" {
		return "" // the node of that name is looked at itself; if there is none QEMU says so
	}
	if n.has["file.driver"] != "file" || n.has["file.filename"] == "" {
		return whyReverts + ", because its driver is " + n.has["file.driver"] + whatInstead
	}
	path, problem := nodeFile(n.has["file.filename"])
	if problem != "" {
		return problem
	}
	c.media = append(c.media, medium{arg: n.arg, path: path, format: n.has["driver"], rewrite: func(args []string, overlay string) {
		args[n.arg] = n.with(map[string]string{"driver": "qcow2", "file.filename": overlay})
	}})
	return ""
}

// simple says why a node of a format cannot have an overlay in its place.
func (n *blockNode) simple() string {
	for key, value := range n.has {
		outer, inner, _ := strings.Cut(key, ".")
		switch {
		case slices.Contains([]string{"offset", "size"}, key) && value != "0",
			outer == "backing" && value != "<nil>", outer == "data-file", outer == "encrypt",
			outer == "file" && strings.Contains(inner, "."):
			return whyReverts + ", because of " + key + whatInstead
		}
	}
	return ""
}

// fileNode looks at the node of a file, which is taken if exactly one node of a format uses it.
func (c *argChecker) fileNode(n *blockNode, args []string) string {
	name := n.has["node-name"]
	var above []*blockNode
	users := 0
	for _, other := range c.nodes {
		for key, value := range other.has {
			if other == n || value != name || key == "node-name" {
				continue
			}
			users++
			if key == "file" {
				above = append(above, other)
			}
		}
	}
	for i, arg := range args {
		if i != n.arg && usesNode(arg, name) {
			users++
		}
	}
	if name == "" || users == 0 {
		return whyReverts + ", and no node of a format uses it" + whatInstead
	}
	if users > 1 || len(above) != 1 {
		return fmt.Sprintf("%s, and not exactly one node, of format raw or qcow2, uses it, but %d others do", whyReverts, users) + whatInstead
	}
	format := above[0]
	switch driver := format.has["driver"]; {
	case format.protected():
		return ""
	case driver != "raw" && driver != "qcow2":
		return whyReverts + ", because the node that uses it has the driver " + driver + whatInstead
	}
	path, problem := nodeFile(n.has["filename"])
	if problem != "" {
		return problem
	}
	c.media = append(c.media, medium{arg: n.arg, path: path, format: format.has["driver"], rewrite: func(args []string, overlay string) {
		args[n.arg] = n.with(map[string]string{"filename": overlay})
		args[format.arg] = format.with(map[string]string{"driver": "qcow2"})
	}})
	return ""
}

// usesNode is whether an argument that is no -blockdev uses the node of that name, as -device drive=NAME and -machine pflash0=NAME do.
func usesNode(arg, node string) bool {
	if strings.HasPrefix(arg, "{") {
		has := map[string]any{}
		if json.Unmarshal([]byte(arg), &has) != nil {
			return false
		}
		return has["drive"] == node && has["node-name"] == nil
	}
	for _, s := range settings(arg) {
		if s.value == node && (s.key == "drive" || strings.HasPrefix(s.key, "pflash")) {
			return true
		}
	}
	return false
}

// nodeFile is the path of a node's file, in which a protocol is none: the name is one even if it looks like it.
func nodeFile(name string) (path, problem string) {
	path, is := localFile("file:" + name)
	if !is {
		return "", whyReverts + " (" + name + " is not a plain file)" + whatInstead
	}
	return path, ""
}
