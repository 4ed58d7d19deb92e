//go:build linux

package conftemplates

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery/config"
)

// generator makes random files for a schema, and knows what they read as.
type generator struct {
	*rand.Rand
	made   int
	unique []string
}

// section is a mapping of a file, and the values that it reads as.
func (g *generator) section(fields []config.Field) (*yaml.Node, *Values) {
	node, values := &yaml.Node{Kind: yaml.MappingNode}, new(Values)
	order := g.Perm(len(fields))
	below := make([]any, len(fields))
	for _, i := range order {
		f := fields[i]
		if f.Optional && g.IntN(3) == 0 {
			below[i] = absentValue(f)
			continue
		}
		var n *yaml.Node
		n, below[i] = g.value(f)
		node.Content = append(node.Content, g.scalar(f.Key), n)
	}
	for i, f := range fields {
		values.Set(f.Key, below[i])
	}
	return node, values
}

// absentValue is what an optional key of the drivers' schemas reads as that is not there.
func absentValue(f config.Field) any {
	switch d := f.Default.(type) {
	case time.Duration:
		return strings.Replace(d.String(), "m0s", "m", 1)
	case []string:
		return []any{}
	default:
		return d
	}
}

func (g *generator) value(f config.Field) (*yaml.Node, any) {
	switch t := f.Type.(type) {
	case config.Section:
		return g.section(t.Fields)
	case config.Machines:
		node, machines := &yaml.Node{Kind: yaml.MappingNode}, new(Values)
		g.unique = t.Unique
		for range 1 + g.IntN(3) {
			name := g.text()
			if _, have := machines.Get(name); have || strings.TrimSpace(name) == "" || strings.ContainsFunc(name, unprintable) {
				name = fmt.Sprintf("machine%d", g.made)
			}
			n, values := g.section(t.Fields)
			node.Content = append(node.Content, g.scalar(name), n)
			machines.Set(name, values)
		}
		g.unique = nil
		return node, machines
	case config.List:
		node, items := &yaml.Node{Kind: yaml.SequenceNode}, []any{}
		if f.AllowEmpty && g.IntN(4) == 0 {
			return g.null(), items
		}
		for range g.IntN(4) {
			if text := strings.TrimSpace(g.text()); text != "" {
				node.Content = append(node.Content, g.scalar(text))
				items = append(items, text)
			}
		}
		if len(items) == 0 && !f.AllowEmpty {
			return g.scalar("one"), []any{"one"}
		}
		return node, items
	}
	if f.AllowEmpty && g.IntN(4) == 0 {
		return g.null(), nil
	}
	switch t := f.Type.(type) {
	case config.Int:
		n := *t.Min + g.Int64N(*t.Max-*t.Min+1)
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(n)}, int(n)
	case config.Bool:
		b := g.IntN(2) == 0
		word := map[bool]string{true: pick(g.Rand, "true", "yes", "On"), false: pick(g.Rand, "false", "No", "off")}[b]
		return &yaml.Node{Kind: yaml.ScalarNode, Value: word}, b
	case config.Duration:
		written := pick(g.Rand, "90s", "1m30s", "250ms", "7", "1.5", "2h")
		return &yaml.Node{Kind: yaml.ScalarNode, Value: written},
			map[string]string{"90s": "1m30s", "7": "7s", "1.5": "1.5s"}[written] + map[string]string{"1m30s": "1m30s", "250ms": "250ms", "2h": "2h"}[written]
	}
	text := g.plain(f)
	value := text
	switch t := f.Type.(type) {
	case config.String:
		if value = strings.TrimSpace(text); t.ToLower {
			value = strings.ToLower(value)
		}
	case config.MACAddress:
		value = strings.ToLower(text)
	case config.IPAddress:
		value = netip.MustParseAddr(text).String()
	}
	return g.scalar(text), value
}

// plain is a text that a field may have.
func (g *generator) plain(f config.Field) string {
	g.made++
	number := ""
	if slices.Contains(g.unique, f.Key) {
		number = fmt.Sprint(g.made)
	}
	switch t := f.Type.(type) {
	case config.String:
		if len(t.OneOf) > 0 {
			return pick(g.Rand, t.OneOf...)
		}
	case config.MACAddress:
		return fmt.Sprintf("52:54:%02d:%02d:%02x:%02X", g.made/3600%60, g.made/60%60, g.made%60, g.IntN(256))
	case config.IPAddress:
		return fmt.Sprintf(pick(g.Rand, "10.%d.%d.%d", "2001:DB8:0::%d:%d:%d", "1::0:%d:%d:%d"), g.made/250/250%250, g.made/250%250, g.made%250)
	case config.NetworkInterface:
		return fmt.Sprintf("br%d", g.IntN(100))
	case config.HypervisorURI:
		return pick(g.Rand, "qemu:///system", "qemu+ssh://user@host/system?no_verify=1#x", "qemu+tcp://[::1]:16509/system")
	}
	text := number + g.text() + number
	if strings.TrimSpace(text) == "" {
		return "text"
	}
	return text
}

func (g *generator) text() string {
	if g.IntN(2) == 0 {
		return anyText(g.Rand, false)
	}
	return randomText(g.Rand)
}

// scalar is a text in any way in which YAML can write it.
func (g *generator) scalar(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch style := g.IntN(4); {
	case style == 0, strings.ContainsFunc(text, unprintable):
		n.Style = yaml.DoubleQuotedStyle
	case style == 1:
		n.Style = yaml.SingleQuotedStyle
	}
	return n
}

// escaped are characters that the loader refuses as they are, and that yaml.Marshal does not escape between double quotes.
var escaped = strings.NewReplacer("\u2028", `\u2028`, "\u0085", `\u0085`, "\ufeff", `\ufeff`, "\x7f", `\x7f`)

func (g *generator) null() *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: pick(g.Rand, "", "null", "~")}
}

func TestAnyConfigurationIsTheSameAfterLoadingAndRendering(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	static := config.Options{Static: true, Strict: true}
	for _, driver := range []struct {
		template string
		schema   *config.Schema
	}{{qemu.Template, qemu.Schema()}, {kvm.Template, kvm.Schema()}} {
		for i := range trials / 2 {
			g := &generator{Rand: r}
			node, want := g.section(driver.schema.Fields)
			source, err := yaml.Marshal(node)
			if err != nil {
				t.Fatal(err)
			}
			source = []byte(escaped.Replace(string(source)))
			doc, err := static.Parse("random.yaml", source, driver.schema)
			if err != nil {
				t.Fatalf("configuration %d:\n%s\n%v", i, source, err)
			}
			if path, was, is := difference("", want, FromDocument(doc)); path != "" {
				t.Fatalf("configuration %d reads otherwise than it was made: %s is %s, not %s\n%s", i, path, is, was, source)
			}
			rendered, err := RenderDocument(driver.template, doc)
			if err != nil {
				t.Fatalf("configuration %d:\n%s\n%v", i, source, err)
			}
			again, err := static.Parse("random.yaml", rendered, driver.schema)
			if err != nil {
				t.Fatalf("configuration %d, rendered:\n%s\n%v", i, rendered, err)
			}
			if path, was, is := difference("", want, FromDocument(again)); path != "" {
				t.Fatalf("configuration %d is changed: %s is %s, not %s\n%s\n%s", i, path, is, was, source, rendered)
			}
			if i%10 > 0 {
				continue
			}
			twice, err := RenderDocument(driver.template, again)
			if err != nil || !bytes.Equal(twice, rendered) {
				t.Fatalf("configuration %d is rendered otherwise the second time (%v):\n%s\n%s", i, err, rendered, twice)
			}
		}
	}
}
