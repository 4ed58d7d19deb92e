package conftemplates_test

import (
	"fmt"

	"github.com/machineries/machineries/conftemplates"
	"github.com/machineries/machineries/machinery/config"
)

// A driver's test calls Check, which tells all that is wrong with its template.
func ExampleCheck() {
	schema := &config.Schema{Name: "toy", Fields: []config.Field{
		{Key: "load_time", Type: config.Duration{}, Optional: true},
		{Key: "tags", Type: config.List{}, AllowEmpty: true},
	}}
	template := `# How long a restore takes.
load_time: {{ loadtime }}
tags:
  {% for tag in tags %}
  - {{ tag }}
  {% endfor %}
`
	fmt.Println(conftemplates.Check(template, schema))
	// Output:
	// toy.yaml.jinja2:2:15: there is no value for loadtime (check its spelling, or write | default(...) for a value that need not be there)
}

// Values get quotes where YAML would make something else of them.
func ExampleRenderYAML() {
	values := new(conftemplates.Values).Set("version", "1.10").Set("mac", "52:54:00:12:34:56").Set("interface", nil)
	file, err := conftemplates.RenderYAML(`os_version: "{{ version }}"
mac_address: {{ mac }}
interface: {{ interface }} # not {{ version }}
`, values)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(file))
	// Output:
	// os_version: "1.10"
	// mac_address: "52:54:00:12:34:56"
	// interface:  # not 1.10
}
