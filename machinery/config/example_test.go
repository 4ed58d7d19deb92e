package config_test

import (
	"errors"
	"fmt"

	"github.com/machineries/machineries/machinery/config"
)

// A schema reads as a table.
var schema = &config.Schema{
	Name: "box",
	Doc:  "Machines of the box machinery.",
	Fields: []config.Field{
		{Key: "interface", Doc: "The interface that traffic passes.", Type: config.NetworkInterface{}, Example: "br0"},
		{Key: "timeout", Doc: "How long a start may take.", Type: config.Duration{}, Optional: true},
		{Key: "machines", Doc: "The machines.", Type: config.Machines{
			Unique: []string{"ip"},
			Fields: []config.Field{
				{Key: "ip", Doc: "The machine's address.", Type: config.IPAddress{}, Example: "192.168.30.101"},
				{Key: "agent_port", Doc: "The agent's port.", Type: config.Between(1, 65535), Optional: true, Default: 8000},
				{Key: "tags", Doc: "What the machine is chosen by.", Type: config.List{}, Optional: true, AllowEmpty: true},
			},
		}},
	},
}

func ExampleParse() {
	doc, err := config.Parse("box.yaml", []byte(`
interface: br0
machines:
  win10_1:
    ip: 192.168.30.101
    tags: [office, 1.10]
  win10_2:
    ip: 192.168.30.102
    agent_port: 9000
`), schema)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range doc.Machines() {
		fmt.Println(m.Name, m.String("ip"), m.Int("agent_port"), m.Strings("tags"))
	}
	// Output:
	// win10_1 192.168.30.101 8000 [office 1.10]
	// win10_2 192.168.30.102 9000 []
}

func ExampleProblems() {
	_, err := config.Parse("box.yaml", []byte(`interfase: br0
machines:
  win10_1:
    ip: 192.168.30.101/24
    agent_port: 0
`), schema)
	fmt.Println(err)

	var problems config.Problems
	if errors.As(err, &problems) {
		fmt.Println(len(problems.Errors()), "errors,", len(problems.Warnings()), "warning")
	}
	// Output:
	// box.yaml:1:1: interface: this key is missing
	//     1 | interfase: br0
	//       | ^
	//       hint: is "interfase" on line 1 meant to be it?
	// box.yaml:4:9: machines.win10_1.ip: "192.168.30.101/24" is not an IP address
	//     4 |     ip: 192.168.30.101/24
	//       |         ^
	//       hint: write it without the network mask: 192.168.30.101
	// box.yaml:5:17: machines.win10_1.agent_port: "0" is out of range
	//     5 |     agent_port: 0
	//       |                 ^
	//       hint: write a whole number from 1 to 65535
	// box.yaml:1:1: warning: interfase: this key is unknown, and has no effect
	//     1 | interfase: br0
	//       | ^
	//       hint: did you mean "interface"?
	// 3 errors, 1 warning
}

// A driver that finds a problem of its own reports it like any other, with its place.
func ExampleValues_Problem() {
	doc, err := config.Parse("box.yaml", []byte("interface: br0\nmachines:\n  win10_1:\n    ip: 10.0.0.1\n"), schema)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(doc.Machines()[0].Problem("is not in the network of br0, 192.168.30.0/24", "ip"))
	// Output:
	// box.yaml:4:9: machines.win10_1.ip: is not in the network of br0, 192.168.30.0/24
}
