//go:build linux

package conftemplates

import (
	"testing"

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
