//go:build linux

package conftemplates

import (
	"fmt"
	"testing"

	"github.com/machineries/machineries/drivers/qemu"
	"github.com/machineries/machineries/machinery/config"
)

func BenchmarkRenderDocumentWithTwoThousandMachines(b *testing.B) {
	values := ExampleValues(qemu.Schema())
	machines, _ := values.Get("machines")
	example, _ := machines.(*Values).Get("example1")
	many := new(Values)
	for i := range 2000 {
		m := new(Values)
		for key, value := range example.(*Values).All() {
			m.Set(key, value)
		}
		for _, key := range []string{"qcow2_path", "snapshot_path"} {
			m.Set(key, fmt.Sprintf("/srv/%s/%d", key, i))
		}
		m.Set("ip", fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		many.Set(fmt.Sprintf("win10_%d", i), m)
	}
	source, err := RenderYAML(qemu.Template, values.Set("machines", many))
	if err != nil {
		b.Fatal(err)
	}
	doc, err := config.Options{Static: true, Strict: true}.Parse("many.yaml", source, qemu.Schema())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := RenderDocument(qemu.Template, doc); err != nil {
			b.Fatal(err)
		}
	}
}
