package edit_test

import (
	"errors"
	"fmt"

	"github.com/machineries/machineries/machinery/config"
	"github.com/machineries/machineries/machinery/config/edit"
)

func ExampleFile_AddMachine() {
	schema := &config.Schema{Name: "qemu", Fields: []config.Field{
		{Key: "machines", Type: config.Machines{Fields: []config.Field{
			{Key: "ip", Type: config.IPAddress{}},
			{Key: "os_version", Type: config.String{}},
			{Key: "tags", Type: config.List{}, AllowEmpty: true},
		}}},
	}}
	f, err := edit.Parse("qemu.yaml", []byte(`machines:
    # The one with the old printer.
    win10_1:   {ip: 192.168.30.101, os_version: 10, tags: []}
    win7_1:
        ip: 192.168.30.102
        os_version: '7'
        tags:
        - office
`), schema)
	if err != nil {
		fmt.Println(err)
		return
	}
	machine := []edit.Setting{{Key: "ip", Value: "192.168.30.103"}, {Key: "os_version", Value: "1.10"}, {Key: "tags", Value: []string{"no", "office"}}}
	if err := f.AddMachine("ubuntu", machine); err != nil {
		fmt.Println(err)
	}
	if err := f.RemoveMachine("win7_1"); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s", f.Bytes())

	err = f.AddMachine("ubuntu", machine)
	fmt.Println(errors.Is(err, edit.ErrExists), err)
	// Output:
	// machines:
	//     # The one with the old printer.
	//     win10_1:   {ip: 192.168.30.101, os_version: 10, tags: []}
	//     ubuntu:
	//         ip: 192.168.30.103
	//         os_version: '1.10'
	//         tags:
	//         - 'no'
	//         - office
	// true qemu.yaml:4:5: the machine "ubuntu" is here already
	//       hint: give the new machine another name, or remove this one first
}
