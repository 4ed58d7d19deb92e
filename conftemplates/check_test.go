//go:build linux

package conftemplates

import (
	"strings"
	"testing"
	"time"

	"github.com/machineries/machineries/drivers/kvm"
	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery/config"
)

func TestTheTemplatesOfBothDriversAreRight(t *testing.T) {
	for template, schema := range map[string]*config.Schema{qemu.Template: qemu.Schema(), kvm.Template: kvm.Schema()} {
		if err := Check(template, schema); err != nil {
			t.Errorf("%s:\n%v", schema.Name, err)
		}
	}
}

var (
	second = time.Second
	one    = int64(1)
)

// rich is a schema with every type, and each way in which a key may be absent.
var rich = &config.Schema{Name: "rich", Fields: []config.Field{
	{Key: "text", Type: config.String{}},
	{Key: "word", Type: config.String{OneOf: []string{"a", "b"}}, Optional: true, Default: "b"},
	{Key: "number", Type: config.Int{Min: &one}, Optional: true},
	{Key: "any_number", Type: config.Int{}, Optional: true},
	{Key: "flag", Type: config.Bool{}, Optional: true, Default: true},
	{Key: "wait", Type: config.Duration{Min: &second}, Optional: true, AllowEmpty: true, Default: time.Minute},
	{Key: "file", Type: config.FilePath{MustExist: true}},
	{Key: "directory", Type: config.DirectoryPath{}, AllowEmpty: true},
	{Key: "socket", Type: config.UnixSocketPath{}, Optional: true},
	{Key: "card", Type: config.NetworkInterface{MustBeUp: true}},
	{Key: "mac", Type: config.MACAddress{ToLower: true}},
	{Key: "ip", Type: config.IPAddress{Version: 6}},
	{Key: "dsn", Type: config.HypervisorURI{}},
	{Key: "url", Type: config.HTTPUrl{}, Sensitive: true},
	{Key: "ports", Type: config.List{Of: config.Between(1, 65535)}},
	{Key: "flags", Type: config.List{Of: config.Bool{}}, Optional: true, AllowEmpty: true},
	{Key: "words", Type: config.List{}, Optional: true},
	{Key: "labels", Type: config.Dict{Of: config.String{}}, AllowEmpty: true},
	{Key: "numbers", Type: config.Dict{Of: config.Int{}}, Optional: true, AllowEmpty: true},
	{Key: "nodes", AllowEmpty: true, Type: config.DictList{Unique: []string{"name"}, Fields: []config.Field{
		{Key: "name", Type: config.String{}},
		{Key: "weight", Type: config.Int{}, Optional: true, Default: 3},
	}}},
	{Key: "tools", Type: config.Section{Fields: []config.Field{{Key: "ls", Type: config.FilePath{}, Optional: true, Default: "/bin/ls"}}}, Optional: true},
	{Key: "login", Type: config.Section{Fields: []config.Field{{Key: "user", Type: config.String{}}}}, Optional: true},
	{Key: "machines", Type: config.Machines{Unique: []string{"id"}, Fields: []config.Field{
		{Key: "id", Type: config.String{ToLower: true}},
		{Key: "note", Type: config.String{}, Optional: true, AllowEmpty: true},
	}}},
}}

const richTemplate = `# c
text: {{ text }}
# c
word: {{ word }}
{% if number is not none %}
# c
number: {{ number }}
{% endif %}
# c
any_number: {{ any_number }}
# c
flag: {{ flag }}
# c
wait: {{ wait }}
# c
file: "{{ file }}"
# c
directory: {{ directory }}
{% if socket is not none %}
# c
socket: {{ socket }}
{% endif %}
# c
card: {{ card }}
# c
mac: {{ mac }}
# c
ip: {{ ip }}
# c
dsn: {{ dsn }}
# c
url: {{ url }}
# c
ports: [{{ ports | join(", ") }}]
# c
flags: {{ flags | tojson }}
{% if words %}
# c
words: {{ words | tojson }}
{% endif %}
# c
labels:
  {% for name, value in labels.items() %}
  {{ name }}: {{ value }}
  {% endfor %}
# c
numbers:
  {% for name, value in numbers.items() %}
  {{ name }}: {{ value }}
  {% endfor %}
# c
nodes:
  {% for node in nodes %}
  # c
  - name: {{ node.name }}
    # c
    weight: {{ node.weight }}
  {% endfor %}
# c
tools:
  # c
  ls: {{ tools.ls }}
{% if login %}
# c
login:
  # c
  user: {{ login.user }}
{% endif %}
# c
machines:
  {% for name, machine in machines.items() %}
  {{ name }}:
    {% if loop.first %}
    # c
    {% endif %}
    id: {{ machine.id }}
    # c
    note: {{ machine.note }}
  {% endfor %}
`

func TestATemplateOfEveryTypeIsRight(t *testing.T) {
	if err := Check(richTemplate, rich); err != nil {
		t.Error(err)
	}
}

func TestEachDefectOfATemplateIsTold(t *testing.T) {
	for _, tt := range []struct{ name, old, new, want string }{
		{"a mistyped name", "{{ file }}", "{{ flie }}", `rich.yaml.jinja2:16:11: there is no value for flie`},
		{"a tag that is not supported", "# c\nmac:", "{% set a = 1 %}# c\nmac:", "rich.yaml.jinja2:25:4: the tag set is not supported"},
		{"a tag that is never ended", "{% endfor %}\n# c\nnumbers", "\n# c\nnumbers", "is never ended"},
		{"a key that is missing", "# c\nmac: {{ mac }}\n", "", "the key mac is not in it"},
		{"a key of machines that is missing", "    note: {{ machine.note }}\n", "", "the key machines.<name>.note is not in it"},
		{"a key of a list that is missing", "    weight: {{ node.weight }}\n", "", "the key nodes[].weight is not in it"},
		{"a key at a wrong place", "  ls:", "ls:", "the key tools.ls is not in it"},
		{"a key that is hidden while it is empty", "# c\ndirectory: {{ directory }}\n", "{% if directory %}\n# c\ndirectory: {{ directory }}\n{% endif %}\n", "the key directory is not in it"},
		{"a key without a comment", "# c\ncard:", "card:", "the key card has no comment on the line above it"},
		{"a comment with a line between", "# c\ncard:", "# c\n\ncard:", "the key card has no comment on the line above it"},
		{"a key of a section without a comment", "  # c\n  user:", "  user:", "the key login.user has no comment on the line above it"},
		{"a key that the schema does not have", "# c\ncard:", "# c\ncrad: {{ card }}\n# c\ncard:", "crad"},
		{"a key with another's value", "{{ file }}", "{{ card }}", `file is "`},
		{"a fixed value", "{{ mac }}", "52:54:00:12:34:56", `mac is "52:54:00:12:34:56" where it should be`},
		{"a fixed value that is the default", "flag: {{ flag }}", "flag: true", "flag is true where it should be false"},
		{"a default that takes the place of nothing", "{{ directory }}", "{{ directory or '/tmp' }}", `directory is "/tmp" where it should be nothing`},
		{"a value that others can change", "text: {{ text }}", "text: x{{ text | trim }}", "put double quotes around the whole"},
		{"single quotes around any text", "text: {{ text }}", "text: '{{ text }}'", "use double quotes in the template"},
		{"a key of the first machine alone", "    # c\n    note: {{ machine.note }}\n", "{% if loop.first %}\n    # c\n    note: {{ machine.note }}\n{% endif %}\n", "note is nothing where it should be"},
		{"one machine for all", "id: {{ machine.id }}", "id: x", "does not load"},
		{"one element for all", `[{{ ports | join(", ") }}]`, "[{{ ports[0] }}]", "ports"},
		{"none where a key may not be empty", "{% if number is not none %}", "{% if true %}", "number"},
		{"no YAML", "card:", "card: [", "does not load"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			template := strings.Replace(richTemplate, tt.old, tt.new, 1)
			if template == richTemplate {
				t.Fatalf("%q is not in the template", tt.old)
			}
			err := Check(template, rich)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}
